"""Sets of numbers as a few intervals: which versions of a dataset are gone, as its commits say it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from dataplane.errors import CorruptObject

__all__ = ["Numbers"]


@dataclass(frozen=True, slots=True)
class Numbers:
    """An immutable set of positive integers: `intervals` are disjoint, ascending, and hold both their ends."""

    intervals: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Numbers:
        """The set of these numbers."""
        return cls(_merged((number, number) for number in numbers))

    @classmethod
    def upto(cls, last: int) -> Numbers:
        """1 … last."""
        return cls(((1, last),)) if last > 0 else cls()

    @classmethod
    def from_json(cls, value: Any) -> Numbers:
        """The inverse of `to_json`. Raises `CorruptObject`."""
        try:
            found = cls(tuple((int(first), int(last)) for first, last in value))
        except (TypeError, ValueError) as error:
            raise CorruptObject(f"not a set of numbers: {value!r}") from error
        if _merged(found.intervals) != found.intervals:
            raise CorruptObject(f"not a set of numbers: {value!r}")
        return found

    def to_json(self) -> list[list[int]]:
        """The form in a commit."""
        return [[first, last] for first, last in self.intervals]

    def __or__(self, other: Numbers) -> Numbers:
        return Numbers(_merged(chain(self.intervals, other.intervals)))

    def __contains__(self, number: int) -> bool:
        return any(first <= number <= last for first, last in self.intervals)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.intervals:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.intervals)

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __str__(self) -> str:
        return ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in self.intervals) or "none"

    def minus(self, other: Numbers) -> Numbers:
        """What is in this set and not in the other."""
        if not self.intervals:
            return self
        gaps = other.missing(self.intervals[-1][1]).intervals
        common = ((max(a, c), min(b, d)) for a, b in self.intervals for c, d in gaps if max(a, c) <= min(b, d))
        return Numbers(_merged(common))

    def missing(self, last: int) -> Numbers:
        """What of 1 … last is not in the set."""
        gaps, at = [], 1
        for first, end in self.intervals:
            if at < first:
                gaps.append((at, min(first - 1, last)))
            at = end + 1
        if at <= last:
            gaps.append((at, last))
        return Numbers(tuple(gap for gap in gaps if gap[0] <= gap[1]))


def _merged(intervals: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(intervals):
        if first < 1 or last < first:
            raise CorruptObject(f"not an interval of version numbers: {first} to {last}")
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return tuple(merged)
