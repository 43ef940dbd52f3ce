"""Which samples have to be made, and into which shards: pure, over the metadata of the two versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataplane.journal import Finished
from dataplane.materialize.options import MaterializeOptions
from dataplane.materialize.pixels import shape_of

__all__ = ["STAMPED", "Stamp", "Task", "kept", "stamps", "take_over", "tasks"]

STAMPED: Final = ("key", "label", "source", "source_etag", "source_blake3")
"""The metadata that tell whether a sample is the same."""

_UNKNOWN_SIDE: Final = 512  # of pictures whose size no metadata tell: for the size of shards only


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells a sample from another one under its key: its split, its label, and the source that it was made of."""

    split: str
    label: str | None
    source: str
    etag: str
    digest: bytes | None

    def same(self, made: Stamp) -> bool:
        """Whether `made` is of a sample made from this one. Where nobody has read the source yet (it was adopted), its etag tells."""
        if (self.split, self.label) != (made.split, made.label):
            return False
        return self.digest == made.digest if self.digest is not None else bool(self.etag) and self._where == made._where

    @property
    def _where(self) -> tuple[str, str]:
        return self.source, self.etag


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A shard to make: samples `rows` (ascending) of a split, and about how many bytes they will have."""

    number: int
    split: str
    rows: npt.NDArray[np.int64]
    bytes: int

    @property
    def samples(self) -> int:
        """How many there are."""
        return len(self.rows)


def stamps(table: Any, splits: Iterable[str] | str) -> Iterator[tuple[str, Stamp]]:
    """The key and the stamp of each row of a table with the columns `STAMPED`; `splits` are theirs, or that of all."""
    each = [splits] * len(table) if isinstance(splits, str) else splits
    columns = (table.column(name).to_pylist() for name in STAMPED)
    for split, key, label, source, etag, digest in zip(each, *columns, strict=True):
        yield key, Stamp(split, label, source, etag, digest)


def kept(wanted: Mapping[str, Stamp], present: Iterable[tuple[str, Stamp]]) -> set[str]:
    """The keys of samples that the dataset has already as they are wanted."""
    return {key for key, stamp in present if key in wanted and wanted[key].same(stamp)}


def take_over(wanted: Mapping[str, Stamp], finished: Iterable[Finished]) -> tuple[list[Finished], set[str]]:
    """Shards that a killed run had finished, with just the samples in them that are wanted as they are, and the keys of these."""
    taken: list[Finished] = []
    have: set[str] = set()
    for item in finished:
        unwanted = []
        for row, (key, stamp) in enumerate(stamps(item.metadata, item.shard.split)):
            if key in wanted and key not in have and wanted[key].same(stamp):
                have.add(key)
            else:
                unwanted.append(row)
        shard = item.shard.without(unwanted) if unwanted else item.shard
        if shard.live:
            taken.append(replace(item, shard=shard))
    return taken, have


def tasks(tables: Mapping[str, Any], left: set[str], options: MaterializeOptions) -> list[Task]:
    """The samples `left` to make, by key, cut into shards of one split each: as few as keep within about `shard_bytes`, and of about equal
    size. `tables` are the metadata of each split in its order."""
    cut: list[Task] = []
    for split, table in tables.items():
        keys = table.column("key").to_pylist()
        rows = np.array([row for row, key in enumerate(keys) if key in left], np.int64)
        if not len(rows):
            continue
        ends = np.cumsum(_sizes(table.take(pa.array(rows)), options))
        pieces = min(len(rows), max(1, -(-int(ends[-1]) // options.shard_bytes)))
        bounds = np.searchsorted(ends, np.arange(1, pieces) * (ends[-1] / pieces))
        begin = 0
        for part in np.split(rows, bounds):
            if len(part):
                size = int(ends[begin + len(part) - 1] - (ends[begin - 1] if begin else 0))
                cut.append(Task(len(cut), split, part, size))
            begin += len(part)
    return cut


def _sizes(table: Any, options: MaterializeOptions) -> npt.NDArray[np.int64]:
    """About how many bytes the pixels of each sample will have, and what else it holds is left out."""
    if options.size is not None:
        return np.full(len(table), 3 * options.size * options.size, np.int64)
    sides: Sequence[tuple[int | None, int | None]] = list(
        zip(table.column("height").to_pylist(), table.column("width").to_pylist(), strict=True)
    )
    canvases = (shape_of(height or _UNKNOWN_SIDE, width or _UNKNOWN_SIDE, options).canvas for height, width in sides)
    return np.array([3 * height * width for height, width in canvases], np.int64)
