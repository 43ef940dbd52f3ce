"""Where a loader's time goes: counted by the threads that spend it, read by anybody."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Spent", "Stats"]


@dataclass(slots=True)
class Spent:
    """What some work took. Seconds are summed over threads: n threads can spend n seconds in one."""

    samples: int = 0
    bytes: int = 0
    read_seconds: float = 0.0
    decode_seconds: float = 0.0


class Stats:
    """Totals of one loader since it was made. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent = Spent()
        self._batches = 0
        self._wait_seconds = 0.0
        self._consumer_seconds = 0.0

    def add(self, spent: Spent) -> None:
        """Count the work of one job."""
        with self._lock:
            self._spent.samples += spent.samples
            self._spent.bytes += spent.bytes
            self._spent.read_seconds += spent.read_seconds
            self._spent.decode_seconds += spent.decode_seconds

    def delivered(self, *, wait_seconds: float, consumer_seconds: float) -> None:
        """Count a batch: how long the consumer waited for it, and how long it was away before it asked."""
        with self._lock:
            self._batches += 1
            self._wait_seconds += wait_seconds
            self._consumer_seconds += consumer_seconds

    def to_dict(self) -> dict[str, Any]:
        """The totals, with `bound_by`: what to look at first when the accelerator waits."""
        with self._lock:
            totals: dict[str, Any] = {
                "batches": self._batches,
                **asdict(self._spent),
                "wait_seconds": self._wait_seconds,
                "consumer_seconds": self._consumer_seconds,
            }
        totals["bound_by"] = _bound_by(totals)
        return totals


def _bound_by(totals: dict[str, Any]) -> str:
    if totals["wait_seconds"] <= 0.1 * totals["consumer_seconds"]:
        return "consumer"
    return "read" if totals["read_seconds"] > totals["decode_seconds"] else "decode"
