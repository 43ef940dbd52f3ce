"""How many threads and how many batches ahead a loader should have, from what it saw. Pure: `Tuner` carries it out.

One thing is changed at a time, and taken back if waiting did not get less by it; then that thing is left alone for a while. What is
delivered never depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from dataplane.errors import InvalidArgument
from dataplane.stages import Stage
from loaders.waiting.recent import Recent

__all__ = ["Limits", "Room", "Setting", "Tuning", "decide", "settled_for"]

_UNFELT: Final = 0.02  # share of waiting that is not worth a change
_IDLE: Final = 0.1  # share of threads' time that is worth more batches under way
_BUSY: Final = 0.5  # a share of idle time above which it is not for want of threads that anybody waits
_BETTER: Final = 0.95  # of the wait of a step before: a change that gives no less than this is taken back
_REST: Final = 20  # windows in which what did not help is not tried again
_READING: Final = (Stage.COLD, Stage.HOT)
_WORKING: Final = (Stage.DECODE, Stage.TRANSFORM)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a loader may choose of itself: up to so many `threads`, and up to so many batches ahead (`prefetch`), of `prefetch_bytes` in
    all, though two of any size. None is a GiB, or an eighth of the memory that this process may use where that is less."""

    threads: int = 32
    prefetch: int = 64
    prefetch_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("threads", 1), ("prefetch", 1), ("prefetch_bytes", 0)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise InvalidArgument(f"Limits: {name} is {value!r}; it must be a whole number of {least} or more")


@dataclass(frozen=True, slots=True)
class Setting:
    """Threads at work, and batches prepared while the consumer has one."""

    threads: int
    prefetch: int


@dataclass(frozen=True, slots=True)
class Tuning:
    """Where tuning stands. `tried`: which of the setting's numbers was changed just now, or ""; `before` is the setting to go back to,
    `wait` the seconds that a step waited then. `rests`: for how many windows either number is left alone."""

    setting: Setting
    tried: str = ""
    before: Setting | None = None
    wait: float = 0.0
    rests: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Room:
    """Between which numbers a setting must stay: the same twice for one that is not to change. `cores`: how many threads can compute at
    a time."""

    least: Setting
    most: Setting
    cores: int


def decide(tuning: Tuning, seen: Recent, room: Room) -> Tuning:
    """What to go on with, after the steps of `seen` with the setting that there is. It is within `room` if the old one was, or only had
    more batches ahead, as where those have grown.

    The very first step, for which things are opened and compiled, is seen by nobody: a time between two laps has none of it.
    """
    if tuning.setting.prefetch > room.most.prefetch:
        return Tuning(replace(tuning.setting, prefetch=room.most.prefetch), rests=tuning.rests)
    if not seen.steps or not seen.seconds > 0:
        return tuning
    wait = sum(seen.waits) / len(seen.steps)
    rests = {name: max(0, left - 1) for name, left in tuning.rests.items()}
    if tuning.tried and tuning.before is not None and wait > _BETTER * tuning.wait:
        return Tuning(tuning.before, rests={**rests, tuning.tried: _REST})
    if seen.waiting >= _UNFELT:
        for name, setting in _wishes(tuning.setting, seen, room):
            if setting != tuning.setting and not rests.get(name):
                return Tuning(setting, name, tuning.setting, wait, rests)
    return Tuning(tuning.setting, rests=rests)


def settled_for(tuning: Tuning, threads: int) -> Tuning:
    """The same with the threads that there are, where the machine has no more: they are not asked for again for a while."""
    return replace(tuning, setting=replace(tuning.setting, threads=threads), rests={**tuning.rests, "threads": _REST})


def _wishes(setting: Setting, seen: Recent, room: Room) -> Iterator[tuple[str, Setting]]:
    """What might help, the likeliest first, and which number that changes."""
    if seen.idle > _IDLE:  # they have nothing to do while somebody waits: what comes is uneven, and too little of it is under way
        yield "prefetch", replace(setting, prefetch=min(2 * setting.prefetch, room.most.prefetch))
    waits = seen.waits
    if sum(waits[stage] for stage in _READING) > sum(waits[stage] for stage in _WORKING):  # threads that wait for a store need no core
        if seen.idle < _BUSY:
            yield "threads", replace(setting, threads=min(2 * setting.threads, room.most.threads))
    elif setting.threads > room.cores:
        yield "threads", replace(setting, threads=max(room.cores, room.least.threads, setting.threads // 2))
