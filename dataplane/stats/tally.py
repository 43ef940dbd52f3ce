"""Counts that add up: what one piece of a version's metadata says, as a frozen value.

The tallies of two pieces, added, are the tally of both. So a version is counted piece by piece, in memory that does not grow with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["ASPECTS", "SIZES", "Column", "Grid", "Histogram", "Moments", "Tally"]

SIZES: Final[tuple[int, ...]] = (0, *sorted({int(np.ceil(2 ** (half / 2))) for half in range(96)}))
"""Edges for bytes and pixels: zero, and two steps for each doubling."""

ASPECTS: Final[tuple[float, ...]] = tuple(float(2 ** ((step - 0.5) / 4)) for step in range(-12, 14))
"""Edges for width / height, four steps for each doubling from 1:8 to 8:1; a square is in the middle of its step. The outermost hold what is
beyond them too."""

_HIDDEN: Final = frozenset({"shard", "row", "split"})  # where a sample lies is no property of it

Scale = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values lie between neighbours of `edges`: from each edge on, up to the next. Values beyond the ends count there."""

    edges: Scale
    counts: tuple[int, ...]

    @classmethod
    def of(cls, values: npt.NDArray[Any], edges: Scale) -> Histogram:
        """The histogram of some values."""
        counts = np.bincount(_places(values, edges), minlength=len(edges) - 1)
        return cls(edges, tuple(counts.tolist()))

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(self.edges, tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    @property
    def used(self) -> range:
        """From the first place with a count to the last."""
        places = [place for place, count in enumerate(self.counts) if count]
        return range(places[0], places[-1] + 1) if places else range(0)

    def to_json(self) -> list[dict[str, Any]]:
        """The used places, in order."""
        return [{"from": self.edges[place], "to": self.edges[place + 1], "count": self.counts[place]} for place in self.used]


@dataclass(frozen=True, slots=True)
class Grid:
    """How many pairs of values lie in each pair of places of `SIZES`. Empty cells are left out."""

    cells: Mapping[tuple[int, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Grid:
        """The grid of some pairs."""
        across = len(SIZES)
        found, counts = np.unique(_places(x, SIZES) * across + _places(y, SIZES), return_counts=True)
        return cls({divmod(int(cell), across): int(count) for cell, count in zip(found, counts, strict=True)})

    def __add__(self, other: Grid) -> Grid:
        return Grid(dict(Counter(self.cells) + Counter(other.cells)))

    def side(self, axis: int) -> Histogram:
        """The histogram of the first or the second values alone."""
        counts = [0] * (len(SIZES) - 1)
        for cell, count in self.cells.items():
            counts[cell[axis]] += count
        return Histogram(SIZES, tuple(counts))


@dataclass(frozen=True, slots=True)
class Moments:
    """Of numbers: how many there are, the lowest and highest, the mean, and the sum of squared distances from it. `odd` are infinite or not
    a number, and count for nothing else."""

    count: int = 0
    low: float | None = None
    high: float | None = None
    mean: float = 0.0
    squares: float = 0.0
    odd: int = 0

    @classmethod
    def of(cls, column: Any) -> Moments:
        """The moments of an Arrow column of numbers or truth values; nulls are left out."""
        values = column.drop_null()
        if pa.types.is_boolean(values.type):
            values = values.cast(pa.uint8())
        elif pa.types.is_float16(values.type):  # Arrow computes nothing in it
            values = values.cast(pa.float32())
        total = len(values)
        if pa.types.is_floating(values.type):
            values = values.filter(pc.is_finite(values))
        if not len(values):
            return cls(odd=total)
        ends = pc.min_max(values).as_py()
        numbers = values.cast(pa.float64(), safe=False).to_numpy()
        with np.errstate(over="ignore", invalid="ignore"):  # numbers near the end of what a float can hold: the deviation is then infinite
            mean = float(numbers.mean())
            squares = float(np.square(numbers - mean).sum())
        low, high = (_plain(ends[name]) for name in ("min", "max"))
        return cls(len(values), low, high, mean, squares, total - len(values))

    def __add__(self, other: Moments) -> Moments:
        odd = self.odd + other.odd
        if not self.count or not other.count:
            one = self if self.count else other
            return Moments(one.count, one.low, one.high, one.mean, one.squares, odd)
        assert self.low is not None and self.high is not None and other.low is not None and other.high is not None  # noqa: PT018
        count, apart = self.count + other.count, other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        squares = self.squares + other.squares + apart * apart * (self.count * (other.count / count))
        return Moments(count, min(self.low, other.low), max(self.high, other.high), mean, squares, odd)

    @property
    def deviation(self) -> float:
        """The standard deviation of all of them, as a population."""
        return float(np.sqrt(self.squares / self.count)) if self.count else 0.0


@dataclass(frozen=True, slots=True)
class Column:
    """One column of metadata: its Arrow types (several where parts differ), how many samples have a value, and what the values are. Times
    have no moments, but a `first` and a `last`."""

    types: frozenset[str]
    valid: int
    moments: Moments | None = None
    first: str | None = None
    last: str | None = None

    @classmethod
    def of(cls, column: Any) -> Column:
        """What there is to say about an Arrow column."""
        kind = column.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        named = frozenset({str(kind)})
        valid = len(column) - column.null_count
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
            return cls(named, valid, Moments.of(column.cast(kind)))
        if valid and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            ends = pc.min_max(column)
            return cls(named, valid, None, *(_time(ends[name]) for name in ("min", "max")))
        return cls(named, valid)

    def __add__(self, other: Column) -> Column:
        moments = self.moments + other.moments if self.moments and other.moments else self.moments or other.moments
        firsts = [each for each in (self.first, other.first) if each is not None]
        lasts = [each for each in (self.last, other.last) if each is not None]
        return Column(self.types | other.types, self.valid + other.valid, moments, min(firsts, default=None), max(lasts, default=None))


@dataclass(frozen=True, slots=True)
class Tally:
    """What a piece of a version's metadata adds up to: samples by label (None: no label) and split, its columns, the bytes of its samples,
    and the shapes of those that have a width and a height. A column that only some pieces have is null in the others."""

    samples: int = 0
    labels: Mapping[tuple[str | None, str], int] = field(default_factory=dict)
    columns: Mapping[str, Column] = field(default_factory=dict)
    bytes: Histogram = field(default_factory=lambda: _empty(SIZES))
    aspects: Histogram = field(default_factory=lambda: _empty(ASPECTS))
    shapes: Grid = field(default_factory=Grid)

    @classmethod
    def of(cls, table: Any) -> Tally:
        """The tally of a table with the columns `split`, `label`, `width`, `height` and `bytes`, and any more."""
        shaped = pc.and_(pc.greater(table.column("width"), 0), pc.greater(table.column("height"), 0))
        with_shape = table.select(["width", "height"]).filter(shaped)
        width, height = (with_shape.column(name).to_numpy() for name in ("width", "height"))
        return cls(
            len(table),
            _labels(table),
            {name: Column.of(table.column(name)) for name in table.column_names if name not in _HIDDEN},
            Histogram.of(table.column("bytes").to_numpy(), SIZES),
            Histogram.of(width / height, ASPECTS),
            Grid.of(width, height),
        )

    def __add__(self, other: Tally) -> Tally:
        columns = dict(self.columns)
        for name, column in other.columns.items():
            columns[name] = columns[name] + column if name in columns else column
        return Tally(
            self.samples + other.samples,
            dict(Counter(self.labels) + Counter(other.labels)),
            columns,
            self.bytes + other.bytes,
            self.aspects + other.aspects,
            self.shapes + other.shapes,
        )


def _empty(edges: Scale) -> Histogram:
    return Histogram(edges, (0,) * (len(edges) - 1))


def _places(values: npt.NDArray[Any], edges: Scale) -> npt.NDArray[np.int64]:
    return np.clip(np.searchsorted(np.asarray(edges), values, "right") - 1, 0, len(edges) - 2)


def _labels(table: Any) -> dict[tuple[str | None, str], int]:
    counted = table.select(["label", "split"]).group_by(["label", "split"]).aggregate([([], "count_all")])
    label, split, count = (counted.column(name).to_pylist() for name in ("label", "split", "count_all"))
    return dict(zip(zip(label, split, strict=True), count, strict=True))


def _plain(value: Any) -> float:
    """An int as it is, as it may have more digits than a float."""
    return value if isinstance(value, int) else float(value)


def _time(value: Any) -> str:
    """ISO text, which sorts as times do. A time zone is left out: they are stored as UTC."""
    if pa.types.is_timestamp(value.type):
        value = value.cast(pa.timestamp(value.type.unit))
    return str(value.cast(pa.string()).as_py())
