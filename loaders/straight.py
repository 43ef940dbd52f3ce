"""Files read straight to where they stay in a batch: by compiled code and without the interpreter, where the store is a folder.

What is not as the index says, or lies elsewhere, goes the way of every other sample (`loaders.source`), which knows about copies, colder
tiers and stores that have to be waited for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from dataplane.crc import HARDWARE
from dataplane.dataset import Shard
from dataplane.errors import DataplaneError, StoreUnavailable
from dataplane.formats.compressed import SECTION as COMPRESSED
from dataplane.formats.index import ShardIndex
from dataplane.refs import Digest
from dataplane.store.local import LocalStore
from loaders.decode import decode_int64
from loaders.feed import Draw, Hand
from loaders.fields import Filler, Integers, RawBytes
from loaders.kernels.reading import read_checked
from loaders.leaving import heed
from loaders.source import SampleSource, Spot, index_of

__all__ = ["GRAIN", "Located", "Run", "StraightHand", "field_sizes", "goes_straight"]

GRAIN: Final = 64
"""Samples that a job has at least: what is done once for each file that they lie in takes as long as some of them."""
_NUMBER_BYTES: Final = 64  # a number in text that is longer goes the other way, which says what is wrong with it

_FILES: Final = 32  # open at once


def goes_straight(source: SampleSource, fillers: Mapping[str, Filler]) -> bool:
    """Nothing but bytes as they are, and numbers beside them; of a folder, on a processor that can check them."""
    kinds = {type(filler) for filler in fillers.values()}
    return HARDWARE and isinstance(source.split.dataset.store, LocalStore) and RawBytes in kinds and kinds <= {RawBytes, Integers}


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Samples of one shard: which they are of those that were asked about, their rows, and where a field of theirs lies."""

    shard: Shard
    index: ShardIndex
    which: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    located: Located

    def among(self, places: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> Run | None:
        """Those of them that are wanted (sorted), as numbers of these: `places` are where all that were asked about go."""
        at = places[self.which]
        number = np.searchsorted(wanted, at)
        here = wanted[np.minimum(number, len(wanted) - 1)] == at
        if here.all():
            return Run(self.shard, self.index, number, self.rows, self.located)
        return Run(self.shard, self.index, number[here], self.rows[here], self.located.of(here)) if here.any() else None


def field_sizes(source: SampleSource, field: str, spots: Sequence[Spot]) -> tuple[npt.NDArray[np.int64], list[Run]]:
    """The bytes of a field of each sample, and where it lies; 0 where there is none, or the index cannot be had, or claims what its shard
    has no room for: reading tells why."""
    sizes, runs = np.zeros(len(spots), np.int64), []
    by_shard: dict[Shard, list[int]] = {}
    for n, spot in enumerate(spots):
        by_shard.setdefault(spot.shard, []).append(n)
    for shard, of_shard in by_shard.items():
        which, rows = np.array(of_shard, np.int64), np.array([spots[n].row for n in of_shard], np.int64)
        try:
            index = index_of(shard)
        except StoreUnavailable:  # it was waited for: not again for the others
            break
        except DataplaneError:
            continue
        located = _located(index, source.fields[field], rows)
        there = (located.sizes >= 0) & (located.offsets >= 0) & (located.sizes <= shard.row.ref.size - located.offsets)
        sizes[which] = np.where(there, located.sizes, 0)
        runs.append(Run(shard, index, which, rows, located))
    return sizes, runs


class StraightHand:
    """A `Hand` that fills all of a job's places at once where it can; `other` does what it cannot. Not thread-safe. `me` is the `id`
    of its feed."""

    def __init__(self, source: SampleSource, fillers: Mapping[str, Filler], other: Hand, *, me: int) -> None:
        self._source = source
        self._store = cast("LocalStore", source.split.dataset.store)
        self._raw = [name for name, filler in fillers.items() if isinstance(filler, RawBytes)]
        self._numbers = [name for name, filler in fillers.items() if isinstance(filler, Integers)]
        self._other = other
        self._me = me

    def read(self, spots: Sequence[Spot]) -> Iterator[Any]:
        """See `other`."""
        return self._other.read(spots)

    def place(self, read: Any, draw: Draw, arrays: Mapping[str, Any], i: int) -> int:
        """See `other`."""
        return self._other.place(read, draw, arrays, i)

    def fill(
        self, spots: Sequence[Spot], draws: Sequence[Draw], places: Sequence[int], arrays: Mapping[str, Any]
    ) -> tuple[int, Sequence[str], Mapping[int, DataplaneError]]:
        """See `loaders.feed.FillsMany`."""
        at = np.asarray(places, np.int64)
        job = _Job([spots[i] for i in places], at, len(self._raw) + len(self._numbers))
        noted = arrays[self._raw[0]].notes[self._me]
        runs = noted.told  # as a rule, a job has all of a batch
        if len(at) < len(noted.places):
            runs = [run for each in noted.told if (run := each.among(noted.places, at)) is not None]
        for start in range(0, len(runs), _FILES):
            heed()
            self._straight(job, runs[start : start + _FILES], arrays)
        errors: dict[int, DataplaneError] = {}
        left = np.flatnonzero(~job.done).tolist()
        for n, found in zip(left, self._other.read([job.spots[n] for n in left]), strict=False):  # what is unavailable ends it
            heed()
            try:
                if isinstance(found, DataplaneError):
                    raise found
                job.bytes += self._other.place(found, draws[places[n]], arrays, places[n])
                job.keys[n] = job.spots[n].key
            except DataplaneError as error:
                errors[places[n]] = error
        return job.bytes, job.keys, errors

    def _straight(self, job: _Job, runs: Sequence[Run], arrays: Mapping[str, Any]) -> None:
        """Fill what can be of samples of a few shards."""
        files: list[int] = []
        try:
            for run in runs:
                with suppress(DataplaneError):
                    self._open(job, run, files)
            self._read(job, arrays)
        finally:
            for fd in files:
                os.close(fd)
            job.files[:] = -1

    def _open(self, job: _Job, run: Run, files: list[int]) -> None:
        """Note where the fields of a job's samples of this shard are, and open it. Raises a `DataplaneError`."""
        index, ref, which = run.index, run.shard.row.ref, run.which
        if run.shard.row.format != "tar" or COMPRESSED in index.sections or not isinstance(ref, Digest):
            return
        job.located[0].note(which, run.located)
        for located, name in zip(job.located[1:], (*self._raw[1:], *self._numbers), strict=True):
            located.note(which, _located(index, self._source.fields[name], run.rows))
        for n, key in zip(which.tolist(), index.keys_at(run.rows.tolist()), strict=True):
            job.keys[n] = key
        files.append(self._store.descriptor(ref))
        job.files[which] = files[-1]

    def _read(self, job: _Job, arrays: Mapping[str, Any]) -> None:
        """Read from the files that are open, and check."""
        good = job.files >= 0
        numbers = np.empty((len(self._numbers), len(good), _NUMBER_BYTES), np.uint8)
        ends = np.arange(len(good)) * _NUMBER_BYTES
        raw, texts = job.located[: len(self._raw)], job.located[len(self._raw) :]
        for located, name in zip(raw, self._raw, strict=True):
            good &= (located.sizes >= 0) & (located.sizes == arrays[name].reserved[job.places])
        for located in texts:
            good &= (located.sizes > 0) & (located.sizes <= _NUMBER_BYTES)
        targets = [arrays[name].addresses[job.places] for name in self._raw] + [each.ctypes.data + ends for each in numbers]
        for located, addresses in zip(job.located, targets, strict=True):
            read_checked(job.files, located.offsets, located.sizes, located.crcs, addresses, good)
        for located, name, text in zip(texts, self._numbers, numbers, strict=True):
            for n in np.flatnonzero(good).tolist():
                try:
                    arrays[name][job.places[n]] = decode_int64(text[n, : located.sizes[n]])
                except DataplaneError:
                    good[n] = False
        for name in self._raw:
            arrays[name].filled(job.places[good])
        job.bytes += int(sum(located.sizes[good].sum() for located in job.located))
        job.done |= good


class _Job:
    """Samples to fill: where they go, what is known of where their fields lie, and what came of it."""

    def __init__(self, spots: Sequence[Spot], places: npt.NDArray[np.int64], fields: int) -> None:
        count = len(spots)
        self.spots = spots
        self.places = places
        self.files = np.full(count, -1, np.int32)
        self.located = [Located.nothing(count) for _ in range(fields)]
        self.keys = [""] * count
        self.done = np.zeros(count, bool)
        self.bytes = 0


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """Where a field of some samples lies: int64 [rows] each. Size -1 where a sample lacks it, CRC -1 where nobody knows it."""

    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    crcs: npt.NDArray[np.int64]

    @classmethod
    def nothing(cls, count: int) -> Located:
        """Samples that lack it."""
        return cls(*(np.full(count, -1, np.int64) for _ in range(3)))

    def of(self, which: npt.NDArray[np.bool_]) -> Located:
        """Of some of them."""
        return Located(self.offsets[which], self.sizes[which], self.crcs[which])

    def note(self, which: npt.NDArray[np.int64], other: Located) -> None:
        """Take over what is known of these."""
        self.offsets[which], self.sizes[which], self.crcs[which] = other.offsets, other.sizes, other.crcs


def _located(index: ShardIndex, alternatives: Sequence[str], rows: npt.NDArray[np.int64]) -> Located:
    """Of each sample the first of the alternatives that it has."""
    found: Located | None = None
    for name in alternatives:
        field = index.fields.get(name)
        if field is None:
            continue
        other = Located(field.offset[rows], field.size[rows], field.crc32c[rows])
        if found is None:
            found = other
            continue
        lacks = found.sizes < 0
        found = Located(*(np.where(lacks, b, a) for a, b in zip(_columns(found), _columns(other), strict=True)))
    return found or Located.nothing(len(rows))


def _columns(located: Located) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return located.offsets, located.sizes, located.crcs
