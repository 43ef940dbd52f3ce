"""How numbers of statistics are said, in a terminal and on a page alike."""

from __future__ import annotations

from collections.abc import Sequence

from dataplane.stats.tally import Column

__all__ = ["null_rate", "number", "pixels", "some", "spread"]


def null_rate(column: Column, samples: int) -> str:
    """The share of samples without a value; a few among many do not look like none."""
    nulls = samples - column.valid
    return "–" if not nulls else f"{max(nulls / samples, 0.0001):.2%}"


def spread(column: Column) -> tuple[str, str, str, str]:
    """Lowest, mean, deviation and highest of a column, where it has them."""
    moments = column.moments
    if moments is not None and moments.count and moments.low is not None and moments.high is not None:
        return number(moments.low), number(moments.mean), number(moments.deviation), number(moments.high)
    if column.first is not None and column.last is not None:
        return column.first, "", "", column.last
    return "", "", "", ""


def number(value: float) -> str:
    """An integer in full, else five digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.5g}"


def some(names: Sequence[str], count: int) -> str:
    """The first names of many."""
    return ", ".join(names[:count]) + (" …" if len(names) > count else "")


def pixels(value: float) -> str:
    """A length in pixels."""
    return f"{value:,.0f}"
