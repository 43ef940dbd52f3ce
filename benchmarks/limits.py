"""Runs a probe: a fresh process in every round, so that its memory and its time are those of a program that does this and nothing else.

A probe is a module that reads the job, one JSON line, from standard input and answers on standard output with
`{"figures": {NAME: VALUE}, "notes": {…}}`, or `{"error": TEXT}`. Whatever it prints besides goes to standard error.
"""

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environments import EnvironmentFailed, python_of
from benchmarks.harness import ContenderFailed, ContenderProcess, Schedule
from benchmarks.tasks import Contender, LimitTask


@dataclass(slots=True)
class Measured:
    """The values of each figure, one a round, and what else a probe has told; `error` is None if all rounds went well.

    `beside` has the answers of peers' probes by their names, with an `error` instead of figures where one cannot."""

    figures: dict[str, list[float]] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    beside: dict[str, dict[str, Any]] = field(default_factory=dict)


def run(
    task: LimitTask, job: Mapping[str, Any], schedule: Schedule, *, logs: Path, environments: Path, tell: Callable[[str], None]
) -> Measured:
    """All rounds of a probe, the first one dropped: it warms the page cache and compiles what is compiled once. Then each peer's, once."""
    ours = Contender(task.name, task.module, task.summary, "", "ours")
    measured = Measured({limit.name: [] for limit in task.limits})
    try:
        for number in range(schedule.rounds + 1):
            answer = _probe(ours, job, schedule, logs / f"round-{number}.log", environments)
            measured.notes = answer.get("notes", {})
            figures = answer["figures"]
            tell(f"{'warm-up' if number == 0 else f'round {number} of {schedule.rounds}'}: " + ", ".join(_shown(task, figures)))
            if number > 0:
                for name, values in measured.figures.items():
                    values.append(figures[name])
    except ContenderFailed as error:
        measured.error = str(error)
        tell(f"{task.name}: FAILED: {error}")
    for peer in task.beside:
        try:
            measured.beside[peer.name] = _probe(peer, job, schedule, logs / f"{peer.name}.log", environments)
        except (ContenderFailed, EnvironmentFailed, OSError) as error:
            measured.beside[peer.name] = {"error": str(error)}
        tell(f"{peer.name}: {measured.beside[peer.name]}")
    return measured


def answer(probe: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """What the module of a probe does: one job, one answer."""
    from benchmarks.peers.protocol import take_stdout

    out = take_stdout()
    try:
        said = probe(json.loads(sys.stdin.readline()))
    except Exception as error:
        traceback.print_exc()
        said = {"error": f"{type(error).__name__}: {error}"}
    out.write(json.dumps(said) + "\n")
    out.flush()


def memory(name: str) -> float:
    """A line of /proc/self/status, such as `VmRSS` or `VmHWM`, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6


def _probe(prober: Contender, job: Mapping[str, Any], schedule: Schedule, log: Path, environments: Path) -> dict[str, Any]:
    python = python_of(prober.environment, under=environments)
    process = ContenderProcess(prober, python=python, log=log, timeout_seconds=schedule.timeout_seconds)
    try:
        return process.ask(job)
    finally:
        process.end(grace_seconds=5)


def _shown(task: LimitTask, figures: Mapping[str, float]) -> list[str]:
    return [f"{limit.name} {figures[limit.name]:,.3g} {limit.unit}" for limit in task.limits]
