"""The state of a loader of a mixture: what was delivered, equal on every rank, whatever its weights and versions were before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dataplane.errors import InvalidArgument, StateMismatch
from loaders.blend import MAX_POSITION, Blend, Era, Segment, check_blend
from loaders.state import State, check_state, plain

__all__ = ["Component", "MixtureState", "Taken"]

_FORMAT: Final = 2


@dataclass(frozen=True, slots=True)
class Taken:
    """A version that a component is taken from, from its epoch `first` on. `how` is the feed's `identity`."""

    first: int
    dataset: str
    version: int
    commit: str
    split: str
    samples: int
    window: int
    how: Mapping[str, str | int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.dataset}@{self.version}/{self.split}"


@dataclass(frozen=True, slots=True)
class Component:
    """A dataset of a mixture, with the versions that it was and is taken from."""

    name: str
    versions: tuple[Taken, ...]


@dataclass(frozen=True, slots=True)
class MixtureState:
    """Where a loader of a mixture stands. The mixture's positions are endless: this epoch began at `origin`, and `position` samples of it
    were delivered. Components are in the order of their first appearance, which is what numbers them; those that were left out stay."""

    seed: int
    lanes: int
    shuffle: bool
    epoch: int
    position: int
    origin: int
    components: tuple[Component, ...]
    segments: tuple[Segment, ...]

    @property
    def delivered(self) -> int:
        """How many positions were, since the mixture began."""
        return self.origin + self.position

    def moved(self, position: int) -> MixtureState:
        """The same epoch, `position` of it delivered."""
        return replace(self, position=position)

    def next_epoch(self) -> MixtureState:
        """The epoch after this one. What this one has not delivered comes there."""
        return replace(self, epoch=self.epoch + 1, position=0, origin=self.delivered)

    def weighed(self, weights: Mapping[str, int]) -> MixtureState:
        """With other weights from here on, by name; what has none gets no samples."""
        mine = tuple(weights.get(component.name, 0) for component in self.components)
        before = self.segments if self.segments[-1].start < self.delivered else self.segments[:-1]  # of one that begins here, nothing came
        if before and mine == before[-1].weights + (0,) * (len(mine) - len(before[-1].weights)):
            return self if before is self.segments else replace(self, segments=before)
        return replace(self, segments=(*before, Segment(self.delivered, mine)))

    def eras(self) -> tuple[tuple[Era, ...], ...]:
        """Of each component, what a blend knows of its versions."""
        return tuple(tuple(Era(taken.first, taken.samples) for taken in component.versions) for component in self.components)

    def blend(self) -> Blend:
        """Which sample stands where. Raises `InvalidArgument`."""
        return Blend(self.seed, self.lanes, self.segments, self.eras())

    def to_dict(self) -> dict[str, Any]:
        """The form for checkpoints: plain JSON values, whatever integers this was made of."""
        return {
            "format": _FORMAT,
            **{name: kind(getattr(self, name)) for name, kind in _KINDS.items()},
            "components": [{"name": each.name, "versions": [_taken_to_dict(taken) for taken in each.versions]} for each in self.components],
            "segments": [{"start": int(each.start), "weights": [int(weight) for weight in each.weights]} for each in self.segments],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> MixtureState:
        """The inverse of `to_dict`. Raises `StateMismatch` for what is no state of a mixture, `FormatTooNew` for a newer release's."""
        check_state(value)
        if "components" not in value:
            state = State.from_dict(value)
            what = f"{state.dataset}@{state.version}/{state.split}"
            raise StateMismatch(f"the state is of {what} alone, this loader has a mixture; begin a mixture anew, or load {what} by itself")
        try:
            made = cls(
                **{name: kind(value[name]) for name, kind in _KINDS.items()},
                components=tuple(Component(str(each["name"]), _versions(each["versions"])) for each in value["components"]),
                segments=tuple(Segment(int(each["start"]), tuple(map(int, each["weights"]))) for each in value["segments"]),
            )
            _check(made)
        except (KeyError, TypeError, ValueError, InvalidArgument) as error:
            raise StateMismatch(f"a damaged loader state: {error!r} in {dict(value)!r:.300}") from error
        return made


_KINDS: Final[Mapping[str, type]] = {"seed": int, "lanes": int, "shuffle": bool, "epoch": int, "position": int, "origin": int}
_TAKEN: Final[Mapping[str, type]] = {
    "first": int,
    "dataset": str,
    "version": int,
    "commit": str,
    "split": str,
    "samples": int,
    "window": int,
}


def _check(state: MixtureState) -> None:
    """Raise `InvalidArgument` for what no loader has stood at."""
    check_blend(state.seed, state.lanes, state.segments, state.eras())
    if min(state.epoch, state.position, state.origin) < 0 or state.delivered >= MAX_POSITION:
        what = f"position {state.position} of epoch {state.epoch}, from {state.origin}"
        raise InvalidArgument(f"the state stands at {what}; none is below 0, and all positions are below 2^48")
    if state.segments[-1].start > state.delivered:
        raise InvalidArgument(f"the state has weights from {state.segments[-1].start} on, and {state.delivered} samples were delivered")
    if len({component.name for component in state.components}) < len(state.components):
        raise InvalidArgument("the state has two components of one name")


def _taken_to_dict(taken: Taken) -> dict[str, Any]:
    values = {name: kind(getattr(taken, name)) for name, kind in _TAKEN.items()}
    return {**values, "how": plain(taken.how)} if taken.how else values


def _versions(values: Sequence[Mapping[str, Any]]) -> tuple[Taken, ...]:
    made = tuple(Taken(**{name: kind(value[name]) for name, kind in _TAKEN.items()}, how=dict(value.get("how", {}))) for value in values)
    if not made:
        raise ValueError("a component has no version")
    return made
