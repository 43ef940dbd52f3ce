"""What is measured. A task names its contenders and makes the job that all of them get.

`order.py` has no contenders, and a command of its own.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.environments import Environment

TASKS = ("jpeg",)


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
class Request:
    """What the user asked of a run. `data` is a folder, or None to have inputs made."""

    data: Path | None
    cache: Path
    samples: int
    threads: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """The job, as JSON, that every contender gets, and a description of its inputs for the document."""

    job: Mapping[str, Any]
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    name: str
    summary: str
    contenders: tuple[Contender, ...]
    prepare: Callable[[Request], Prepared]


def load_task(name: str) -> Task:
    """The task of that name. Raises KeyError for an unknown one."""
    if name not in TASKS:
        raise KeyError(name)
    task: Task = importlib.import_module(f"benchmarks.tasks.{name}").TASK
    return task
