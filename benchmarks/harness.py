"""Runs contenders against each other: each in a process of its own, rounds interleaved A B C A B C, the first round dropped.

A contender that fails, hangs or whose output is wrong is recorded with its error, ended at once, and does not stop the others. Nothing here
knows what is measured: jobs go to contenders as they are.
"""

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from benchmarks.environments import EnvironmentFailed, python_of
from benchmarks.tasks import Contender

PROJECT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 10.0
SHOWN_LINES = 3


class ContenderFailed(RuntimeError):
    """A contender could not do what it was told to."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`rounds` are measured, after one that is dropped, each of about `seconds`; no answer may take longer than `timeout_seconds`."""

    rounds: int
    seconds: float
    timeout_seconds: float


@dataclass(slots=True)
class Outcome:
    """What became of one contender. `rates` are units a second, one for each measured round; `error` is None if all went well."""

    contender: Contender
    rates: list[float] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    setup: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


class ContenderProcess:
    """One contender's process, in a session of its own. Whoever makes one calls `end`."""

    def __init__(self, contender: Contender, *, python: Path, log: Path, timeout_seconds: float) -> None:
        self._log = log
        self._timeout_seconds = timeout_seconds
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [python, "-m", contender.module],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin: IO[str] = self._process.stdin
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True)
        self._reader.start()

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send one line and return its answer. Raises ContenderFailed when there is none in time, or when it is an error."""
        with suppress(BrokenPipeError):  # what it said before it ended is still to be read
            self._stdin.write(json.dumps(message) + "\n")
            self._stdin.flush()
        try:
            line = self._lines.get(timeout=self._timeout_seconds)
        except queue.Empty:
            raise ContenderFailed(f"gave no answer within {self._timeout_seconds:g} s; its log is {self._log.name}") from None
        if not line:
            raise ContenderFailed(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderFailed(answer["error"])
        return answer

    def end(self, *, grace_seconds: float) -> None:
        """Ask the process to end, give it that long, and kill what is left of it and of all that it started."""
        with suppress(BrokenPipeError):
            self._stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_seconds)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()

    def _last_words(self) -> str:
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its standard output and did not end"
        shown = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-SHOWN_LINES:]
        return f"ended with code {code}: {' | '.join(shown) or 'it gave no reason'}"


def run(
    contenders: Sequence[Contender],
    job: Mapping[str, Any],
    schedule: Schedule,
    *,
    logs: Path,
    environments: Path,
    tell: Callable[[str], None],
) -> list[Outcome]:
    """Open, verify and measure all contenders; one outcome for each, in their order. `tell` hears what happens, a line at a time."""
    entrants = [_Entrant(contender, schedule, tell) for contender in contenders]
    with ExitStack() as stack:
        for entrant in entrants:
            stack.enter_context(entrant)
            entrant.open(job, environments=environments, logs=logs)
        for number in range(schedule.rounds + 1):
            for entrant in entrants:
                entrant.round(number)
    return [entrant.outcome for entrant in entrants]


class _Entrant:
    """One contender on its way through a run: whatever fails is recorded in its outcome and ends its process.

    A context manager, at whose end the process is gone.
    """

    def __init__(self, contender: Contender, schedule: Schedule, tell: Callable[[str], None]) -> None:
        self.outcome = Outcome(contender)
        self._schedule = schedule
        self._tell = tell
        self._process: ContenderProcess | None = None

    def open(self, job: Mapping[str, Any], *, environments: Path, logs: Path) -> None:
        name = self.outcome.contender.name
        with self._recorded():
            self._tell(f"{name}: opening")
            python = python_of(self.outcome.contender.environment, under=environments)
            self._process = process = ContenderProcess(
                self.outcome.contender, python=python, log=logs / f"{name}.log", timeout_seconds=self._schedule.timeout_seconds
            )
            ready = process.ask(job)
            self.outcome.setup, self.outcome.versions = ready["setup"], ready["versions"]
            self._tell(f"{name}: verifying its output")
            self.outcome.checks = process.ask({"do": "verify"})["checks"]

    def round(self, number: int) -> None:
        """One round; number 0 is the one that is dropped. Nothing, for a contender that has failed."""
        if self._process is None:
            return
        with self._recorded():
            answer = self._process.ask({"do": "go", "seconds": self._schedule.seconds})
            rate = answer["images"] / answer["seconds"]
            which = "warm-up" if number == 0 else f"round {number} of {self._schedule.rounds}"
            self._tell(f"{self.outcome.contender.name}: {which}, {rate:,.0f} {self.outcome.contender.unit}")
            if number > 0:
                self.outcome.rates.append(rate)
                self.outcome.samples.append(answer["images"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end(grace_seconds=STOP_SECONDS if kind is None else 0)

    def _end(self, *, grace_seconds: float) -> None:
        if self._process is not None:
            self._process.end(grace_seconds=grace_seconds)
            self._process = None

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        try:
            yield
        except (ContenderFailed, EnvironmentFailed, OSError) as error:
            self.outcome.error = str(error)
            self._tell(f"{self.outcome.contender.name}: FAILED: {error}")
            self._end(grace_seconds=0)


def _read_lines(stdout: IO[str], lines: "queue.SimpleQueue[str]") -> None:
    """Hand lines over as they come; an empty one says that there will be no more."""
    with stdout:
        for line in stdout:
            lines.put(line)
    lines.put("")
