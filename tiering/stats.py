"""What a hot tier counted."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["Counters", "HotStats", "known"]


@dataclass(frozen=True, slots=True)
class HotStats:
    """Figures of a hot tier. From `HotStore.stats()` the counters are that store's own; from `tier status`, of all processes so far.

    Reads: `hits` were served from hot at once; `misses` found no hot copy and fetched one, waited for one, or fell through;
    `fallthroughs` are the misses that cold served directly because hot could not.
    Objects: `fills` came in, `evictions` went out, `corrupt` had wrong bytes, on arrival or later.
    Bytes: `hot_bytes` were served by hits, `cold_bytes` were fetched from cold.
    """

    bytes: int
    limit_bytes: int
    index_bytes: int
    objects: int
    hits: int = 0
    misses: int = 0
    fallthroughs: int = 0
    fills: int = 0
    evictions: int = 0
    corrupt: int = 0
    hot_bytes: int = 0
    cold_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


_COUNTED = tuple(field.name for field in fields(HotStats))[4:]


def known(counters: Mapping[str, int]) -> dict[str, int]:
    """The counters that this release knows, of those that some release recorded."""
    return {name: count for name, count in counters.items() if name in _COUNTED}


class Counters:
    """The counters of one process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals = dict.fromkeys(_COUNTED, 0)
        self._taken = dict(self._totals)

    def add(self, name: str, count: int = 1) -> None:
        with self._lock:
            self._totals[name] += count

    def set(self, name: str, count: int) -> None:
        """Set a counter that is kept elsewhere."""
        with self._lock:
            self._totals[name] = count

    def totals(self) -> dict[str, int]:
        with self._lock:
            return dict(self._totals)

    def take(self) -> dict[str, int]:
        """What was added since the last call, without the zeros."""
        with self._lock:
            deltas = {name: count - self._taken[name] for name, count in self._totals.items() if count != self._taken[name]}
            self._taken = dict(self._totals)
            return deltas
