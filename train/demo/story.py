"""What a demo did, as values: the steps collect them, the report shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from train.demo.samples import SampleCheck

__all__ = ["Crash", "Interval", "Picture", "Step", "Story", "TimeUse", "Validation"]


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was done. `command` is what a person would type, empty where the demo acted by itself; `kind` a class of the page."""

    name: str
    why: str
    command: str
    seconds: float
    outcome: str
    result: Mapping[str, Any]
    kind: str

    def to_json(self) -> dict[str, Any]:
        """The step in the document of `dataplane demo --json`."""
        return {
            "name": self.name,
            "command": self.command,
            "seconds": round(self.seconds, 3),
            "outcome": self.outcome,
            "result": dict(self.result),
        }


@dataclass(frozen=True, slots=True)
class Interval:
    """What training recorded at `step` about the steps since its last record. `hit_rate` is that of the hot tier; None where it was
    asked for nothing."""

    step: int
    loss: float
    samples_per_second: float
    hit_rate: float | None


@dataclass(frozen=True, slots=True)
class Validation:
    """Loss and accuracy on the validation split after `step`."""

    step: int
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class TimeUse:
    """Where a training process spent its time. `wait` and `consumer` are the training loop's; `read` and `decode` are summed over
    the loader's threads, which work beside it."""

    name: str
    wait_seconds: float
    consumer_seconds: float
    read_seconds: float
    decode_seconds: float


@dataclass(frozen=True, slots=True)
class Crash:
    """Where training was killed, and the checkpoint that it went on from. `epoch` counts from 0; `position` counts its samples before
    the checkpoint; `undone` those delivered after it, whose training was lost with the process."""

    epoch: int
    killed_step: int
    resumed_step: int
    position: int
    undone: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of a batch as the model sees it: `side` × `side` pixels, as PNG, and the name of its class."""

    label: str
    key: str
    side: int
    png: bytes


@dataclass(frozen=True, slots=True)
class Story:
    """Everything the report shows. `next_commands` are sentences and the commands they lead to."""

    title: str
    accuracy: float
    samples: int
    classes: int
    tested: int
    seconds: float
    steps: tuple[Step, ...]
    pictures: tuple[Picture, ...]
    intervals: tuple[Interval, ...]
    validations: tuple[Validation, ...]
    crash: Crash
    check: SampleCheck
    times: tuple[TimeUse, ...]
    facts: tuple[tuple[str, str], ...]
    next_commands: tuple[tuple[str, str], ...]
