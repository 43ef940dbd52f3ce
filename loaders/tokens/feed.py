"""The sequences of `Packed` as a feed: located by one of the two ways, made ready, and copied into their places, all of a job at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dataplane.dataset import Split
from dataplane.errors import BadSample, DataplaneError
from dataplane.shards import starts
from loaders.feed import Draw, FieldShape
from loaders.kernels.tokens import RUN, copy_runs
from loaders.tokens.layouts import BestFit, Concat, Out, Way
from loaders.tokens.opened import Table
from loaders.tokens.packed import Packed
from loaders.tokens.reading import make_ready

__all__ = ["PackedFeed", "PackedHand"]

_ANY: Final = Draw(0, 0, 0, 0)  # nothing about a sequence is random
_RUNS: Final = 256  # room for so many at first
_GRAIN_BYTES: Final = 1 << 20  # of tokens in a job: they are copied in a tenth of a millisecond, as long as Python takes for a job


class PackedFeed:
    """Sequences packed from the documents of a split. Immutable and thread-safe. See `loaders.feed.Feed`."""

    def __init__(self, packed: Packed, split: Split) -> None:
        self.packed = packed
        self.split = split
        self.name = f"{split} packed"
        self.way: Way = Concat(packed, split) if packed.how == "concat" else BestFit(packed, split)
        self.counts = self.way.counts
        line, number = (packed.length,), np.dtype(np.int32)
        fields = {"tokens": FieldShape(line, np.dtype(packed.dtype))}
        wanted = {"positions": packed.positions, "segments": packed.segments}
        self.fields: Mapping[str, FieldShape] = fields | {name: FieldShape(line, number) for name, want in wanted.items() if want}
        self.grain = max(1, _GRAIN_BYTES // (packed.length * fields["tokens"].dtype.itemsize))
        self._starts = starts(self.counts)

    @property
    def identity(self) -> Mapping[str, str | int]:
        """What decides which tokens each sequence has."""
        packed = self.packed
        separator = {} if packed.separator is None else {"separator": packed.separator}
        return {"packed": packed.field, "length": packed.length, "how": packed.how, **separator}

    def locate(self, groups: npt.NDArray[np.int64], items: npt.NDArray[np.int64], *, seed: int | None, epoch: int) -> Sequence[Any]:
        return self.way.locate(groups, items, seed=seed, epoch=epoch)

    def at(self, index: int, *, seed: int | None, epoch: int) -> Any:
        group = int(np.searchsorted(self._starts, index, "right")) - 1
        (spot,) = self.locate(np.array([group]), np.array([index - self._starts[group]]), seed=seed, epoch=epoch)
        return spot

    def hand(self) -> PackedHand:
        return PackedHand(self)


class PackedHand:
    """Fills sequences. Not thread-safe: it has room for runs of its own. See `loaders.feed.Hand`."""

    def __init__(self, feed: PackedFeed) -> None:
        self._feed = feed
        self._length = feed.packed.length
        self._nothing = np.empty((0, self._length), np.int32)
        self._runs = np.empty(_RUNS, RUN)

    def read(self, spots: Sequence[Any]) -> Iterator[Any]:
        """The spots themselves: what there is to read goes straight to its place."""
        return iter(spots)

    def place(self, read: Any, draw: Draw, arrays: Mapping[str, npt.NDArray[Any]], i: int) -> int:
        """Fill place `i` with one sequence."""
        ((_, chosen),) = self._feed.way.chosen([read], np.zeros(1, np.int64))
        size, errors = self._fill(chosen, np.array([i]), arrays)
        for error in errors.values():
            raise error
        return size

    def fill(
        self, spots: Sequence[Any], draws: Sequence[Draw], places: Sequence[int], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[int, list[str], Mapping[int, DataplaneError]]:
        """See `loaders.feed.FillsMany`."""
        total, keys = 0, []
        errors: dict[int, DataplaneError] = {}
        numbers = np.arange(places.start, places.stop, places.step) if isinstance(places, range) else np.asarray(places, np.int64)
        for at, chosen in self._feed.way.chosen(spots, numbers):
            try:
                size, failed = self._fill(chosen, at, arrays)
            except DataplaneError:  # a shard that cannot be opened is the matter of the sequences that need it
                size, failed = self._one_by_one(spots, at, arrays)
            total += size
            keys += self._feed.way.keys(chosen)
            errors |= failed
        return total, keys, errors

    def _one_by_one(
        self, spots: Sequence[Any], places: npt.NDArray[np.int64], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[int, dict[int, DataplaneError]]:
        total = 0
        errors: dict[int, DataplaneError] = {}
        for i in places.tolist():
            try:
                total += self.place(spots[i], _ANY, arrays, i)
            except DataplaneError as error:
                errors[i] = error
        return total, errors

    def _fill(
        self, chosen: Any, places: npt.NDArray[np.int64], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[int, dict[int, DataplaneError]]:
        """How many bytes were used, and by place the errors of sequences that could not be filled. Raises what opening a shard raises."""
        way = self._feed.way
        table = way.opened.table(way.shards(chosen))
        out = arrays["tokens"], arrays.get("positions", self._nothing), arrays.get("segments", self._nothing)
        runs = self._planned(chosen, places, table, out)
        errors: dict[int, DataplaneError] = {}
        held: list[Any] = []
        if not runs["ready"].all():
            failed, held = make_ready(table, runs, store=self._feed.split.dataset.store, groups=way.opened.groups)
            for n, error in failed.items():
                runs["count"][n] = 0
                errors.setdefault(int(runs["to"][n]) // self._length, error)
        for place, error in self._copied(table, runs, out[0].reshape(-1)).items():
            errors.setdefault(place, error)
        del held
        return out[0].itemsize * self._length * (len(places) - len(errors)), errors

    def _planned(self, chosen: Any, places: npt.NDArray[np.int64], table: Table, out: Out) -> npt.NDArray[np.void]:
        while True:
            count = self._feed.way.plan(chosen, places, table, out, self._runs)
            if count >= 0:
                return self._runs[:count]
            self._runs = np.empty(2 * len(self._runs), RUN)

    def _copied(self, table: Table, runs: npt.NDArray[np.void], tokens: npt.NDArray[Any]) -> dict[int, DataplaneError]:
        """Copy all runs; why some could not be."""
        errors: dict[int, DataplaneError] = {}
        most = self._feed.packed.most
        done, which = copy_runs(runs, 0, most, tokens)
        while done < len(runs):
            run = runs[done]
            shard = table.shards[int(run["shard"])]
            key = shard.key(int(shard.first[run["group"]] + run["start"]) + which)
            error = BadSample(f"document {key!r} of {shard.column.layout.where}: a token is negative, null, or larger than {most}")
            errors.setdefault(int(run["to"]) // self._length, error)
            done, which = copy_runs(runs, done + 1, most, tokens)
        return errors
