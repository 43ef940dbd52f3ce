"""Parts: merging keeps every sample and its order, costs O(n log n), and leaves few; bitmaps are chosen and dropped in bulk."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.catalog import SplitCount
from dataplane.errors import CorruptObject
from dataplane.manifest import METADATA, open_table, read_metadata, write_metadata
from dataplane.objects import Objects
from dataplane.parts import merged, open_parts, plan_merge, reselected, split_counts, store_part
from dataplane.refs import Digest
from dataplane.shards import ShardRow
from dataplane.store import open_store

MIB = 1 << 20


@pytest.fixture
def objects():
    return Objects(open_store("memory://parts"))


def shard(number, samples, split="train", selected=None):
    ref, index = Digest(f"{number:064x}", ".tar", 1000), Digest(f"{number:064x}", ".idx", 10)
    return ShardRow(split, "tar", ref, index, samples, 100 * samples, selected)


def table(counts, first=0, **more):
    """Metadata of shards that hold so many samples each; keys count up from `first`."""
    total = sum(counts)
    columns = {
        "shard": np.repeat(np.arange(len(counts)), counts).astype(np.int32),
        "row": np.concatenate([np.arange(0), *(np.arange(count) for count in counts)]).astype(np.int32),
        "key": [f"{n:06d}" for n in range(first, first + total)],
        "label": ["x"] * total,
        "width": [1] * total,
        "height": [1] * total,
        "bytes": [100] * total,
        "source": ["s"] * total,
        "source_etag": ["e"] * total,
        "source_blake3": [bytes(32)] * total,
    }
    made = pa.table({name: pa.array(values, METADATA.field(name).type) for name, values in columns.items()}, schema=METADATA)
    for name, values in more.items():
        made = made.append_column(name, values)
    return made


def keys(objects, parts):
    """Key, split and shard of the live samples, part by part in the order of their tables."""
    found = []
    for part, shards in open_parts(objects, parts):
        rows = read_metadata(objects.get(part.metadata), where="here").to_pylist()
        of = shards.split_of(np.array([row["shard"] for row in rows], np.int64)).to_pylist() if rows else []
        wanted = shards.wants(np.array([row["shard"] for row in rows], np.int64), np.array([row["row"] for row in rows], np.int64))
        found += [
            (row["key"], split, shards[row["shard"]].ref.hex, row["row"]) for row, split, want in zip(rows, of, wanted, strict=True) if want
        ]
    return found


def appended(sizes, metadata_bytes=lambda _: 0):
    """What becomes of appends: the parts after each, and how many samples were rewritten."""
    parts, rewritten = [], 0
    for size in sizes:
        parts.append(size)
        count = plan_merge(parts, [metadata_bytes(part) for part in parts])
        assert count == 0 or 8 <= count <= len(parts)
        if count:
            rewritten += sum(parts[-count:])
            parts[-count:] = [sum(parts[-count:])]
        yield list(parts), rewritten


SIZES = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 1000), st.sampled_from([7**n for n in range(9)])), min_size=1, max_size=300)


@settings(deadline=None)
@given(SIZES)
def test_parts_stay_few_and_samples_are_rewritten_seldom(sizes):
    total = 0
    for size, (parts, rewritten) in zip(sizes, appended(sizes), strict=True):
        total += size
        assert sum(parts) == total
        assert all(mine * 7 > sum(parts[i + 1 :]) for i, mine in enumerate(parts[:-7]))
        rewrites = 1 + math.log(max(2, total), 8 / 7)
        assert len(parts) <= 8 + rewrites
        assert rewritten <= total * rewrites


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_appends_of_one_size_are_rewritten_once_for_each_power_of_eight(size):
    count = 4096
    *_, (parts, rewritten) = appended([size] * count)
    assert parts == [size * count]
    assert rewritten <= size * count * math.log(count, 8)
    assert max(len(parts) for parts, _ in appended([size] * count)) <= 7 * math.log(count, 8) + 1


def test_ten_thousand_appends_stay_linear():
    done = [rewritten for _, rewritten in appended([10] * 10_000)]
    assert done[9_999] < 1.6 * 10 * done[999]  # one more power of eight at most


def test_few_or_growing_parts_stay():
    assert plan_merge([], []) == 0
    assert plan_merge([1] * 7, [1] * 7) == 0
    assert plan_merge([8**n for n in range(8, 0, -1)], [1] * 8) == 0
    assert plan_merge([1] * 8, [1] * 8) == 8
    assert plan_merge([10**6, *[1] * 8], [1] * 9) == 8  # a large one in front is left alone


def test_no_part_gets_larger_than_the_limit():
    assert plan_merge([100] * 20, [30 * MIB] * 20) == 8
    assert plan_merge([100] * 20, [40 * MIB] * 20) == 0
    assert plan_merge([100, *[1] * 8], [250 * MIB, *[MIB] * 8]) == 8


def test_merging_keeps_samples_keys_and_splits_and_drops_the_dead(objects):
    parts, first = [], 0
    for number in range(10):
        counts = (3, 9, 1)
        rows = [shard(3 * number + i, count, ("train", "test")[i % 2]) for i, count in enumerate(counts)]
        more = {"score": pa.array(np.arange(13) / 2)} if number % 3 == 0 else {}
        part, shards = store_part(objects, rows, table(counts, first, **more))
        if number % 2:
            part, shards = reselected(objects, part, shards.drop(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 8])))
        parts.append(part)
        first += 13
    before = keys(objects, parts)
    assert len(before) == 130 - 5 * 4
    whole = merged(objects, parts)
    assert [part.samples for part in whole] == [110]
    assert keys(objects, whole) == before
    assert split_counts(open_parts(objects, whole)) == split_counts(open_parts(objects, parts))
    stored = read_metadata(objects.get(whole[0].metadata), where="here")
    (_, shards), *_ = open_parts(objects, whole)
    assert len(stored) == 110
    assert len(shards) == 5 * 3 + 5 * 2
    assert stored.column("score").to_pylist()[:14] == [*(n / 2 for n in range(13)), None]
    assert merged(objects, parts[:7]) == parts[:7]


def test_shards_that_nothing_is_wanted_of_do_not_count(objects):
    _, shards = store_part(objects, [shard(1, 4), shard(2, 2, "test")], table((4, 2)))
    left = shards.drop(np.array([1, 1, 0]), np.array([0, 1, 3]))
    assert split_counts([(None, left)]) == {"train": SplitCount(3, 1, 300)}


def test_a_damaged_page_is_found(objects):
    part, _ = store_part(objects, [shard(1, 2000)], table((2000,)))
    good = bytes(objects.get(part.metadata))
    damaged = bytearray(good)
    damaged[len(good) // 3] ^= 1
    assert len(open_table(pa.BufferReader(good), where="here").read()) == 2000
    with pytest.raises((OSError, CorruptObject)):
        open_table(pa.BufferReader(bytes(damaged)), where="here").read()
    with pytest.raises(CorruptObject, match="here is not a manifest part"):
        read_metadata(bytes(damaged), where="here")
    assert write_metadata(read_metadata(good, where="here")) == good


def test_parts_whose_columns_do_not_fit_together_stay_apart(objects):
    """Nobody could commit to such a dataset any more, if merging them were an error."""
    parts = []
    for n in range(12):
        values = pa.array([n]) if n < 4 else pa.array([str(n)])
        parts.append(store_part(objects, [shard(n, 1)], table([1], n, score=values))[0])
    assert merged(objects, parts) == parts
    assert merged(objects, parts[4:])[0].samples == 8
