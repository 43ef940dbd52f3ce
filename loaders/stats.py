"""Where a loader's time goes: counted by the threads that spend it, read by anybody."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from operator import add
from time import perf_counter
from typing import Any, Final

from dataplane.errors import InvalidArgument
from dataplane.stages import Clock, Stage
from loaders.locks import lock_of
from loaders.pipeline import Handed
from loaders.waiting.attribution import Step, attribute
from loaders.waiting.recent import Lap, Recent
from loaders.waiting.trace import Tracer

__all__ = ["Spent", "Stats"]

_KEPT: Final = 512  # steps that percentiles and verdicts are of
_LAP_SECONDS: Final = 0.5  # at least, and
_LAP_BATCHES: Final = 4  # if they do not take
_LONG_SECONDS: Final = 5.0
_LAPS: Final = 20


@dataclass(slots=True)
class Spent:
    """What some work took."""

    samples: int = 0
    bytes: int = 0


class Stats:
    """Totals of one loader since it was made, and its newest steps. Thread-safe, and cheap: threads write to clocks of their own."""

    def __init__(self) -> None:
        self._lock = lock_of(self)
        self._clocks: list[Clock] = []
        self._ended = [0.0] * len(Stage)  # seconds of clocks whose threads are gone
        self._worked = [0.0] * len(Stage)  # that were told: a clock may take some back, a counter must not
        self._spent = Spent()
        self._batches = 0
        self._delivered = 0  # samples
        self._consumer_seconds = 0.0
        self._waits = [0.0] * len(Stage)
        self._steps: deque[Step] = deque(maxlen=_KEPT)
        self._laps: deque[Lap] = deque(maxlen=_LAPS)
        self._end: float | None = None  # of the newest delivery, while its consumer is away
        self._copied = 0.0  # seconds of that time, which are no time of the consumer's
        self._tracer: Tracer | None = None

    # ------------------------------------------------------------------ written by the loader

    def clock(self, name: str) -> Clock:
        """A clock for a thread that is about to begin."""
        clock = Clock(name)
        with self._lock:
            for ended in [clock for clock in self._clocks if clock.ended]:
                self._clocks.remove(ended)
                self._ended = list(map(add, self._ended, ended.totals()))
            self._clocks.append(clock)
            if self._tracer is not None:
                self._tracer.watch(clock)
        return clock

    def add(self, spent: Spent) -> None:
        """Count the work of one job."""
        with self._lock:
            self._spent.samples += spent.samples
            self._spent.bytes += spent.bytes

    def begin(self) -> None:
        """An iteration begins: nobody was away from it before, and what was seen before a long pause is no news any more."""
        self._end = None
        with self._lock:
            if self._laps and perf_counter() - self._laps[-1].time > _LONG_SECONDS:
                self._laps.clear()

    def copied(self, seconds: float) -> None:
        """So much of the time since the newest delivery went into copying its batch to where the consumer has it."""
        self._copied += seconds

    def delivered(self, handed: Handed, *, samples: int) -> bool:
        """Count a batch, which is being delivered at this moment. Whether a lap is over, which is a time to look at `recent`."""
        asked, planned, got, spent = handed
        end = perf_counter()
        away = 0.0 if self._end is None else asked - self._end
        copied, self._copied = min(self._copied, away), 0.0
        waits = attribute(planning=planned - asked, blocked=got - planned, copying=copied + end - got, spent=spent)
        step = Step(away - copied, waits, end)
        with self._lock:
            self._batches += 1
            self._delivered += samples
            self._consumer_seconds += step.consumer
            self._waits = list(map(add, self._waits, waits))
            self._steps.append(step)
            if self._tracer is not None:
                self._tracer.step(step, asked=asked, got=got, samples=samples)
            self._end = end
            return self._next_lap(end)

    def _next_lap(self, end: float) -> bool:
        if self._laps:
            since, batches = end - self._laps[-1].time, self._batches - self._laps[-1].batches
            if since < _LAP_SECONDS or (batches < _LAP_BATCHES and since < _LONG_SECONDS):
                return False
        self._laps.append(self._lap(end))
        return True

    def trace(self, tracer: Tracer | None) -> None:
        """Have a tracer get everything from now on, or none. Raises `InvalidArgument` where another one does."""
        with self._lock:
            if tracer is not None and self._tracer is not None:
                raise InvalidArgument("this loader is being traced already; end that trace first")
            self._tracer = tracer
            for clock in self._clocks:
                if tracer is None:
                    clock.log = None
                elif not clock.ended:
                    tracer.watch(clock)

    # ------------------------------------------------------------------ read by anybody

    @property
    def bytes(self) -> int:
        """Of samples read."""
        return self._spent.bytes

    def recent(self, *, laps: int = _LAPS) -> Recent:
        """The newest steps, and what the threads did in the newest laps."""
        with self._lock:
            return Recent.of(list(self._steps), list(self._laps)[-laps - 1 :])

    def to_dict(self) -> dict[str, Any]:
        """The totals: `wait_seconds` and `consumer_seconds` are of the consumer, all others are summed over threads."""
        with self._lock:
            totals: dict[str, Any] = {
                "batches": self._batches,
                "samples": self._spent.samples,
                "bytes": self._spent.bytes,
                "wait_seconds": sum(self._waits),
                "consumer_seconds": self._consumer_seconds,
            }
            waits, steps, work = self._waits, tuple(self._steps), self._work()
        totals["read_seconds"] = work[Stage.COLD] + work[Stage.HOT]
        totals["decode_seconds"] = work[Stage.DECODE] + work[Stage.TRANSFORM]
        totals["thread_seconds"] = {stage.name.lower(): work[stage] for stage in Stage if stage is not Stage.COPY}
        totals["waits"] = Recent(steps).percentiles(waits)
        return totals

    def _work(self) -> list[float]:
        """Seconds of all threads, by stage. Under the lock."""
        found = map(sum, zip(self._ended, *(clock.totals() for clock in self._clocks), strict=True))
        self._worked = list(map(max, self._worked, found))
        return self._worked

    def _lap(self, now: float) -> Lap:
        """The totals now. Under the lock."""
        return Lap(now, self._batches, self._delivered, self._spent.bytes, tuple(self._work()))
