"""The course through a mixture: which component each position is of, and which of its samples, from the versions that it was begun with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from dataplane.catalog import Catalog
from dataplane.dataset import Dataset, Split
from dataplane.errors import InvalidArgument, NotFound, StateMismatch
from dataplane.order import Order, OrderWalker, default_window
from loaders.blend import MAX_POSITION, Blend, Era, Segment
from loaders.blended import Component, MixtureState, Taken
from loaders.course import Part, Places, check_order, component_seed
from loaders.feed import Draw, Feed, FeedDescription, FieldShape
from loaders.lanes import Spread
from loaders.mixture import Mixture, check_names, whole_weights
from loaders.samples import Samples, known_fields
from loaders.tier import Tier

__all__ = ["Mixed"]

_ORDERS: Final = 3  # of each component, that are kept: its lanes do not end an epoch together


_BlendKey: TypeAlias = tuple[int, int, tuple[Segment, ...], tuple[tuple[Era, ...], ...]]


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """A component as this loader has it now."""

    description: FeedDescription
    split: Split
    feed: Feed


class Mixed:
    """The samples of a mixture's components. See `loaders.course.Course`."""

    def __init__(self, mixture: Mixture, transform: Mapping[str, Any], tier: Tier) -> None:
        self.name = f"a mixture of {', '.join(mixture.components)}"
        self._transform = transform
        self._tier = tier
        self._sources = {name: self._open(each) for name, each in mixture.components.items()}
        self.fields = _fields({name: source.feed for name, source in self._sources.items()}, transform)
        sizes = {name: int(source.feed.counts.sum()) for name, source in self._sources.items()}
        empty = [name for name, size in sizes.items() if not size]
        if empty:
            raise InvalidArgument(f"component {empty[0]!r} is empty: {self._sources[empty[0]].feed.name} has no sample; leave it out")
        self.samples = sum(sizes.values()) if mixture.samples is None else mixture.samples
        self._weights = whole_weights(sizes if mixture.weights is None else mixture.weights)
        self.spreads = [Spread(source.feed.counts, source.split) for source in self._sources.values()]
        self._parts: list[Part] = []
        self._numbers: dict[tuple[str, str, str], int] = {}  # of the parts, by component, commit and split
        self._blended: tuple[_BlendKey, Blend] | None = None  # the newest, and what it is of

    @property
    def feeds(self) -> Sequence[Feed]:
        return [*(source.feed for source in self._sources.values()), *(part.feed for part in self._parts)]

    @property
    def parts(self) -> Sequence[Part]:
        return self._parts

    def begin(self, *, seed: int, lanes: int, window: int | None, shuffle: bool) -> MixtureState:
        components = tuple(Component(name, (self._taken(name, window, first=0),)) for name in self._sources)
        weights = tuple(self._weights[name] for name in self._sources)
        state = MixtureState(seed, lanes if shuffle else 1, shuffle, 0, 0, 0, components, (Segment(0, weights),))
        self._check(state)
        return state

    def load(self, value: Mapping[str, Any], *, have: MixtureState, lanes: int | None, window: int | None) -> MixtureState:
        state = MixtureState.from_dict(value)
        if state.shuffle != have.shuffle:
            raise StateMismatch(f"the state is of shuffle {state.shuffle!r}, this loader of {have.shuffle!r}; give the state's")
        if state.shuffle and lanes is not None and lanes != state.lanes:
            raise StateMismatch(f"the state has lanes={state.lanes}, this loader {lanes}; leave the argument out to resume")
        begun = self.blend(state).begun(state.delivered).tolist()
        components = [self._continued(each, first, window) for each, first in zip(state.components, begun, strict=True)]
        known = {component.name for component in state.components}
        components += [Component(name, (self._taken(name, window, first=0),)) for name in self._sources if name not in known]
        state = replace(state, components=tuple(components)).weighed(self._weights)
        try:
            self._check(state)
        except InvalidArgument as error:
            raise StateMismatch(f"the state cannot go on with this mixture: {error}") from error
        self._open_running(state)
        return state

    def restarted(self, state: MixtureState, epoch: int) -> MixtureState:
        """As if all epochs before had delivered all of their samples, by today's weights and from today's versions."""
        components = [replace(each, versions=(replace(each.versions[-1], first=0),)) for each in state.components]
        segment = Segment(0, tuple(self._weights.get(each.name, 0) for each in components))
        state = replace(state, epoch=epoch, position=0, origin=epoch * self.samples, components=tuple(components), segments=(segment,))
        self._check(state)
        return state

    def weigh(self, weights: Mapping[str, int | float]) -> None:
        """Share out by other weights wherever a walk begins from now on. Raises `InvalidArgument`."""
        check_names(weights, self._sources)
        self._weights = whole_weights(weights)

    def names(self, state: MixtureState) -> tuple[str, ...]:
        return tuple(component.name for component in state.components)

    def upcoming(self, state: MixtureState) -> MixtureState:
        return state.weighed(self._weights)

    def walker(self, state: MixtureState) -> MixedWalker:
        return MixedWalker(self, state)

    def blend(self, state: MixtureState) -> Blend:
        """That of a state. The newest is kept: after many changes of weights it takes its time, and only they and versions change it."""
        key = state.seed, state.lanes, state.segments, state.eras()
        if self._blended is None or self._blended[0] != key:
            self._blended = key, state.blend()
        return self._blended[1]

    def part(self, state: MixtureState, component: int, era: int) -> int:
        """The number of the part that a component's era is of, which is opened if need be. Raises `StateMismatch` where it is gone."""
        name, taken = state.components[component].name, state.components[component].versions[era]
        key = name, taken.commit, taken.split
        if key not in self._numbers:
            source = self._sources.get(name)
            if source is None:
                raise StateMismatch(f"position {state.position} needs {name!r} ({taken}), which the mixture leaves out")
            feed = source.feed if _is_of(taken, source) else self._feed_of(name, source, taken)
            self._numbers[key] = len(self._parts)
            self._parts.append(Part(feed, taken.samples, state.shuffle, name))
        return self._numbers[key]

    # ------------------------------------------------------------------ components

    def _open(self, data: Split | FeedDescription) -> _Source:
        """A component, with what of the transform is for it."""
        description = Samples(data) if isinstance(data, Split) else data
        split = self._tier.through(description.split)
        transform = known_fields(split, self._transform) if isinstance(description, Samples) else self._transform
        if isinstance(description, Samples) and not transform:
            known = ", ".join(sorted(field.name for field in split.dataset.schema.fields))
            raise InvalidArgument(f"the transform names no field of {split}, which has {known}; its samples would be all zeros")
        return _Source(description, split, description.feed(split, transform))

    def _taken(self, name: str, window: int | None, *, first: int) -> Taken:
        source = self._sources[name]
        version, counts = source.split.dataset.version, source.feed.counts
        window = default_window(counts) if window is None else window
        where = version.name, version.number, version.id, source.split.name
        return Taken(first, *where, int(counts.sum()), window, source.feed.identity)

    def _continued(self, component: Component, begun: int, window: int | None) -> Component:
        """A component of a state, taken from this mixture's version behind what was begun of its last one."""
        source, last = self._sources.get(component.name), component.versions[-1]
        if source is None:  # left out
            return component
        mine = self._taken(component.name, window, first=begun)
        if (mine.dataset, mine.split, mine.how) != (last.dataset, last.split, last.how):
            was, now = (f"{each} {dict(each.how) or ''}".rstrip() for each in (last, mine))
            raise StateMismatch(f"component {component.name!r} is {was} in the state and {now} here; give another dataset another name")
        if mine.commit == last.commit:
            if mine.samples != last.samples:
                raise StateMismatch(f"component {component.name!r} ({mine}) has {last.samples} samples in the state, {mine.samples} here")
            if window is not None and window != last.window:
                raise StateMismatch(f"the state has window={last.window}, this loader {window}; leave the argument out to resume")
            return component
        if mine.version <= last.version:
            raise StateMismatch(f"component {component.name!r} is {last} in the state, and {mine} here; open that version or a newer one")
        return Component(component.name, (*(taken for taken in component.versions if taken.first < begun), mine))

    def _feed_of(self, name: str, source: _Source, taken: Taken) -> Feed:
        """The feed of an older version than the mixture's, which this loader opens by itself."""
        store = source.description.split.dataset.store
        advice = f"which component {name!r} needs until its epoch is over; restart() begins anew from the versions of the mixture"
        try:
            version = Catalog(store).version(f"{taken.dataset}@{taken.version}")
            split = self._tier.through(Dataset(store, version)[taken.split])
        except NotFound as error:
            raise StateMismatch(f"the state goes on with {taken}, {advice}: {error}") from error
        if version.id != taken.commit:
            raise StateMismatch(f"the state is of the commit {taken.commit} of {taken}, {advice}: {store.url} has {version.id}")
        transform = known_fields(split, self._transform) if isinstance(source.description, Samples) else self._transform
        feed = source.description.feed(split, transform)
        if dict(feed.fields) != dict(source.feed.fields) or int(feed.counts.sum()) != taken.samples:
            raise StateMismatch(f"{taken}, {advice}, has other fields than {source.split}, or not the {taken.samples} samples of the state")
        return feed

    def _open_running(self, state: MixtureState) -> None:
        """Open what will be needed, so that what is gone is said before anything is delivered."""
        running = self.blend(state).running(state.delivered).tolist()
        for number, (component, epoch) in enumerate(zip(state.components, running, strict=True)):
            if component.name not in self._sources:
                continue
            ends = [*(taken.first for taken in component.versions[1:]), None]
            for era, end in enumerate(ends):
                if end is None or epoch < end:
                    self.part(state, number, era)

    def _check(self, state: MixtureState) -> None:
        """Raise `InvalidArgument` for numbers that are out of range."""
        for taken in (taken for component in state.components for taken in component.versions):
            check_order(seed=state.seed, epoch=state.epoch, lanes=state.lanes, window=taken.window)
        if state.origin + self.samples > MAX_POSITION:
            raise InvalidArgument(f"epoch {state.epoch} of {self.samples} samples begins at {state.origin}; a mixture has 2^48 positions")
        self.blend(state)


