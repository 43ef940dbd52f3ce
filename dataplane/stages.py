"""What each thread of a loader is doing: threads say when they go from one stage of the work to another.

Code far from the loader says it too, such as a hot tier that has to fetch from the cold one, and so need not know who asks. A thread that
nobody watches has no clock, and then saying it costs the look-up of a variable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, MutableSequence
from enum import IntEnum
from time import perf_counter
from typing import Final

__all__ = ["Clock", "Stage", "clocked", "enter", "entering"]


class Stage(IntEnum):
    """What time is spent on. `IDLE`: a thread has nothing to do. `PLAN`: finding out which samples come next, and handing out the work.
    `COLD`, `HOT`: reading from the lake's store, or from a local copy. `COPY`: from the batch's memory to where the consumer wants it."""

    IDLE = 0
    PLAN = 1
    COLD = 2
    HOT = 3
    DECODE = 4
    TRANSFORM = 5
    COPY = 6


class Clock:
    """What one thread spends its time on. That thread alone calls `enter`; anybody may read, and sees a moment ago.

    `log`, where somebody puts a list or a deque there, gets (seconds of `perf_counter`, stage) for each change. `ended`: no more come.
    """

    __slots__ = ("_seconds", "_since", "ended", "log", "name", "stage")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ended = False
        self.stage: int = Stage.IDLE
        self.log: MutableSequence[tuple[float, int]] | None = None
        self._seconds = [0.0] * len(Stage)
        self._since = perf_counter()

    def enter(self, stage: int) -> int:
        """From now on the thread is at `stage`. Which it was at before."""
        now = perf_counter()
        before = self.stage  # no call from here to the end: nobody else runs in between
        self._seconds[before] += now - self._since
        self._since = now
        self.stage = stage
        if self.log is not None:
            self.log.append((now, stage))
        return before

    def end(self) -> None:
        """The thread is done: totals stand still. Idempotent."""
        if not self.ended:
            self.enter(Stage.IDLE)
            self.ended = True

    def totals(self) -> list[float]:
        """Seconds by stage since it was made, to this moment. A thread that was interrupted on its way into `enter` can take back, for
        another stage, what it seemed to spend meanwhile."""
        found, stage, since = self._seconds[:], self.stage, self._since
        if not self.ended:
            found[stage] += max(0.0, perf_counter() - since)
        return found


class _Here(threading.local):
    clock: Clock | None = None


_here: Final = _Here()


def enter(stage: int) -> int:
    """This thread is at `stage` from now on. Which it was at before: give it back to `enter` at the end. After an error there is no need
    to: waiting for a store that failed is waiting for that store. Costs a tenth of a microsecond."""
    clock = _here.clock
    return stage if clock is None else clock.enter(stage)


def entering() -> Callable[[int], int]:
    """What `enter` is on this thread, looked up once for many calls."""
    clock = _here.clock
    return enter if clock is None else clock.enter


def clocked(clock: Clock | None) -> Clock | None:
    """Have `clock` take this thread's time, or nobody. Whose it was before."""
    before, _here.clock = _here.clock, clock
    return before
