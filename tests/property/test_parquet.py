"""The planner of Parquet shards against the obvious; and any values, in row groups of any size, read in any order."""

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane.formats import parquet
from dataplane.formats.index import read_index
from dataplane.formats.parquet_plan import batches, cut, gaps, pick
from dataplane.formats.parquet_values import fits
from dataplane.objects import Objects
from dataplane.ranges import Span
from dataplane.store import open_store

counts = st.lists(st.integers(0, 6), min_size=1, max_size=12)
sizes = st.lists(st.integers(0, 50), max_size=40)


@given(counts, st.data())
def test_picked_rows_are_the_rows(counts, data):
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    total = int(starts[-1])
    rows = data.draw(st.lists(st.integers(0, total - 1), max_size=30)) if total else []
    picks, order = pick(starts, np.array(rows, np.int64))
    assert [each.group for each in picks] == sorted({each.group for each in picks})
    taken = [int(starts[each.group] + row) for each in picks for row in each.rows]
    assert all(0 <= row < counts[each.group] for each in picks for row in each.rows)
    assert taken == sorted(rows)
    assert [rows[place] for place in order] == taken


@given(sizes, st.integers(1, 100))
def test_a_row_group_ends_where_it_is_full(sizes, limit):
    found = cut(sizes, limit)
    at = 0
    for count in found:
        assert sum(sizes[at : at + count]) >= limit > sum(sizes[at : at + count - 1])
        at += count
    assert sum(sizes[at:]) < limit


@given(sizes, st.integers(1, 100), st.integers(0, 40))
def test_row_groups_do_not_depend_on_when_they_are_cut(sizes, limit, first):
    early = cut(sizes[:first], limit)
    assert early + cut(sizes[sum(early) :], limit) == cut(sizes, limit)


@given(sizes, st.integers(1, 100))
def test_batches_hold_everything_once(sizes, limit):
    runs = batches(sizes, limit)
    assert [i for run in runs for i in run] == list(range(len(sizes)))
    assert all(len(run) == 1 or sum(sizes[i] for i in run) <= limit for run in runs)
    assert all(run for run in runs)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=10))
def test_gaps_are_what_no_span_has(pairs):
    spans = [Span(start, start + length) for start, length in pairs]
    covered = {place for span in spans for place in range(span.start, span.end)}
    found = [place for gap in gaps(spans, 90) for place in range(gap.start, gap.end)]
    assert found == [place for place in range(90) if place not in covered]


scalars = st.sampled_from(
    [pa.int8(), pa.uint8(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.binary(), pa.date32(), pa.null()]
)
kinds = st.recursive(
    scalars, lambda inner: st.one_of(inner.map(pa.list_), inner.map(lambda t: pa.list_(t, 2)), inner.map(lambda t: pa.struct({"a": t})))
)


@given(kinds, kinds)
def test_what_fits_fits_for_good(found, kind):
    """`fits` is reflexive, and never takes one kind of thing for another."""
    assert fits(found, found)
    if pa.types.is_floating(found):
        assert fits(found, kind) == pa.types.is_floating(kind)
    if pa.types.is_boolean(found):
        assert fits(found, kind) == pa.types.is_boolean(kind)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
columns = {
    "text": text,
    "raw": st.binary(max_size=40),
    "number": st.integers(-(2**63), 2**63 - 1),
    "ratio": st.floats(),
    "flag": st.booleans(),
    "vector": st.lists(st.floats(width=32), min_size=3, max_size=3).map(lambda values: np.array(values, np.float32)),
    "tokens": st.lists(st.integers(0, 2**16 - 1), max_size=9).map(lambda values: np.array(values, np.uint16)),
    "words": st.lists(text, max_size=4),
    "nested": st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.lists(st.fixed_dictionaries({"c": text}), max_size=3)}),
}
schema = pa.schema(
    {
        "text": pa.string(),
        "raw": pa.binary(),
        "number": pa.int64(),
        "ratio": pa.float64(),
        "flag": pa.bool_(),
        "vector": pa.list_(pa.float32(), 3),
        "tokens": pa.list_(pa.uint16()),
        "words": pa.list_(pa.string()),
        "nested": pa.struct({"a": pa.int64(), "b": pa.list_(pa.struct({"c": pa.string()}))}),
    }
)
samples = st.lists(st.fixed_dictionaries({}, optional=columns), max_size=25)


def same(found, expected):
    if isinstance(expected, np.ndarray):
        return found.dtype == expected.dtype and np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")
    return type(found) is type(expected) and (found == expected or repr(found) == repr(expected) == "nan")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(samples, st.integers(1, 2000), st.sampled_from([0, 300, 1 << 20]), st.data())
def test_what_goes_in_comes_out(tmp_path_factory, samples, row_group_bytes, cache_bytes, data):
    folder = tmp_path_factory.mktemp("parquet")
    with parquet.Writer(folder / "x", schema=schema, row_group_bytes=row_group_bytes) as writer:
        for i, fields in enumerate(samples):
            writer.add(f"k{i}", fields)
        ref, index = writer.finish()
    objects = Objects(open_store(str(folder / "store")))
    objects.put_file(folder / "x", suffix=".parquet", ref=ref)
    reader = parquet.Reader(objects, ref, read_index(index, where="index"), cache_bytes=cache_bytes)
    reader.verify()
    for _ in range(2):
        rows = data.draw(st.lists(st.integers(0, len(samples) - 1), max_size=12)) if samples else []
        names = data.draw(st.lists(st.sampled_from(sorted(columns)), unique=True))
        for row, found in zip(rows, reader.read_many(rows, names), strict=True):
            expected = {name: value for name, value in samples[row].items() if name in names}
            assert found.keys() == expected.keys()
            assert all(same(found[name], value) for name, value in expected.items())
        table = reader.read_table(rows, names)
        assert table.column_names == names
        assert table.num_rows == (len(rows) if names else 0)
