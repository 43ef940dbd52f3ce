"""The course through one feed: epoch by epoch, each in an order of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dataplane.dataset import Split
from dataplane.errors import InvalidArgument, StateMismatch
from dataplane.order import Order, OrderWalker, default_window
from loaders.course import Part, Places, check_order
from loaders.feed import Draw, Feed
from loaders.lanes import Spread
from loaders.state import State

__all__ = ["Single"]


class Single:
    """The samples of one feed, made of `split`. See `loaders.course.Course`."""

    def __init__(self, split: Split, feed: Feed) -> None:
        self.name = feed.name
        self.samples = int(feed.counts.sum())
        self.fields = feed.fields
        self.spreads = [Spread(feed.counts, split)]
        self._split = split
        self._feed = feed
        self._parts: list[Part] = []

    @property
    def feeds(self) -> Sequence[Feed]:
        return [self._feed]

    @property
    def parts(self) -> Sequence[Part]:
        return self._parts

    def begin(self, *, seed: int, lanes: int, window: int | None, shuffle: bool) -> State:
        version = self._split.dataset.version
        window = default_window(self._feed.counts) if window is None else window
        names = version.name, version.number, version.id, self._split.name
        state = State(*names, self.samples, seed, 0, 0, lanes, window, shuffle, self._feed.identity)
        _check(state)
        self._parts = [Part(self._feed, self.samples, shuffle)]
        return state

    def load(self, value: Mapping[str, Any], *, have: State, lanes: int | None, window: int | None) -> State:
        loaded = State.from_dict(value)
        for what in ("dataset", "version", "commit", "split", "how", "samples", "shuffle"):
            got, mine = getattr(loaded, what), getattr(have, what)
            if got != mine:
                raise StateMismatch(f"the state is of {what} {got!r}, this loader of {mine!r}; open what the state names")
        for what, asked in (("lanes", lanes), ("window", window)):
            if asked is not None and asked != getattr(loaded, what):
                raise StateMismatch(f"the state has {what}={getattr(loaded, what)}, this loader {asked}; leave the argument out to resume")
        if not 0 <= loaded.position <= loaded.samples:
            raise StateMismatch(f"the state stands at position {loaded.position} of {loaded.samples} samples")
        try:
            _check(loaded)
        except InvalidArgument as error:
            raise StateMismatch(f"a damaged loader state: {error}") from error
        return loaded

    def restarted(self, state: State, epoch: int) -> State:
        state = replace(state, epoch=epoch, position=0)
        _check(state)
        return state

    def weigh(self, weights: Mapping[str, int | float]) -> None:
        raise InvalidArgument(f"{self.name} is one dataset, and has no weights; load a Mixture to change them")

    def names(self, state: State) -> tuple[str, ...]:
        return ("",)

    def upcoming(self, state: State) -> State:
        return state

    def walker(self, state: State) -> SingleWalker:
        return SingleWalker(self._feed, self._order(state).walker())

    def _order(self, state: State) -> Order:
        """Of the state's epoch. Drawing it takes O(shards), so only who walks it does."""
        settings = {"seed": state.seed, "epoch": state.epoch, "lanes": state.lanes, "window": state.window}
        return Order(self._feed.counts, **settings, shuffle=state.shuffle)


def _check(state: State) -> None:
    """Raise `InvalidArgument` for numbers that are out of range."""
    check_order(seed=state.seed, epoch=state.epoch, lanes=state.lanes, window=state.window, shuffle=state.shuffle)


class SingleWalker:
    """Goes through one epoch of a feed."""

    def __init__(self, feed: Feed, walker: OrderWalker) -> None:
        self._feed = feed
        self._walker = walker

    def at(self, positions: npt.NDArray[np.int64]) -> Places:
        order = self._walker.order
        seed = order.seed if order.shuffle else None
        spots = self._feed.locate(*self._walker.at(positions), seed=seed, epoch=order.epoch)
        draws = _Draws(order.seed, order.epoch, positions)
        return Places(spots, draws, np.zeros(len(draws), np.int16), np.full(len(draws), order.epoch, np.int64), None)


@dataclass(frozen=True, slots=True, eq=False)
class _Draws(Sequence[Draw]):
    """Those of places of one epoch, made when somebody asks: who fills many places at once does not."""

    seed: int
    epoch: int
    positions: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, i: Any) -> Any:
        return Draw(self.seed, 0, self.epoch, int(self.positions[i]))
