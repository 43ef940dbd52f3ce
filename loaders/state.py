"""The state of a loader: what was delivered, as a handful of integers that are equal on every rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dataplane.errors import FormatTooNew, StateMismatch

__all__ = ["State"]

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class State:
    """Where a loader stands: everything that decides which samples come next, whatever the world size, batch size and threads.

    `position` counts the samples of this epoch that all ranks together have delivered, and `commit` is the id of the version's commit:
    two datasets may share a name and a number in two lakes, but never that.
    """

    dataset: str
    version: int
    commit: str
    split: str
    samples: int
    seed: int
    epoch: int
    position: int
    lanes: int
    window: int
    shuffle: bool

    def to_dict(self) -> dict[str, Any]:
        """The form for checkpoints: plain JSON values, whatever integers this was made of."""
        return {"format": _FORMAT, **{name: kind(getattr(self, name)) for name, kind in _KINDS.items()}}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> State:
        """The inverse of `to_dict`. Raises `StateMismatch` for what is no state, `FormatTooNew` for one of a newer release."""
        if not isinstance(value, Mapping) or not isinstance(value.get("format"), int):
            raise StateMismatch(f"not a loader state: {value!r:.200}; pass what state_dict() returned")
        if value["format"] > _FORMAT:
            raise FormatTooNew(f"a loader state of format {value['format']}; this release reads up to {_FORMAT}: upgrade dataplane")
        try:
            return cls(**{name: kind(value[name]) for name, kind in _KINDS.items()})
        except (KeyError, TypeError, ValueError) as error:
            raise StateMismatch(f"a damaged loader state: {error!r} in {dict(value)!r:.300}") from error


_KINDS: Final[Mapping[str, type]] = {
    "dataset": str,
    "version": int,
    "commit": str,
    "split": str,
    "samples": int,
    "seed": int,
    "epoch": int,
    "position": int,
    "lanes": int,
    "window": int,
    "shuffle": bool,
}
