"""The newest steps of a loader, as figures. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from dataplane.stages import Stage
from loaders.waiting.attribution import Step

__all__ = ["WAITS", "Lap", "Recent", "percentile"]

WAITS = (Stage.COLD, Stage.HOT, Stage.DECODE, Stage.TRANSFORM, Stage.COPY, Stage.PLAN)
"""What a consumer can wait for, in the order in which reports name it."""


class Lap(NamedTuple):
    """Totals at one moment: batches and samples delivered, bytes of samples read, and the threads' seconds by stage."""

    time: float
    batches: int
    samples: int
    bytes: int
    work: tuple[float, ...]


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest of `values` that at least `share` of them do not exceed; 0.0 of none."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else 0.0


@dataclass(frozen=True, slots=True)
class Recent:
    """Some steps, oldest first, and the work of the threads over about the same time.

    `work` are seconds by stage, summed over threads, `seconds` the time in which they were spent; `samples` were delivered and `bytes` read
    meanwhile: all zeros where less than two moments are known.
    """

    steps: tuple[Step, ...] = ()
    seconds: float = 0.0
    samples: int = 0
    bytes: int = 0
    work: tuple[float, ...] = (0.0,) * len(Stage)

    @classmethod
    def of(cls, steps: Sequence[Step], laps: Sequence[Lap]) -> Self:
        """From the first of the laps to the last, and of the steps those since then; all steps, where there are not two laps."""
        if len(laps) < 2:
            return cls(tuple(steps))
        first, last = laps[0], laps[-1]
        work = tuple(b - a for a, b in zip(first.work, last.work, strict=True))
        return cls(
            tuple(step for step in steps if step.end > first.time),
            last.time - first.time,
            last.samples - first.samples,
            last.bytes - first.bytes,
            work,
        )

    @property
    def consumer(self) -> float:
        """Seconds that the consumer was away."""
        return sum(step.consumer for step in self.steps)

    @property
    def waits(self) -> tuple[float, ...]:
        """Seconds waited, by stage."""
        return tuple(map(sum, zip(*(step.waits for step in self.steps), strict=True))) or (0.0,) * len(Stage)

    @property
    def waiting(self) -> float:
        """The share of the time that was waiting; 0.0 where there was none."""
        wait = sum(self.waits)
        return wait / (wait + self.consumer) if wait > 0 else 0.0

    @property
    def idle(self) -> float:
        """The share of their time in which threads had nothing to do."""
        return self.work[Stage.IDLE] / sum(self.work) if sum(self.work) > 0 else 0.0

    def percentiles(self, totals: Sequence[float]) -> dict[str, dict[str, float]]:
        """By what was waited for, and of "all": `seconds`, from `totals` by stage, and `p50` and `p99` of a step's wait."""
        found = {"all": self._percentiles(sum(totals), [step.wait for step in self.steps])}
        for stage in WAITS:
            found[stage.name.lower()] = self._percentiles(totals[stage], [step.waits[stage] for step in self.steps])
        return found

    @staticmethod
    def _percentiles(seconds: float, waits: Sequence[float]) -> dict[str, float]:
        return {"seconds": seconds, "p50": percentile(waits, 0.5), "p99": percentile(waits, 0.99)}
