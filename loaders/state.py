"""The state of a loader: what was delivered, as a handful of integers that are equal on every rank.

Format 1 is that of the samples of one split, and stays so. Format 2 has, beside the same keys, `how` the samples of one feed are made of a
split, or else is that of a mixture (`loaders.blended`), which has `components`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dataplane.errors import FormatTooNew, StateMismatch

__all__ = ["State", "check_state", "plain"]

_PLAIN: Final = 1
_FORMAT: Final = 2


@dataclass(frozen=True, slots=True)
class State:
    """Where a loader of one feed stands: everything that decides which samples come next, whatever the world size, batch size and threads.

    `position` counts the samples of this epoch that all ranks together have delivered, and `commit` is the id of the version's commit:
    two datasets may share a name and a number in two lakes, but never that. `how` is a feed's `identity`, empty for plain samples.
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
    how: Mapping[str, str | int] = field(default_factory=dict)

    def moved(self, position: int) -> State:
        """The same epoch, `position` of it delivered."""
        return replace(self, position=position)

    def next_epoch(self) -> State:
        """The start of the epoch after this one."""
        return replace(self, epoch=self.epoch + 1, position=0)

    def to_dict(self) -> dict[str, Any]:
        """The form for checkpoints: plain JSON values, whatever integers this was made of."""
        values = {name: kind(getattr(self, name)) for name, kind in _KINDS.items()}
        return {"format": _FORMAT, **values, "how": plain(self.how)} if self.how else {"format": _PLAIN, **values}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> State:
        """The inverse of `to_dict`. Raises `StateMismatch` for what is no state of one feed, `FormatTooNew` for one of a newer release."""
        check_state(value)
        if "components" in value:
            raise StateMismatch(f"the state is of a mixture ({_names(value)}), this loader has one dataset; give it a Mixture of the same")
        try:
            return cls(**{name: kind(value[name]) for name, kind in _KINDS.items()}, how=dict(value.get("how", {})))
        except (KeyError, TypeError, ValueError) as error:
            raise StateMismatch(f"a damaged loader state: {error!r} in {dict(value)!r:.300}") from error


def _names(value: Mapping[str, Any]) -> str:
    """Of a mixture's components."""
    components = value["components"] if isinstance(value["components"], list) else []
    return ", ".join(str(each.get("name")) for each in components if isinstance(each, Mapping))


def plain(how: Mapping[str, str | int]) -> dict[str, str | int]:
    """A feed's `identity` as JSON has it: numpy's integers are none there."""
    return {name: value if isinstance(value, str) else int(value) for name, value in how.items()}


def check_state(value: Any) -> None:
    """Raise `StateMismatch` for what is no state at all, `FormatTooNew` for one of a newer release."""
    if not isinstance(value, Mapping) or not isinstance(value.get("format"), int):
        raise StateMismatch(f"not a loader state: {value!r:.200}; pass what state_dict() returned")
    if value["format"] > _FORMAT:
        raise FormatTooNew(f"a loader state of format {value['format']}; this release reads up to {_FORMAT}: upgrade dataplane")


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
