"""Tallies: what the pieces add up to is what the whole is, however it was cut; and the numbers are those of an independent count."""

import datetime
import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.stats.tally import ASPECTS, SIZES, Column, Grid, Histogram, Moments, Tally

WHOLE = pa.schema(
    [
        ("split", pa.string()),
        ("label", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bytes", pa.int64()),
        ("score", pa.float64()),
        ("good", pa.bool_()),
        ("taken", pa.timestamp("us")),
    ]
)
side = st.none() | st.integers(0, 5000)
rows = st.fixed_dictionaries(
    {
        "split": st.sampled_from(["train", "test"]),
        "label": st.none() | st.sampled_from(["cat", "dog", ""]),
        "width": side,
        "height": side,
        "bytes": st.integers(0, 2**44),
        "score": st.none() | st.floats(width=32),
        "good": st.none() | st.booleans(),
        "taken": st.none() | st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1)),
    }
)


def tally(samples, without=()):
    return Tally.of(pa.Table.from_pylist(samples, schema=WHOLE).drop_columns(list(without)))


def same(one, other):
    """Equal, where sums of floats may differ in their last digits."""
    assert (one.samples, one.labels, one.bytes, one.aspects, one.shapes) == (
        other.samples,
        other.labels,
        other.bytes,
        other.aspects,
        other.shapes,
    )
    assert one.columns.keys() == other.columns.keys()
    for name, column in one.columns.items():
        second = other.columns[name]
        assert (column.types, column.valid, column.first, column.last) == (second.types, second.valid, second.first, second.last)
        if column.moments is None:
            assert second.moments is None
            continue
        a, b = column.moments, second.moments
        assert (a.count, a.low, a.high, a.odd) == (b.count, b.low, b.high, b.odd)
        scale = max(abs(a.low or 0), abs(a.high or 0), 1e-300)
        assert a.mean == pytest.approx(b.mean, rel=1e-9, abs=1e-12 * scale)
        assert a.deviation == pytest.approx(b.deviation, rel=1e-6, abs=1e-9 * scale)


@given(st.lists(st.lists(rows, max_size=12), min_size=1, max_size=5))
@settings(deadline=None, max_examples=150)
def test_the_parts_add_up_to_the_whole(parts):
    added = Tally()
    for part in parts:
        added += tally(part)
    same(added, tally([sample for part in parts for sample in part]))


@given(st.lists(rows, max_size=8), st.lists(rows, max_size=8), st.lists(rows, max_size=8))
@settings(deadline=None, max_examples=50)
def test_the_order_does_not_matter(a, b, c):
    same(tally(a) + (tally(b) + tally(c)), (tally(c) + tally(a)) + tally(b))


@given(st.lists(rows, max_size=40))
@settings(deadline=None, max_examples=100)
def test_the_numbers_are_those_of_a_plain_count(samples):
    found = tally(samples)
    assert found.samples == len(samples)
    assert found.labels == Counter((row["label"], row["split"]) for row in samples)
    assert sum(found.bytes.counts) == len(samples)
    shaped = [row for row in samples if row["width"] and row["height"]]
    assert sum(found.shapes.cells.values()) == sum(found.aspects.counts) == len(shaped)
    assert sum(found.shapes.side(0).counts) == len(shaped)
    for (x, y), count in found.shapes.cells.items():
        assert count == sum(SIZES[x] <= row["width"] < SIZES[x + 1] and SIZES[y] <= row["height"] < SIZES[y + 1] for row in shaped)
    for name in ("width", "height", "bytes", "score", "good"):
        values = [row[name] for row in samples if row[name] is not None]
        column = found.columns[name]
        finite = [value for value in values if math.isfinite(value)]
        assert (column.valid, column.moments.count, column.moments.odd) == (len(values), len(finite), len(values) - len(finite))
        if finite:
            assert (column.moments.low, column.moments.high) == (min(finite), max(finite))
            assert column.moments.mean == pytest.approx(np.mean(finite), rel=1e-9, abs=1e-9)
            assert column.moments.deviation == pytest.approx(np.std(finite), rel=1e-6, abs=1e-9)
    times = [row["taken"] for row in samples if row["taken"] is not None]
    taken = found.columns["taken"]
    assert (taken.first, taken.last) == (
        (min(times).isoformat(" ", "microseconds"), max(times).isoformat(" ", "microseconds")) if times else (None, None)
    )


def test_a_column_that_only_some_parts_have_is_null_in_the_others():
    one = {"split": "a", "label": None, "width": None, "height": None, "bytes": 1, "score": 0.5, "good": None, "taken": None}
    found = tally([one, one]) + tally([one] * 3, without=["score"])
    assert (found.samples, found.columns["score"].valid) == (5, 2)
    same(tally([one] * 3, without=["score"]) + tally([one, one]), found)


def test_edges():
    assert list(SIZES) == sorted(set(SIZES))
    assert SIZES[:8] == (0, 1, 2, 3, 4, 6, 8, 12)
    assert {2**power for power in range(47)} <= set(SIZES)
    assert ASPECTS[12] * ASPECTS[13] == pytest.approx(1)  # a square is in the middle of its step
    ends = Histogram.of(np.array([-5, 0, 1, 2**62]), SIZES)
    assert (ends.counts[0], ends.counts[1], ends.counts[-1]) == (2, 1, 1)
    assert ends.to_json()[0] == {"from": 0, "to": 1, "count": 2}
    assert Histogram.of(np.zeros(0), SIZES).to_json() == []
    assert Histogram.of(np.array([0.001, 1.0, 1000.0]), ASPECTS).counts[12] == 1
    assert Grid.of(np.zeros(0), np.zeros(0)).cells == {}


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, 2, None]).cast(pa.decimal128(38, 2)), Moments(2, 1.0, 2.0, 1.5, 0.5)),
        (pa.array([2**64 - 1], pa.uint64()), Moments(1, 2**64 - 1, 2**64 - 1, float(2**64), 0.0)),
        (pa.array(np.array([1, 2, 3], np.float16)), Moments(3, 1.0, 3.0, 2.0, 2.0)),
        (pa.array([True, True, None]), Moments(2, 1, 1, 1.0, 0.0)),
        (pa.array([1, 3, 1]).dictionary_encode(), Moments(3, 1, 3, 5 / 3, pytest.approx(8 / 3))),
        (pa.array([float("nan"), float("inf"), None]), Moments(odd=2)),
        (pa.array(["a"]), None),
        (pa.array([[1], [2]]), None),
        (pa.nulls(3), None),
    ],
)
def test_every_type_of_column(column, expected):
    found = Column.of(pa.chunked_array([column]))
    assert found.moments == expected
    assert found.valid == len(column) - column.null_count


def test_numbers_at_the_end_of_what_a_float_holds():
    found = Moments.of(pa.array([1.7e308, -1.7e308, 1.7e308])) + Moments.of(pa.array([1.7e308]))
    assert (found.low, found.high, found.count) == (-1.7e308, 1.7e308, 4)
    assert found.deviation == math.inf


def test_types_that_differ_between_parts_are_all_told():
    assert (Column.of(pa.array([1])) + Column.of(pa.array([0.5, None]))).types == {"int64", "double"}


def test_times_in_a_zone_are_utc():
    when = pa.array([datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)], pa.timestamp("s", tz="Europe/Berlin"))
    assert Column.of(when).first == "2020-01-01 00:00:00"
