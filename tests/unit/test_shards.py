"""Shards as rows and as columns: bitmaps select, splits are told apart, and rows survive JSON."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.errors import CorruptObject, InvalidArgument
from dataplane.manifest import read_shards, write_shards
from dataplane.refs import Digest
from dataplane.shards import ShardRow, Shards, starts

SHARD = Digest("ab" * 32, ".tar", 5000)
INDEX = Digest("cd" * 32, ".idx", 300)
ROW = ShardRow("train", "tar", SHARD, INDEX, 10, 1000, median_bytes={"cls": 1, "jpg": 90})


def shard(number, samples, split="train", selected=None):
    return ShardRow(split, "tar", Digest(f"{number:064x}", ".tar", 1000), INDEX, samples, samples * 100, selected)


@settings(deadline=None)
@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.sets(st.integers(0, n - 1)), max_size=4))))
def test_without_leaves_the_rest(case):
    samples, steps = case
    row = ShardRow("train", "tar", SHARD, INDEX, samples, samples * 100)
    gone = set()
    for step in steps:
        row = row.without(step)
        gone |= step
    rows = np.arange(samples) if row.rows is None else row.rows
    assert rows.tolist() == sorted(set(range(samples)) - gone)
    assert row.live == samples - len(gone)
    assert row.live_bytes == 100 * row.live


def test_a_bitmap_fits_its_shard():
    with pytest.raises(InvalidArgument, match="a bitmap of 1 bytes for 10 samples"):
        ShardRow("train", "tar", SHARD, INDEX, 10, 1000, selected=b"\xff")


def test_json_and_back():
    assert ShardRow.from_json(ROW.to_json()) == ROW
    with pytest.raises(CorruptObject, match="not a shard"):
        ShardRow.from_json({"index": {"url": "x", "size": 1}})


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_choosing_and_dropping_are_set_operations(data):
    counts = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=6))
    everything = {(s, r) for s, count in enumerate(counts) for r in range(count)}
    some = st.sets(st.sampled_from(sorted(everything))) if everything else st.just(set())
    shards, wanted = Shards.of([shard(n, count) for n, count in enumerate(counts)]), set(everything)
    for verb in data.draw(st.lists(st.sampled_from(["choose", "drop"]), max_size=4)):
        named = data.draw(some)
        at = np.array(sorted(named), np.int32).reshape(-1, 2)
        shards = getattr(shards, verb)(at[:, 0], at[:, 1])
        wanted = wanted & named if verb == "choose" else wanted - named
        assert shards.live.tolist() == [sum(s == n for s, _ in wanted) for n in range(len(counts))]
        for n, row in enumerate(shards):
            mine = {r for s, r in wanted if s == n}
            assert set(range(counts[n]) if row.rows is None else row.rows.tolist()) == mine
            assert (row.selected is None) == (len(mine) == counts[n])


@st.composite
def rows(draw):
    """Shards of a few splits; some have a bitmap, and some of these are empty."""
    made = []
    for number, samples in enumerate(draw(st.lists(st.integers(0, 20), max_size=8))):
        row = shard(number, samples, draw(st.sampled_from(["train", "test", "val"])))
        made.append(row.without(draw(st.sets(st.integers(0, samples - 1)))) if samples and draw(st.booleans()) else row)
    return made


@settings(deadline=None)
@given(rows(), st.sampled_from(["rows", "stored", "taken"]))
def test_columns_say_what_rows_do(rows, how):
    shards = Shards.of(rows)
    if how == "stored":
        shards = read_shards(write_shards(rows), where="here")
    if how == "taken" and rows:
        rows = rows[1:]
        shards = shards.take(np.arange(1, len(rows) + 1))
    assert list(shards) == rows
    assert shards.live.tolist() == [row.live for row in rows]
    assert shards.bytes.tolist() == [row.bytes for row in rows]
    assert shards.live_bytes.tolist() == [row.live_bytes for row in rows]
    assert shards.sizes.tolist() == [row.ref.size for row in rows]
    assert shards.splits == sorted({row.split for row in rows})
    assert shards.split_of(np.arange(len(rows))).to_pylist() == [row.split for row in rows]
    for split in ("train", "test", "val", "none"):
        assert shards.in_split(split).tolist() == [i for i, row in enumerate(rows) if row.split == split and row.live]
    places = [(i, j) for i, row in enumerate(rows) for j in range(row.samples)]
    at = np.array(places, np.int64).reshape(-1, 2)
    wanted = [rows[i].rows is None or j in rows[i].rows for i, j in places]
    assert shards.wants(at[:, 0], at[:, 1]).tolist() == wanted


def test_columns_may_come_in_pieces():
    one, other = (Shards.of([shard(i, 9 + i, name).without([i])]).to_table() for i, name in enumerate(["train", "test"]))
    for coded in (False, True):
        tables = [_coded(table) if coded else table for table in (one, other)]
        shards = Shards.of_table(pa.concat_tables(tables))
        assert (shards.splits, shards.in_split("test").tolist(), shards.live.tolist()) == (["test", "train"], [1], [8, 9])


def _coded(table):
    """The table with splits as codes, each with a dictionary of its own."""
    return table.set_column(0, "split", table.column("split").dictionary_encode())


def test_starts():
    assert starts([3, 0, 4]).tolist() == [0, 3, 3, 7]
    assert starts(np.full(3, 200, np.uint8)).tolist() == [0, 200, 400, 600]
    assert starts([]).tolist() == [0]
