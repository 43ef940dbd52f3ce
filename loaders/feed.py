"""What a loader's samples come from: a feed has samples in groups, and puts any of them into its place in a batch.

A split's samples are one feed (`loaders.source`), its documents packed into sequences another (`loaders.tokens`). The order, bad samples,
batches, threads and resuming know feeds by this protocol alone, so whatever is one can be mixed with all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from dataplane.errors import DataplaneError

__all__ = ["Draw", "Feed", "FieldShape", "Hand", "Spot"]

SpotT = TypeVar("SpotT", bound="Spot")


class Draw(NamedTuple):
    """What a sample's random parameters are a function of, besides the op's ordinal."""

    seed: int
    component: int
    epoch: int
    position: int


@dataclass(frozen=True, slots=True)
class FieldShape:
    """The array of one sample of a field."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Spot(Protocol):
    """A sample located. Immutable."""

    @property
    def key(self) -> str:
        """What it is known by. Raises a `DataplaneError` where the index that has it cannot be read."""
        ...

    @property
    def where(self) -> str:
        """The shard, and the row there: for messages when there is no key."""
        ...


class Feed(Protocol):
    """Samples in groups, `counts` int64 [groups] of them: what an `Order` is over. Immutable and thread-safe."""

    @property
    def name(self) -> str:
        """For messages: "photos@7/train"."""
        ...

    @property
    def identity(self) -> Mapping[str, str | int]:
        """What a state must name to continue with the same samples: dataset, version, commit, split, and how they are made from it."""
        ...

    @property
    def counts(self) -> npt.NDArray[np.int64]: ...

    @property
    def fields(self) -> Mapping[str, FieldShape]:
        """What it fills, by the names that batches have."""
        ...

    def locate(self, groups: npt.NDArray[np.int64], items: npt.NDArray[np.int64], *, seed: int, epoch: int) -> Sequence[Any]:
        """The spots of `items[n]` of group `groups[n]`, as the order of (seed, epoch) has them. Fetches nothing."""
        ...

    def at(self, index: int, *, seed: int, epoch: int) -> Any:
        """The spot of sample `index`, counted through the groups: what takes a bad one's place is found so."""
        ...

    def hand(self) -> Hand:
        """What one thread works with."""
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
