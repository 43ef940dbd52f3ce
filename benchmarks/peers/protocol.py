"""How the harness and a contender's process talk: JSON lines, one answer to each line.

The harness writes the job, and is answered `{"setup": TEXT, "versions": {...}}` when everything is open and warm enough to start. Then

* `{"do": "verify"}` → `{"checks": {...}}`: one pass that is not timed, whose output is held against the task's reference;
* `{"do": "go", "seconds": S}` → `{"images": N, "seconds": T, "checks": {...}}`: one round of about S seconds.

Any answer may be `{"error": TEXT}` instead, after which the process ends. It also ends, tidily, when its standard input does.
Whatever a library prints goes to standard error: standard output carries answers only.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from benchmarks.machine import version_of


class VerificationFailed(AssertionError):
    """A contender's output is not what the task asks for."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one round delivered. `seconds` covers the delivery of exactly `images`; `checks` were made after the clock stopped."""

    images: int
    seconds: float
    checks: Mapping[str, Any] = field(default_factory=dict)


class RunningContender(Protocol):
    """A system, opened for one job."""

    @property
    def setup(self) -> str:
        """One line for the reader of the results: how the system is configured."""

    @property
    def packages(self) -> tuple[str, ...]:
        """The distributions whose versions matter to the figure."""

    def verify(self) -> Mapping[str, Any]:
        """Check the output against the task's reference; what was checked and found, or VerificationFailed."""

    def measure(self, seconds: float) -> Measurement:
        """One round of about `seconds`; whole epochs only. VerificationFailed if what was delivered is not the epoch."""

    def close(self) -> None:
        """End worker processes and threads."""


def serve(open_contender: Callable[[Mapping[str, Any]], RunningContender]) -> None:
    """Answer the harness until it closes our standard input."""
    answers = take_stdout()
    try:
        contender = open_contender(json.loads(sys.stdin.readline()))
        try:
            _answer(answers, {"setup": contender.setup, "versions": {name: version_of(name) for name in contender.packages}})
            for line in sys.stdin:
                _answer(answers, _obey(contender, json.loads(line)))
        finally:
            contender.close()
    except Exception as error:
        traceback.print_exc()
        _answer(answers, {"error": f"{type(error).__name__}: {error}"})
        sys.exit(1)


def _obey(contender: RunningContender, order: Mapping[str, Any]) -> dict[str, Any]:
    if order["do"] == "verify":
        return {"checks": contender.verify()}
    done = contender.measure(order["seconds"])
    return {"images": done.images, "seconds": done.seconds, "checks": done.checks}


def _answer(answers: TextIO, answer: Mapping[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def take_stdout() -> TextIO:
    """Keep standard output for answers, and send what anything else writes there, C libraries included, to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers
