"""Reading Parquet shards: only what is wanted is fetched, row groups are kept for a while, and damage is named."""

import functools
import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from dataplane.errors import CorruptObject, NotFound
from dataplane.formats import parquet, parquet_read
from dataplane.formats.index import read_index, write_keys
from dataplane.formats.parquet_cache import Cache
from dataplane.formats.parquet_decode import opened as decoder
from dataplane.objects import Objects
from dataplane.store import open_store
from tests.parquets import make_shard, memory_store, opened


@pytest.fixture
def store():
    return memory_store()


@pytest.fixture
def objects(store):
    return Objects(store)


@pytest.fixture
def make(objects, tmp_path):
    """Write samples and open them again."""
    return functools.partial(make_shard, objects, tmp_path / "shard.parquet")


# ------------------------------------------------------------------ what is read


def test_only_what_is_wanted_is_fetched(make, store):
    samples = [{"big": bytes([i % 251]) + np.random.default_rng(i).bytes(2000), "small": i} for i in range(300)]
    reader = make(samples, row_group_bytes=20_000, cache_bytes=0)
    store.clear()
    assert reader.read(150, ["small"]) == {"small": 150}
    assert store.bytes_read < 500
    assert [call.verb for call in store.calls] == ["get_ranges"]
    store.clear()
    assert reader.read_many([299, 0, 150]) == [samples[299], samples[0], samples[150]]
    assert store.bytes_read < 3 * 25_000
    assert [call.verb for call in store.calls] == ["get_ranges"]


def test_row_groups_are_kept_for_a_while(make, store):
    samples = [{"x": np.random.default_rng(i).bytes(1000), "y": i} for i in range(100)]
    reader = make(samples, row_group_bytes=10_000, cache_bytes=25_000)
    store.clear()
    assert [reader.read(row) for row in range(20)] == samples[:20]
    assert len(store.calls) == 2, "a row group each"
    assert reader.read(3, ["y"]) == {"y": 3}
    assert len(store.calls) == 2
    assert [reader.read(row) for row in (95, 85, 75)] == [samples[95], samples[85], samples[75]]
    store.clear()
    reader.read(3)
    assert len(store.calls) == 1, "the least recently used went"
    small = make(samples, row_group_bytes=10_000, cache_bytes=1)
    store.clear()
    assert [small.read(row) for row in range(20)] == samples[:20]
    assert len(store.calls) == 2, "the last one used stays"
    none = make(samples, row_group_bytes=10_000, cache_bytes=0)
    store.clear()
    assert [none.read(row) for row in range(5)] == samples[:5]
    assert len(store.calls) == 5


def test_much_is_read_in_bounds(make, monkeypatch, store):
    monkeypatch.setattr("dataplane.formats.parquet_columns._BATCH_BYTES", 30_000)
    samples = [{"x": np.random.default_rng(i).bytes(1000)} for i in range(100)]
    reader = make(samples, row_group_bytes=10_000)
    store.clear()
    assert reader.read_many(range(99, -1, -1)) == samples[::-1]
    assert len(store.calls) == 5


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_is_not_there(make, row):
    with pytest.raises(NotFound, match=f"has no row {row}; it has 3"):
        make([{"x": 1}] * 3).read_many([0, row])


def test_arrow_asks_for_nothing_that_was_not_fetched(make):
    layout = make([{"x": i, "y": "text"} for i in range(10)])._columns.layout
    with pytest.raises(CorruptObject, match=r"its pages lead to bytes \[\d+, \d+\), outside the columns asked for"):
        decoder(layout, {}).reader.read_row_groups([0], column_indices=[1], use_threads=False)


def test_pages_have_checksums_and_one_page_a_chunk(make, store):
    reader = make([{"vector": np.arange(64.0) + i, "label": i % 3, "text": f"text {i}"} for i in range(1000)])
    ref = reader._columns._ref
    metadata = pq.read_metadata(io.BytesIO(memoryview(store.get(ref.path).buffer())))
    chunks = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    assert {chunk.path_in_schema: chunk.has_dictionary_page for chunk in chunks} == {
        "__key__": False,
        "label": True,
        "text": False,
        "vector.list.element": False,
    }
    assert {chunk.path_in_schema: chunk.is_stats_set for chunk in chunks if chunk.is_stats_set} == {"label": True}
    assert all(chunk.compression == "ZSTD" and chunk.has_offset_index for chunk in chunks)


