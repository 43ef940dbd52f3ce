"""How much of an object to read at once when only headers are wanted. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["LOCAL", "REMOTE", "Costs", "Windows"]


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one kind of store. Bytes up to `gap_bytes` are cheaper to read than one more request is."""

    first_bytes: int
    small_bytes: int
    largest_bytes: int
    gap_bytes: int


LOCAL: Final = Costs(first_bytes=64 << 10, small_bytes=4 << 10, largest_bytes=1 << 20, gap_bytes=16 << 10)
REMOTE: Final = Costs(first_bytes=16 << 10, small_bytes=4 << 10, largest_bytes=4 << 20, gap_bytes=32 << 10)


class Windows:
    """Windows over an object: small where large payloads lie between headers, which are jumped over then; ever larger where headers stand
    close together, so that few requests read it all. How small is learned too: the headers between two large payloads should fit."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._size = costs.first_bytes
        self._small = costs.small_bytes

    def next(self, needed: int) -> int:
        """The length of the next window, at least `needed` bytes."""
        return max(self._size, needed)

    def learn(self, *, advanced: int, jumps: int) -> None:
        """The last window took the walk `advanced` bytes further, over `jumps` payloads of some size."""
        costs = self._costs
        if jumps and advanced > costs.gap_bytes * jumps:
            self._size = self._small
            return
        if not jumps and self._size == self._small:
            self._small = min(2 * self._small, costs.first_bytes)
        self._size = min(2 * self._size, costs.largest_bytes)
