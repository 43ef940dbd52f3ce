"""The samples of a split as a feed: their files read, and each field's bytes put through what the loader's transform says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dataplane.dataset import Split
from dataplane.errors import DataplaneError
from dataplane.stages import Stage, entering
from loaders.feed import Draw, FieldShape, Hand
from loaders.fields import Filler, RawBytes, compile_transform
from loaders.leaving import heed
from loaders.source import FieldBytes, SampleSource, Spot
from loaders.straight import GRAIN, Run, StraightHand, field_sizes, goes_straight

__all__ = ["SampleFeed", "Samples", "known_fields"]


@dataclass(frozen=True, slots=True)
class Samples:
    """The description of a plain split: each of its samples is one of the feed's."""

    split: Split

    def feed(self, split: Split, transform: Mapping[str, Any]) -> SampleFeed:
        """Raises `InvalidArgument` where the transform names no field, one that the split lacks, or cannot be compiled."""
        return SampleFeed(split, compile_transform(transform))


def known_fields(split: Split, transform: Mapping[str, Any]) -> dict[str, Any]:
    """What of a transform is for fields of this split: it has the name, or one of the alternatives that are joined by ";"."""
    known = {field.name for field in split.dataset.schema.fields}
    return {name: ops for name, ops in transform.items() if not known.isdisjoint(name.split(";"))}


class SampleFeed:
    """A split's samples, with a filler for each field. Immutable and thread-safe."""

    def __init__(self, split: Split, fillers: Mapping[str, Filler]) -> None:
        self.name = str(split)
        self.identity: Mapping[str, str | int] = {}
        self.counts = split.counts
        self.fields = {name: FieldShape(filler.shape, filler.dtype, isinstance(filler, RawBytes)) for name, filler in fillers.items()}
        self._source = SampleSource(split, tuple(fillers))
        self._fillers = fillers
        self._straight = goes_straight(self._source, fillers)
        self.grain = GRAIN if self._straight else 1

    def locate(self, groups: npt.NDArray[np.int64], items: npt.NDArray[np.int64], *, seed: int | None, epoch: int) -> list[Spot]:
        """The spots of `items[n]` of the split's shard `groups[n]`, in every epoch the same."""
        return self._source.locate(groups, items)

    def at(self, index: int, *, seed: int | None, epoch: int) -> Spot:
        """The spot of sample `index` of the split, in stored order."""
        return self._source.at(index)

    def sizes(self, field: str, spots: Sequence[Spot]) -> tuple[npt.NDArray[np.int64], list[Run]]:
        """How many bytes a field of each sample has; see `loaders.feed.Sizes`."""
        return field_sizes(self._source, field, spots)

    def hand(self) -> Hand:
        """What one thread works with."""
        hand = SampleHand(self._source, self._fillers)
        return StraightHand(self._source, self._fillers, hand, me=id(self)) if self._straight else hand

    def close(self) -> None:
        """End the processes that functions of the user's run in; others are started where it is used again."""
        for filler in self._fillers.values():
            filler.close()


_Begun: TypeAlias = list[tuple[Filler, Any, Any]]
"""Fillers, what they have begun, and their workspaces."""


class SampleHand:
    """Reads samples into a scratch of its own and fills their fields. Not thread-safe."""

    def __init__(self, source: SampleSource, fillers: Mapping[str, Filler]) -> None:
        self._reader = source.reader()
        self._fillers = [(name, filler, filler.workspace()) for name, filler in fillers.items()]

    def read(self, spots: Sequence[Spot]) -> Iterator[Mapping[str, FieldBytes] | DataplaneError]:
        """The bytes of each sample's fields, which last until the next, or why there are none. See `loaders.source.Reader.read`."""
        return self._reader.read(spots)

    def place(self, read: Mapping[str, FieldBytes], draw: Draw, arrays: Mapping[str, npt.NDArray[Any]], i: int) -> int:
        """Fill place `i` of the arrays. How many bytes the sample has. Raises `BadSample`, and what a damaged sample raises."""
        self._finish(self._begin(read, draw, arrays, i, 0))
        return _size(read)

    def fill(
        self, spots: Sequence[Spot], draws: Sequence[Draw], places: Sequence[int], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[int, Sequence[str], Mapping[int, DataplaneError]]:
        """See `loaders.feed.FillsMany`. Of the samples that are read together, all are begun before the first is decoded."""
        size, keys, errors = 0, dict.fromkeys(places, ""), dict[int, DataplaneError]()
        to_fill, enter = iter(places), entering()
        for some in self._reader.read_some([spots[i] for i in places]):
            reading = enter(Stage.DECODE)
            begun: list[tuple[int, int, _Begun]] = []
            for slot, (read, i) in enumerate(zip(some, to_fill, strict=False)):
                try:
                    if isinstance(read, DataplaneError):
                        raise read
                    begun.append((i, _size(read), self._begin(read, draws[i], arrays, i, slot)))
                    keys[i] = spots[i].key
                except DataplaneError as error:
                    errors[i] = error
            for i, sized, rest in begun:
                heed()
                try:
                    enter(Stage.DECODE)
                    self._finish(rest)
                    size += sized
                except DataplaneError as error:
                    errors[i] = error
            enter(reading)
        return size, list(keys.values()), dict(sorted(errors.items()))

    def _begin(self, read: Mapping[str, FieldBytes], draw: Draw, arrays: Mapping[str, npt.NDArray[Any]], i: int, slot: int) -> _Begun:
        """What is left to do for place `i`."""
        rest: _Begun = []
        for name, filler, workspace in self._fillers:
            begun = filler.begin(read[name], draw, arrays[name][i : i + 1], workspace, slot)
            if begun is not None:
                rest.append((filler, begun, workspace))
        return rest

    def _finish(self, rest: _Begun) -> None:
        for filler, begun, workspace in rest:
            filler.finish(begun, workspace)


def _size(read: Mapping[str, FieldBytes]) -> int:
    """How many bytes a sample has."""
    return sum(len(field.data) for field in read.values())