def test_readers_keep_decoded_columns_together(tmp_path, monkeypatch):
    shared = Cache(50_000)
    monkeypatch.setattr(parquet_read, "_SHARED", shared)
    objects = Objects(open_store(str(tmp_path / "lake")))
    readers = []
    for number in range(8):
        with parquet.Writer(tmp_path / "x.parquet", row_group_bytes=10_000) as writer:
            for row in range(20):
                writer.add(f"{row}", {"x": np.random.default_rng(100 * number + row).bytes(1000)})
            ref, index = writer.finish()
        objects.put_file(tmp_path / "x.parquet", suffix=".parquet", ref=ref)
        readers.append(parquet.Reader(objects, ref, read_index(index, where="the index")))
    first = [reader.read(3)["x"] for reader in readers]
    assert [reader.read(3)["x"] for reader in readers] == first
    assert len(set(first)) == 8
    assert 0 < shared._bytes <= 50_000
    assert shared._bytes == sum(column.nbytes for column in shared._held.values())
    shared.clear()
    assert readers[0].read(3)["x"] == first[0]


# ------------------------------------------------------------------ damage


def test_damage_is_named(make, store):
    reader = make([{"x": np.random.default_rng(i).bytes(1000), "y": i} for i in range(100)], row_group_bytes=10_000, cache_bytes=0)
    layout, ref = reader._columns.layout, reader._columns._ref
    data = bytearray(memoryview(store.get(ref.path).buffer()))
    span = layout.chunk(4, layout.fields["x"][0])
    data[span.start + 20] ^= 1
    store.put(ref.path, bytes(data))
    rows = np.arange(layout.starts[4], layout.starts[5])
    for row in (int(rows[0]), int(rows[-1])):
        with pytest.raises(CorruptObject, match=r"field 'x', row group 4: it fails its checksum; .*dataplane verify") as caught:
            reader.read(row)
        assert f"{store.url}/{ref.path}" in str(caught.value)
        assert reader.read(row, ["y"]) == {"y": row}
    assert len(reader.read_many([*range(rows[0]), *range(rows[-1] + 1, 100)])) == 100 - len(rows)
    with pytest.raises(CorruptObject, match="field 'x', row group 4"):
        reader.verify()
    store.put(ref.path, bytes(data[: span.start + 20]))
    with pytest.raises(CorruptObject, match=r"field 'x', row group 4: it ends \d+ bytes early"):
        reader.read(int(rows[0]))


def test_each_flipped_byte_is_found(make, store):
    samples = [{"vector": np.arange(4.0) + i, "text": f"text {i % 2}", "label": i % 2} for i in range(6)]
    reader = make(samples, row_group_bytes=130, cache_bytes=0)
    assert reader._columns.layout.groups > 1
    ref = reader._columns._ref
    data = bytes(memoryview(store.get(ref.path).buffer()))
    right = reader.read_table()
    unseen = 0
    for place in range(len(data)):
        wrong = bytearray(data)
        wrong[place] ^= 1 << place % 8
        store.put(ref.path, bytes(wrong))
        with pytest.raises(CorruptObject):
            reader.verify()
        try:
            assert reader.read_table().equals(right)
            unseen += 1
        except CorruptObject as error:
            assert ref.path in str(error)  # noqa: PT017
    layout = reader._columns.layout
    read = sum(
        len(layout.chunk(group, leaf))
        for group in range(layout.groups)
        for leaf in range(layout.leaves)
        if layout.field_of(leaf) != "__key__"
    )
    assert unseen == len(data) - read, "what was read is checked, and nothing else is looked at"


def test_an_index_of_something_else(make, objects):
    reader = make([{"x": 1}] * 3)
    sections, ref = reader._index.sections, reader._columns._ref
    for keys, changed, said in (
        (["a"], {}, "the index has 1 keys, and .* has 3 rows"),
        (["a"] * 3, {"parquet.footer": None}, "the index is not the index of a Parquet shard"),
        (["a"] * 3, {"parquet.footer": b"nonsense"}, "not the footer of a Parquet file"),
        (["a"] * 3, {"parquet.crc32c": b"1234"}, "the index: 4 bytes of checksums for 1 row groups of 2 columns"),
    ):
        index = write_keys(keys, {name: data for name, data in {**sections, **changed}.items() if data is not None})
        with pytest.raises(CorruptObject, match=said):
            opened(objects, ref, index)
    other = opened(objects, ref, write_keys(["a", "b", "c"], sections))
    with pytest.raises(CorruptObject, match="field '__key__', row group 0: keys are not those of the index"):
        other.verify()