class MixedWalker:
    """Goes through one epoch of a mixture."""

    def __init__(self, course: Mixed, state: MixtureState) -> None:
        self._course = course
        self._state = state
        self._blend = course.blend(state)
        self._walkers: dict[int, OrderedDict[int, OrderWalker]] = {}

    def at(self, positions: npt.NDArray[np.int64]) -> Places:
        try:
            return self._at(positions)
        except StateMismatch:  # what only fills up a padded batch is from the epoch's start, and what that was of may be gone
            early = positions < self._state.position
            if not early.any():
                raise
            return self._at(np.where(early, self._state.position, positions))

    def _at(self, positions: npt.NDArray[np.int64]) -> Places:
        placed = self._blend.at(positions + self._state.origin)
        spots: list[Any] = [None] * len(positions)
        parts = np.zeros(len(positions), np.int64)
        runs = placed.components << 32 | placed.epochs
        for run in np.unique(runs):
            mine = np.flatnonzero(runs == run)
            component, era, epoch = (int(column[mine[0]]) for column in placed[:3])
            parts[mine] = part = self._course.part(self._state, component, era)
            feed = self._course.parts[part].feed
            walker = self._walker(component, era, epoch, feed)
            seed = walker.order.seed if self._state.shuffle else None
            located = feed.locate(*walker.at(placed.positions[mine]), seed=seed, epoch=epoch)
            for i, spot in zip(mine.tolist(), located, strict=True):
                spots[i] = spot
        each = zip(placed.components.tolist(), placed.epochs.tolist(), placed.positions.tolist(), strict=True)
        draws = [Draw(self._state.seed, *where) for where in each]
        return Places(spots, draws, placed.components.astype(np.int16), placed.epochs, parts)

    def _walker(self, component: int, era: int, epoch: int, feed: Feed) -> OrderWalker:
        """Through a component's epoch; of each component the last used are kept, so that one of few samples, which has many epochs under
        way, does not drive out one of many, whose order takes its time."""
        walkers = self._walkers.setdefault(component, OrderedDict())
        if epoch not in walkers:
            state = self._state
            seed = component_seed(state.seed, component)
            window = state.components[component].versions[era].window
            order = Order(feed.counts, seed=seed, epoch=epoch, lanes=state.lanes, window=window, shuffle=state.shuffle)
            walkers[epoch] = order.walker()
            if len(walkers) > _ORDERS:
                walkers.popitem(last=False)
        walkers.move_to_end(epoch)
        return walkers[epoch]


def _is_of(taken: Taken, source: _Source) -> bool:
    return (taken.commit, taken.split) == (source.split.dataset.version.id, source.split.name)


def _fields(feeds: Mapping[str, Feed], transform: Mapping[str, Any]) -> dict[str, FieldShape]:
    """The fields of all feeds together."""
    found: dict[str, FieldShape] = {}
    first: dict[str, str] = {}
    for name, feed in feeds.items():
        for field, shape in feed.fields.items():
            if found.setdefault(field, shape) != shape:
                other = found[field]
                raise InvalidArgument(
                    f"field {field!r} is {shape.dtype} {shape.shape} of component {name!r}, "
                    f"and {other.dtype} {other.shape} of {first[field]!r}; it must be the same of all that have it"
                )
            first.setdefault(field, name)
    missing = [field for field in transform if field not in found]
    if missing:
        raise InvalidArgument(f"no component has the field {missing[0]!r}; together they have {', '.join(sorted(found))}")
    return found
