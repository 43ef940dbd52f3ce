"""Which entries leave the hot tier first. Pure: no clock, no disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Entry", "eviction_order"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A complete object of the hot tier. `used` is when it was last read, in nanoseconds since 1970 as far as the index knows."""

    key: str
    size: int
    used: int


def eviction_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """`entries`, the first to evict first: least recently used, ties by key, so that the order depends on nothing else."""
    return tuple(sorted(entries, key=lambda entry: (entry.used, entry.key)))
