"""Samples that are read although some of them may be damaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dataplane.dataset import Sample, Split
from dataplane.errors import CorruptObject, SourceChanged

__all__ = ["Unreadable", "read_or_list"]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A sample that cannot be used, and why."""

    key: str
    reason: str


def read_or_list(split: Split, indices: Sequence[int], fields: Sequence[str] | None = None) -> tuple[list[Sample], list[Unreadable]]:
    """The samples at `indices` in this order, and those that are damaged or no longer what was adopted. One such costs the others a request
    each."""
    try:
        return split.read_many(indices, fields), []
    except (CorruptObject, SourceChanged):
        samples, bad = [], []
        for index in indices:
            try:
                samples += split.read_many([index], fields)
            except (CorruptObject, SourceChanged) as error:
                bad.append(Unreadable(f"sample {index} of {split}", str(error)))
        return samples, bad
