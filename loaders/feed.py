"""What a loader's samples come from: a feed has samples in groups, and puts any of them into its place in a batch.

A split's samples are one feed (`loaders.source`), its documents packed into sequences another (`loaders.tokens`). The order, bad samples,
batches, threads and resuming know feeds by this protocol alone, so whatever is one can be mixed with all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from dataplane.dataset import Split
from dataplane.errors import DataplaneError

__all__ = ["Closes", "Draw", "Feed", "FeedDescription", "FieldShape", "Hand", "Sizes", "Spot"]


class Draw(NamedTuple):
    """What a sample's random parameters are a function of, besides the op's ordinal."""

    seed: int
    component: int
    epoch: int
    position: int


@dataclass(frozen=True, slots=True)
class FieldShape:
    """The array of one sample of a field. `ragged`: samples have different lengths, and a batch has a `Ragged` (shape (), uint8)."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    ragged: bool = False


class Spot(Protocol):
    """A sample located. Immutable."""

    @property
    def key(self) -> str:
        """What it is known by. Raises a `DataplaneError` where the index that has it cannot be read."""
        ...

    @property
    def where(self) -> str:
        """The object that its bytes lie in, as messages and reports call it."""
        ...

    @property
    def row(self) -> int:
        """Which it is there: for messages when there is no key."""
        ...


class FeedDescription(Protocol):
    """What a user hands a loader that is no plain split: says how a feed is made of one. Frozen, and does no work before `feed`."""

    @property
    def split(self) -> Split:
        """What it is made of."""
        ...

    def feed(self, split: Split, transform: Mapping[str, Any]) -> Feed:
        """The feed of `split`: this description's own, read through a hot tier, or another version of it. `transform` is the loader's, by
        field: a feed that needs none looks at nothing in it. Raises `InvalidArgument`."""
        ...


class Feed(Protocol):
    """Samples in groups, `counts` int64 [groups] of them: what an `Order` is over. Immutable and thread-safe."""

    @property
    def name(self) -> str:
        """For messages: "photos@7/train"."""
        ...

    @property
    def identity(self) -> Mapping[str, str | int]:
        """How the samples are made from the split, where that is not plain: {"field": "tokens", "length": 2048, "how": "concat"}. A state
        names it beside dataset, version, commit and split, and continues only with what has the same."""
        ...

    @property
    def counts(self) -> npt.NDArray[np.int64]: ...

    @property
    def grain(self) -> int:
        """How many samples a job has at least: 1 where each is worth a thread's while."""
        ...

    @property
    def fields(self) -> Mapping[str, FieldShape]:
        """What it fills, by the names that batches have."""
        ...

    def locate(self, groups: npt.NDArray[np.int64], items: npt.NDArray[np.int64], *, seed: int | None, epoch: int) -> Sequence[Any]:
        """The spots of `items[n]` of group `groups[n]`, as the order of (seed, epoch) has them: that of storage, where `seed` is None.
        Fetches nothing."""
        ...

    def at(self, index: int, *, seed: int | None, epoch: int) -> Any:
        """The spot of sample `index`, counted through the groups: what takes a bad one's place is found so."""
        ...

    def hand(self) -> Hand:
        """What one thread works with."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A feed that holds on to something while it is used: processes."""

    def close(self) -> None:
        """Let go of it; where the feed is used again, it begins anew. Idempotent."""
        ...


@runtime_checkable
class Sizes(Protocol):
    """What a feed with ragged fields offers besides."""

    def sizes(self, field: str, spots: Sequence[Any]) -> tuple[npt.NDArray[np.int64], Any]:
        """How many bytes a field of each sample has, as far as its index can be had: it is what room is reserved for, and may be wrong. And
        what a hand of this feed wants to know again when it fills them: `RaggedPlaces.notes` has it."""
        ...


class Hand(Protocol):
    """Reads and places samples of one feed. Not thread-safe: it has scratch memory of its own."""

    def read(self, spots: Sequence[Any]) -> Iterator[Any | DataplaneError]:
        """What `place` needs of each, or why there is none, in this order. What is given lasts until the next is asked for. It may end
        behind a `StoreUnavailable`."""
        ...

    def place(self, read: Any, draw: Draw, arrays: Mapping[str, npt.NDArray[Any]], i: int) -> int:
        """Fill place `i` of the arrays of this feed's fields. How many bytes were used. Raises a `DataplaneError`."""
        ...


@runtime_checkable
class FillsMany(Protocol):
    """What a hand may offer besides: to fill all of a job's places at once, which takes less time than one after the other."""

    def fill(
        self, spots: Sequence[Any], draws: Sequence[Draw], places: Sequence[int], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[int, Sequence[str], Mapping[int, DataplaneError]]:
        """Fill `places`, all of one epoch, of the arrays of this feed's fields, place i with `spots[i]` and `draws[i]`. How many bytes
        were used, the key of each, and by place, in their order, the errors of those that could not be filled."""
        ...
