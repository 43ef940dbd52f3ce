"""What the commits of a run say. Two types of entry: "checkpoint" and "evaluation".

A number that JSON cannot hold (NaN, an infinity: the loss of a run that diverged) is written as null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from dataplane.errors import CorruptObject
from dataplane.log import Entry
from dataplane.refs import Digest, ref_from_json, ref_to_json

__all__ = ["Checkpoint", "Evaluation", "Progress", "Trained", "without_nan"]


@dataclass(frozen=True, slots=True)
class Trained:
    """The version of a dataset that a run learns from. `id` is its commit's, which no other version has."""

    name: str
    version: int
    id: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come: all of a checkpoint that is not tensors. Every value is plain JSON.

    `step` counts optimizer steps since the run began; `epoch` and `position` say which sample comes next; `loader` is the loader's
    state. `trainer` is whatever else the trainer needs to go on. `rows` is what it logged since the checkpoint before. `bad` are the bad
    samples that all ranks have met since then, as far as they are listed, and `bad_count` how many there were since the run began.
    """

    step: int
    epoch: int
    position: int
    dataset: Trained
    loader: Mapping[str, Any]
    config: Mapping[str, Any]
    trainer: Mapping[str, Any]
    metrics: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()
    bad: Sequence[Mapping[str, Any]] = ()
    bad_count: int = 0

    def to_json(self) -> dict[str, Any]:
        """The form in a commit."""
        return asdict(self) | {"rows": list(self.rows), "bad": list(self.bad)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Progress:
        """The inverse of `to_json`; other keys are ignored, and older records have no bad samples."""
        values = {name: body[name] for name in cls.__slots__ if name in body}
        return cls(**values | {"dataset": Trained(**body["dataset"]), "bad": tuple(body.get("bad", ()))})


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A committed state of a run. `number` is its entry in the run's log; `parent` the checkpoint that it went on from.

    `ranks` holds, for each rank that wrote parts, their names and objects.
    """

    run: str
    number: int
    created: datetime
    parent: int | None
    progress: Progress
    ranks: tuple[Mapping[str, Digest], ...]

    def __str__(self) -> str:
        return f"checkpoint {self.number} of {self.run} (step {self.progress.step})"

    @classmethod
    def from_entry(cls, run: str, entry: Entry) -> Checkpoint:
        """The checkpoint in an entry of the run's log. Raises `CorruptObject`."""
        body = entry.body
        try:
            ranks = tuple({name: _digest(ref) for name, ref in parts.items()} for parts in body["ranks"])
            return cls(run, entry.number, entry.created, body["parent"], Progress.from_json(body), ranks)
        except (KeyError, TypeError, AttributeError) as error:
            raise CorruptObject(f"entry {entry.number} of run {run} is no checkpoint: {error!r}") from error


def checkpoint_body(progress: Progress, ranks: Sequence[Mapping[str, Digest]], parent: int | None) -> dict[str, Any]:
    """The commit of a checkpoint."""
    parts = [{name: ref_to_json(ref) for name, ref in rank.items()} for rank in ranks]
    body: dict[str, Any] = without_nan({"type": "checkpoint", "parent": parent, "ranks": parts, **progress.to_json()})
    return body


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a checkpoint scored on a split. `number` is its entry in the run's log."""

    number: int
    checkpoint: int
    dataset: Trained
    split: str
    samples: int
    metrics: Mapping[str, float | None]

    @classmethod
    def from_entry(cls, entry: Entry) -> Evaluation:
        """The evaluation in an entry of a run's log."""
        body = entry.body
        values = {name: body[name] for name in ("checkpoint", "split", "samples", "metrics")}
        return cls(number=entry.number, dataset=Trained(**body["dataset"]), **values)


def evaluation_body(checkpoint: int, dataset: Trained, split: str, samples: int, metrics: Mapping[str, float]) -> dict[str, Any]:
    """The commit of an evaluation."""
    return {
        "type": "evaluation",
        "checkpoint": checkpoint,
        "dataset": asdict(dataset),
        "split": split,
        "samples": samples,
        "metrics": without_nan(metrics),
    }


def without_nan(value: Any) -> Any:
    """`value` with None for every float that is not finite, and plain lists and dicts."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value


def _digest(value: dict[str, Any]) -> Digest:
    ref = ref_from_json(value)
    if not isinstance(ref, Digest):
        raise CorruptObject(f"not an object of the lake: {value!r}")
    return ref
