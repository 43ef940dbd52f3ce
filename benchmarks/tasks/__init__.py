"""What is measured. A `Task` names its contenders and makes the job that all of them get; a `LimitTask` has one probe, whose figures are
held against limits.

`order.py` has neither, and a command of its own.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.environments import Environment

TASKS = (
    "jpeg",
    "jpeg-uint8",
    "jpeg-q90",
    "pixels",
    "tokens",
    "start",
    "accelerators",
    "write",
    "index",
    "random",
    "raw",
    "whole",
    "shards",
    "where",
    "resume",
)


@dataclass(frozen=True, slots=True)
class Contender:
    """One system under test: a module that runs as a process of its own and speaks the protocol of `benchmarks.peers.protocol`.

    `role`: "ours" and "peer" are ranked against each other; a "bound" does less than the task and shows where the rest of them end.
    `environment` is None when the project's own interpreter has all that it needs.
    """

    name: str
    module: str
    summary: str
    unit: str
    role: Literal["ours", "peer", "bound"]
    environment: Environment | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What this project promises: `at_least` times the rate of a contender in the same run, of the fastest one if several are named. `ours`
    is the contender that promises it, the first of ours where it is empty."""

    over: tuple[str, ...]
    at_least: float
    ours: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked of a run. `data` is a folder, or None to have inputs made."""

    data: Path | None
    cache: Path
    samples: int
    threads: int


class CannotPrepare(RuntimeError):
    """What a task needs is not there; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The job, as JSON, that every contender gets, and a description of its inputs for the document. `close` ends what it needs."""

    job: Mapping[str, Any]
    data: Mapping[str, Any]
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Task:
    """Contenders that do the same work, in turns. `samples` are those of an epoch where the user does not say, `quick` those with --quick.
    `threads`, where it is not None, is what the task is defined with, whatever the user says. `each` tells the seconds of one, too, where
    that is what a reader wants to know."""

    name: str
    summary: str
    contenders: tuple[Contender, ...]
    prepare: Callable[[Request], Prepared]
    samples: int = 4096
    quick: int = 256
    threads: int | None = None
    each: bool = False
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure of a probe, and the most that it may be; None where it is only told."""

    name: str
    unit: str
    at_most: float | None
    summary: str


@dataclass(frozen=True, slots=True)
class LimitTask:
    """A probe, run as a fresh process in every round: it gets the job on standard input and answers with a value for each limit.

    `beside` are peers' probes, run once each after that: what they answer is told beside the figures, and so is why one cannot.
    """

    name: str
    summary: str
    module: str
    limits: tuple[Limit, ...]
    prepare: Callable[[Request], Prepared]
    samples: int
    quick: int
    beside: tuple[Contender, ...] = ()


def load_task(name: str) -> Task | LimitTask:
    """The task of that name. Raises KeyError for an unknown one."""
    if name not in TASKS:
        raise KeyError(name)
    task: Task | LimitTask = importlib.import_module(f"benchmarks.tasks.{name.replace('-', '_')}").TASK
    return task
