"""The way through the data: which sample stands at each position of an epoch, and how a state says where one is.

A loader knows its data by a `Course` alone: `loaders.single` has that of one feed, `loaders.mixed` that of a mixture of several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from dataplane.order import Order
from dataplane.philox import Domain, derive
from loaders.feed import Draw, Feed, FieldShape
from loaders.lanes import Spread

__all__ = ["Course", "Part", "Places", "Standing", "Walker", "check_order", "component_seed"]

S = TypeVar("S", bound="Standing")


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One version of one component: its feed, how many samples that has, and whether they come in another order than that of storage.
    `component` is what a mixture calls it, and empty where there is none."""

    feed: Feed
    samples: int
    shuffle: bool
    component: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return f"component {self.component!r} ({self.feed.name})" if self.component else self.feed.name


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """The B samples of a batch, located. `parts` int64 [B] says of which of the course's parts each is, or is None where there is one only;
    `draws` are what their random parameters are a function of; `components` and `epochs` [B] are what a batch has."""

    spots: Sequence[Any]
    draws: Sequence[Draw]
    components: npt.NDArray[np.int16]
    epochs: npt.NDArray[np.int64]
    parts: npt.NDArray[np.int64] | None

    def by_part(self, start: int, stop: int) -> list[tuple[int, Sequence[int]]]:
        """The places [start, stop), those of each part, and of the same epoch of it, together."""
        if self.parts is None:
            return [(0, range(start, stop))]
        runs = self.parts[start:stop] << 32 | self.epochs[start:stop]
        return [(int(run >> 32), (np.flatnonzero(runs == run) + start).tolist()) for run in np.unique(runs)]


class Standing(Protocol):
    """Where a loader stands. Frozen; equal on all ranks; everything that decides which samples come next."""

    @property
    def epoch(self) -> int: ...

    @property
    def position(self) -> int:
        """How many of this epoch's samples were delivered."""
        ...

    @property
    def lanes(self) -> int: ...

    def moved(self, position: int) -> Self:
        """The same epoch, `position` of it delivered."""
        ...

    def next_epoch(self) -> Self:
        """The epoch after this one, from its first sample. What this one has not delivered is left out, or comes there."""
        ...

    def to_dict(self) -> dict[str, Any]: ...


class Walker(Protocol):
    """Goes through one epoch. Not thread-safe."""

    def at(self, positions: npt.NDArray[np.int64]) -> Places:
        """The samples at these positions of the epoch."""
        ...


class Course(Protocol, Generic[S]):
    """What a loader goes through: samples of one feed, or of several. Not thread-safe: it is the consumer's."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def samples(self) -> int:
        """Of an epoch."""
        ...

    @property
    def fields(self) -> Mapping[str, FieldShape]:
        """Those of all its feeds together."""
        ...

    @property
    def spreads(self) -> Sequence[Spread]:
        """How each of its feeds lies in shards."""
        ...

    @property
    def feeds(self) -> Sequence[Feed]:
        """All that it has opened."""
        ...

    @property
    def parts(self) -> Sequence[Part]:
        """What its places are of. Only ever grows, as a walk comes to more of them."""
        ...

    def begin(self, *, seed: int, lanes: int, window: int | None, shuffle: bool) -> S:
        """The start of epoch 0. Raises `InvalidArgument` for numbers that are out of range."""
        ...

    def load(self, value: Mapping[str, Any], *, have: S, lanes: int | None, window: int | None) -> S:
        """Where `value`, a state's `to_dict`, says to go on; `lanes` and `window` are what the user asks for. Raises `StateMismatch`."""
        ...

    def restarted(self, state: S, epoch: int) -> S:
        """The first sample of `epoch`. Raises `InvalidArgument`."""
        ...

    def weigh(self, weights: Mapping[str, int | float]) -> None:
        """Share positions out by other weights, in what is `upcoming`. Raises `InvalidArgument` where there is nothing to weigh."""
        ...

    def names(self, state: S) -> tuple[str, ...]:
        """Those of the components, by their numbers."""
        ...

    def upcoming(self, state: S) -> S:
        """The state to begin a walk from, which is where newer weights start."""
        ...

    def walker(self, state: S) -> Walker:
        """Through the epoch of `state`, from there on."""
        ...


def check_order(*, seed: int, epoch: int, lanes: int, window: int, shuffle: bool = True) -> None:
    """Raise `InvalidArgument` for what no order can be drawn with, without drawing one: of a million shards that takes its time."""
    Order(np.zeros(0, np.int64), seed=seed, epoch=epoch, lanes=lanes, window=window, shuffle=shuffle)


def component_seed(seed: int, component: int) -> int:
    """What the order and the substitutes of a component are drawn with: the first one's are those that it has alone."""
    return derive(seed, int(Domain.COMPONENT), component, 0, 0) if component else seed
