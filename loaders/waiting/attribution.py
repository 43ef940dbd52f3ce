"""What a step's wait was for. Pure.

The rule: **the wait is split as the thread that finished the batch spent it.** That thread ran the last of the batch's jobs, so nothing the
others did could have made the batch come sooner. While it still had other jobs to do, those are what the batch's job queued for. What
the consumer's own thread does within the step (planning, copying) is counted as that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from dataplane.stages import Stage

__all__ = ["Step", "attribute"]


_BUT_IDLE: Final = (0.0,) * (len(Stage) - 1)


class Step(NamedTuple):
    """One delivered batch: seconds that the consumer was away before it asked, and that it then waited, by `Stage`. They
    add up to the wall-clock time from one delivery to the next; `IDLE` is always 0."""

    consumer: float
    waits: tuple[float, ...]
    end: float = 0.0
    """When it was delivered, as `perf_counter` has it."""

    @property
    def wait(self) -> float:
        """Seconds in all."""
        return sum(self.waits)


def attribute(*, planning: float, blocked: float, copying: float, spent: Sequence[float]) -> tuple[float, ...]:
    """Seconds of a wait by stage: the consumer's thread planned, then was blocked, then copied, for so many seconds.

    `spent` are the seconds by stage, of any scale, of the thread that finished the batch while the consumer was blocked. While that thread
    was idle the batch's work had not reached it: that is planning. Where nothing is known of it, all is.
    """
    known = sum(spent)
    waits = [blocked * seconds / known for seconds in spent] if known > 0 else [blocked, *_BUT_IDLE]
    waits[Stage.PLAN] += planning + waits[Stage.IDLE]
    waits[Stage.COPY] += copying
    waits[Stage.IDLE] = 0.0
    return tuple(waits)
