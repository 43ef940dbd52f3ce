"""Parquet shards: types, projection, damage, adoption, and what other readers see."""

import datetime
import decimal
import io
import types
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from dataplane.errors import BadSample, CorruptObject, InvalidArgument, NotFound, SourceChanged
from dataplane.formats import parquet, parquet_read
from dataplane.formats.index import read_index, write_keys
from dataplane.formats.parquet_decode import opened as decoder
from dataplane.objects import Objects
from dataplane.refs import Foreign
from dataplane.store import open_store
from dataplane.testing import RecordingStore

UTC = datetime.UTC


@pytest.fixture
def store():
    return RecordingStore(open_store(f"memory://{uuid.uuid4().hex}"))


@pytest.fixture
def objects(store):
    return Objects(store)


@pytest.fixture
def make(objects, tmp_path):
    """Write samples and open them again."""

    def write(samples, *, cache_bytes=4 << 20, **options):
        with parquet.Writer(tmp_path / "shard.parquet", **options) as writer:
            for i, fields in enumerate(samples):
                writer.add(f"k{i}", fields)
            ref, index = writer.finish()
        objects.put_file(tmp_path / "shard.parquet", suffix=".parquet", ref=ref)
        return parquet.Reader(objects, ref, read_index(index, where="the index"), cache_bytes=cache_bytes)

    return write


@pytest.fixture
def refusal(tmp_path):
    """The message with which a writer refuses samples."""

    def refuse(samples, **options):
        with pytest.raises(InvalidArgument) as caught:
            write(samples, options)
        return str(caught.value)

    def write(samples, options):
        with parquet.Writer(tmp_path / "refused.parquet", **options) as writer:
            for i, fields in enumerate(samples):
                writer.add(f"k{i}", fields)
            writer.finish()

    return refuse


@pytest.fixture
def adopt(objects, tmp_path):
    """Adopt a table that somebody else wrote as a file; the reference and its folder."""

    def write(table, **options):
        path = tmp_path / "theirs" / f"{uuid.uuid4().hex}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(table, path, **options)
        return Foreign(str(path), path.stat().st_size), path

    return write


def opened(objects, ref, index, **options):
    return parquet.Reader(objects, ref, read_index(index, where="the index"), **options)


# ------------------------------------------------------------------ types


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, -(2**60)], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([True, False], pa.bool_()),
        (["", "é\0字"], pa.string()),
        ([b"", b"\0\xff"], pa.binary()),
        ([np.float32(1.5), np.float32("nan")], pa.float32()),
        ([np.uint8(255), np.uint8(0)], pa.uint8()),
        ([np.array(3, np.int16)], pa.int16()),
        ([datetime.datetime(2020, 1, 2, 3, 4, 5, 6, UTC)], pa.timestamp("us", "UTC")),
        ([datetime.datetime(1900, 1, 2, 3, 4, 5, 6)], pa.timestamp("us")),
        ([datetime.date(2020, 1, 2)], pa.date32()),
        ([datetime.time(1, 2, 3, 4)], pa.time64("us")),
        ([datetime.timedelta(microseconds=-5)], pa.duration("us")),
        ([np.datetime64("2020-01-02T03:04:05.123456789")], pa.timestamp("ns")),
        ([decimal.Decimal("1.20")], pa.decimal128(3, 2)),
        ([{"a": 1, "b": [1.5]}, {"a": 2, "b": []}], pa.struct({"a": pa.int64(), "b": pa.list_(pa.float64())})),
        ([[["a"], []], [["b", None]]], pa.list_(pa.list_(pa.string()))),
        ([np.arange(3, dtype=np.float32), np.ones(3, np.float32)], pa.list_(pa.float32(), 3)),
        ([np.arange(3, dtype=np.float16)], pa.list_(pa.float16(), 3)),
        ([np.arange(3, dtype=np.uint8), np.array([], np.uint8)], pa.list_(pa.uint8())),
        ([np.array([], np.int64)], pa.list_(pa.int64())),
        ([np.array([True, False])], pa.list_(pa.bool_(), 2)),
        ([[], []], pa.list_(pa.null())),
    ],
    ids=str,
)
def test_types_are_inferred_and_values_come_back(make, values, kind):
    reader = make([{"x": value} for value in values] + [{"x": None}, {}])
    assert reader.schema.field("x").type.equals(kind)
    assert len(reader) == len(values) + 2
    found = reader.read_many(range(len(values)))
    for sample, value in zip(found, values, strict=True):
        if isinstance(value, np.ndarray) and value.ndim:
            assert sample["x"].dtype == value.dtype
        np.testing.assert_array_equal(sample["x"], value) if isinstance(value, (np.ndarray, np.floating)) else _equal(sample["x"], value)
    assert reader.read_many([len(values), len(values) + 1]) == [{}, {}]
    reader.verify()


def _equal(found, value):
    assert type(found) is type(value) or isinstance(value, (np.generic, float)) or isinstance(found, (np.ndarray, float))
    assert list(found) == value if isinstance(found, np.ndarray) else found == value


def test_lists_of_numbers_are_arrays_unless_one_is_null(make):
    reader = make([{"x": [1, 2]}, {"x": [3, None]}, {"x": []}])
    first, second, third = (sample["x"] for sample in reader.read_many([0, 1, 2]))
    assert (second, list(first), list(third)) == ([3, None], [1, 2], [])
    assert [type(reader.read(row)["x"]) for row in (0, 1, 2)] == [np.ndarray, list, np.ndarray]


def test_vectors_that_some_samples_lack(make):
    vectors = [np.full(4, i, np.float32) for i in range(50)]
    samples = [{"x": vectors[i], "y": i} if i % 3 else {"y": i} for i in range(50)]
    reader = make(samples, row_group_bytes=100)
    for sample, found in zip(samples, reader.read_many(range(50)), strict=True):
        assert found.keys() == sample.keys()
        assert "x" not in sample or np.array_equal(found["x"], sample["x"])


def test_big_endian_and_strided_arrays(make):
    values = [np.arange(8, dtype=">i4")[::2], np.arange(4, dtype=">i4")]
    found = make([{"x": value} for value in values]).read_many([0, 1])
    assert [sample["x"].tolist() for sample in found] == [[0, 2, 4, 6], [0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, "a"], "'k1': field 'x' holds str 'a' (string), and int64 in 'k0'"),
        ([True, 1], "'k1': field 'x' holds int '1' (int64), and bool in 'k0'"),
        ([object()], "'k0': field 'x' holds object, which no column can hold"),
        ([2**70], "'k0': field 'x' holds int '1180591620717411303424', which no column can hold"),
        (["a", "\udcff"], "'k1': field 'x' holds str '\\udcff', which no column can hold"),
        ([np.zeros((2, 2))], "'k0': field 'x' is an array of shape (2, 2); Parquet holds one dimension, a Zarr shard more"),
        ([{"a": 1}, {"a": "b"}], "'k1': field 'x' holds dict"),
        ([np.zeros(2), np.zeros(2, complex)], "'k1': field 'x' holds an array of 2 complex128"),
    ],
)
def test_what_no_column_can_hold(refusal, values, said):
    assert said in refusal([{"x": value} for value in values])


@pytest.mark.parametrize(
    ("first", "later", "said"),
    [
        (1, 1.5, "'k100': field 'x' holds float '1.5', which does not fit its column of int64"),
        (1, 2.0, "holds float '2.0'"),
        (1, True, "holds bool 'True'"),
        (1.5, "a", "holds str 'a'"),
        ("a", b"a", "holds bytes, which does not fit its column of string"),
        (b"a", "a", "does not fit its column of binary"),
        ([1], [1.5], "does not fit its column of list<"),
        ({"a": 1}, {"a": 1, "b": 2}, "does not fit its column of struct<"),
        ({"a": 1}, {"a": 1.5}, "does not fit its column of struct<"),
        (np.zeros(3), np.zeros(4), "holds an array of 4 float64"),
        (np.zeros(3, np.int32), np.zeros(3), "holds an array of 3 float64"),
        (np.zeros(3, np.int8), np.full(3, 300), "holds an array of 3 int64"),
        (1, 2**63, "does not fit its column of int64"),
        ([], [1], "does not fit its column of list<"),
    ],
)
def test_later_values_fit_or_are_refused(refusal, first, later, said):
    samples = [{"x": first}] * 100 + [{"x": later}]
    assert said in refusal(samples, row_group_bytes=1)


@pytest.mark.parametrize(
    ("first", "later"), [(1.5, 2), (1.5, np.float32(0.5)), ({"a": 1, "b": 2}, {"a": 3}), (np.zeros(3), np.ones(3, np.float32))]
)
def test_later_values_that_lose_nothing_fit(make, first, later):
    found = make([{"x": first}] * 100 + [{"x": later}], row_group_bytes=1).read(100)["x"]
    assert found == {"a": 3, "b": None} if isinstance(later, dict) else np.array_equal(found, later)


def test_a_field_that_comes_late_is_refused(refusal):
    said = refusal([{"x": 1}] * 100 + [{"x": 1, "y": 2}, {"x": 1, "y": None}], row_group_bytes=1)
    assert "'k100' has the field 'y', which this shard does not; it has x; give the writer a schema" in said


def test_a_schema_says_what_columns_hold(make, refusal):
    schema = pa.schema(
        [
            pa.field("tags", pa.map_(pa.string(), pa.int32())),
            pa.field("id", pa.uint64(), nullable=False),
            pa.field("kind", pa.dictionary(pa.int8(), pa.string())),
            pa.field("vector", pa.list_(pa.field("item", pa.float16()), 2)),
            pa.field("when", pa.timestamp("s", "UTC")),
            pa.field("tokens", pa.large_list(pa.uint16())),
            pa.field("a.b", pa.float32()),
            pa.field("a", pa.large_string()),
            pa.field("deep", pa.struct({"of": pa.list_(pa.map_(pa.string(), pa.int8()))})),
        ],
        metadata={"theirs": "kept"},
    )
    when = datetime.datetime(2020, 1, 1, tzinfo=UTC)
    tags = [("x", 1)]
    rows = [
        {
            "id": 2**64 - 1,
            "tags": tags,
            "kind": "cat",
            "vector": [0.5, 1],
            "when": when,
            "tokens": np.array([1, 65535]),
            "a.b": 0.1,
            "a": "t",
            "deep": {"of": [tags]},
        },
        {"id": 0},
    ]
    reader = make(rows, schema=schema)
    assert reader.schema.names == ["__key__", *schema.names]
    assert [str(field.type) for field in reader.schema][1:] == [str(field.type) for field in make([], schema=schema).schema][1:]
    assert reader.schema.field("id").equals(schema.field("id"))
    for name in ("kind", "vector", "tokens", "a.b", "a"):
        assert reader.schema.field(name).type.equals(schema.field(name).type)
    assert reader.schema.metadata[b"theirs"] == b"kept"
    first, second = reader.read_many([0, 1])
    assert second == {"id": 0}
    assert (first["id"], first["tags"], first["kind"], first["when"], first["a"]) == (2**64 - 1, tags, "cat", when, "t")
    assert first["deep"] == {"of": [tags]}
    assert (first["vector"].dtype, first["tokens"].dtype, first["tokens"].tolist()) == (np.float16, np.uint16, [1, 65535])
    assert first["a.b"] == np.float32(0.1)
    assert reader.read(0, ["a"]) == {"a": "t"}  # and not "a.b"
    assert reader.read(0, ["a.b"]) == {"a.b": first["a.b"]}
    assert "'k1' lacks the field 'id', and the schema says that every sample has it" in refusal([{"id": 1}, {}], schema=schema)
    assert "timestamp" in refusal([{"id": 1, "when": when.replace(microsecond=1)}], schema=schema)
    assert "does not fit its column of large_list" in refusal([{"id": 1, "tokens": np.array([65536])}], schema=schema)


def test_what_a_writer_refuses(refusal, tmp_path):
    assert "'__key__' is the column of the keys" in refusal([{"__key__": "a"}])
    with pytest.raises(InvalidArgument, match="row_group_bytes is 0"):
        parquet.Writer(tmp_path / "x", row_group_bytes=0)
    for schema in (pa.schema([("__key__", pa.string())]), pa.schema([("a", pa.int8()), ("a", pa.int8())])):
        with pytest.raises(InvalidArgument, match="names differ, and '__key__' is for the keys"):
            parquet.Writer(tmp_path / "x", schema=schema)
    union = pa.schema([("x", pa.dense_union([pa.field("a", pa.int8())]))])
    with (
        parquet.Writer(tmp_path / "x", schema=union) as writer,
        pytest.raises(InvalidArgument, match="cannot be the schema of a Parquet shard"),
    ):
        writer.finish()


# ------------------------------------------------------------------ tables


def table_of(count, width=16):
    rng = np.random.default_rng(count)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.standard_normal(count * width).astype(np.float32)), width)
    return pa.table({"vector": vectors, "label": pa.array(rng.integers(0, 9, count)), "text": [f"text {i}" for i in range(count)]})


def test_tables_go_in_and_come_out(objects, tmp_path):
    table = table_of(1000)
    with parquet.Writer(tmp_path / "x", row_group_bytes=5000) as writer:
        for at in range(0, 1000, 30):
            part = table.slice(at, 30)
            writer.add_table([f"k{at + i}" for i in range(len(part))], part)
        writer.add("last", {"label": 3})
        ref, index = writer.finish()
    objects.put_file(tmp_path / "x", suffix=".parquet", ref=ref)
    reader = opened(objects, ref, index)
    assert reader.keys()[-2:] == ["k999", "last"]
    assert reader.read_table(range(1000)).select(table.column_names).equals(table)
    assert reader.read(1000) == {"label": 3}
    rows = [999, 3, 3, 500]
    assert reader.read_table(rows, ["text", "label"]).equals(table.take(rows).select(["text", "label"]))
    assert reader.read_table([], ["text"]).equals(table.select(["text"]).slice(0, 0))
    columns = reader.read_columns(rows, ["vector", "label"])
    assert columns["vector"].shape == (4, 16)
    np.testing.assert_array_equal(columns["vector"], parquet.array(table.column("vector"))[rows])
    groups = pq.read_metadata(tmp_path / "x")
    assert 10 < groups.num_row_groups < 40
    assert max(groups.row_group(i).total_byte_size for i in range(groups.num_row_groups)) < 8000


def test_buffers_may_be_used_again(objects, tmp_path):
    vector, raw, fields = np.zeros(3), bytearray(3), {}
    with parquet.Writer(tmp_path / "x") as writer:
        for i in range(5):
            vector[:] = i
            raw[:] = bytes([i] * 3)
            fields.update(vector=vector, raw=raw, view=memoryview(raw))
            writer.add(f"k{i}", fields)
        ref, index = writer.finish()
    objects.put_file(tmp_path / "x", suffix=".parquet", ref=ref)
    for i, sample in enumerate(opened(objects, ref, index).read_many(range(5))):
        assert (sample["vector"].tolist(), sample["raw"], sample["view"]) == ([i] * 3, bytes([i] * 3), bytes([i] * 3))


def test_equal_tables_give_equal_bytes(tmp_path):
    made = []
    for step in (7, 100):
        with parquet.Writer(tmp_path / f"x{step}", schema=table_of(1).schema, row_group_bytes=10**9) as writer:
            for at in range(0, 100, step):
                part = table_of(100).slice(at, step)
                writer.add_table([f"k{at + i}" for i in range(len(part))], part)
            made.append(writer.finish())
    assert made[0] == made[1]


def test_tables_that_do_not_fit(tmp_path):
    with parquet.Writer(tmp_path / "x") as writer:
        writer.add("a", {"label": 1, "text": "x"})
        with pytest.raises(InvalidArgument, match="2 keys for a table of 1 rows"):
            writer.add_table(["x", "y"], pa.table({"label": [1]}))
        with pytest.raises(InvalidArgument, match="the table has the column 'other'; this shard has label, text"):
            writer.add_table(["b"], pa.table({"other": [1]}))
        for wrong in (pa.table({"label": [1.5]}), pa.table({"label": ["a"]})):
            with pytest.raises(InvalidArgument, match=r"the table's column 'label' of .* does not fit this shard's"):
                writer.add_table([uuid.uuid4().hex], wrong)
        writer.add_table(["e"], pa.table({"label": pa.array([1], pa.int8())}))
        with pytest.raises(InvalidArgument, match="'e' is in this shard already"):
            writer.add_table(["e"], pa.table({"label": [1]}))
    narrow = pa.schema([pa.field("label", pa.int8(), nullable=False)])
    with parquet.Writer(tmp_path / "y", schema=narrow) as writer:
        for wrong in (pa.table({"label": [300]}), pa.table({"label": pa.array([None], pa.int8())}), pa.table({})):
            with pytest.raises(InvalidArgument):
                writer.add_table([uuid.uuid4().hex] * len(wrong) or ["x"], wrong)


def test_an_array_is_a_view_of_the_column():
    table = table_of(100)
    vectors = parquet.array(table.column("vector"))
    column = table.column("vector").chunk(0)
    assert vectors.shape == (100, 16)
    assert vectors.__array_interface__["data"][0] == column.values.buffers()[1].address
    assert not vectors.flags.writeable
    part = parquet.array(table.slice(10, 5).column("vector"))
    assert part.__array_interface__["data"][0] == column.values.buffers()[1].address + 10 * 16 * 4
    np.testing.assert_array_equal(part, vectors[10:15])
    labels = parquet.array(table.column("label"))
    assert labels.__array_interface__["data"][0] == table.column("label").chunk(0).buffers()[1].address
    assert parquet.array(pa.chunked_array([table.column("label").chunk(0)] * 2)).tolist() == labels.tolist() * 2
    assert parquet.array(pa.chunked_array([], pa.int8())).shape == (0,)
    assert parquet.array(pa.array([True, False])).tolist() == [True, False]
    nested = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(pa.array(range(12)), 2), 3)
    assert parquet.array(nested).shape == (2, 3, 2)
    for column, said in ((pa.array(["a"]), "has no array"), (pa.array([1, None]), "with nulls"), (pa.array([[1], [1, 2]]), "has no array")):
        with pytest.raises(InvalidArgument, match=said):
            parquet.array(column)


def test_values_of_a_sample_are_views_of_little_memory(make):
    reader = make([{"x": np.arange(100.0) + i} for i in range(500)], row_group_bytes=10**9)
    value = reader.read(7)["x"]
    assert value.base is not None
    assert not value.flags.writeable
    before = pa.total_allocated_bytes()
    kept = [reader.read(row)["x"] for row in range(0, 500, 50)]
    assert pa.total_allocated_bytes() - before < 10 * 100 * 8 * 4, "a value holds on to its row group"
    assert [array[0] for array in kept] == list(range(0, 500, 50))


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
    monkeypatch.setattr("dataplane.formats.parquet_read._BATCH_BYTES", 30_000)
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


# ------------------------------------------------------------------ files of others


@pytest.mark.parametrize("checksum", [False, True])
def test_a_file_of_somebody_else(adopt, objects, checksum):
    table = table_of(1000)
    ref, path = adopt(table, row_group_size=300, compression="snappy")
    before = path.read_bytes()
    index = parquet.index_of(objects, ref, prefix="theirs/a", checksum=checksum)
    reader = opened(objects, ref, index)
    assert reader.keys()[:2] == ["theirs/a#0", "theirs/a#1"]
    assert reader.fields == ("label", "text", "vector")
    assert reader.read_table(None, table.column_names).equals(table)
    assert [sample["text"] for sample in reader.read_many([999, 0])] == ["text 999", "text 0"]
    reader.verify()
    assert path.read_bytes() == before
    data = bytearray(before)
    data[reader._columns.layout.chunk(1, reader._columns.layout.fields["vector"][0]).start + 500] ^= 1
    path.write_bytes(bytes(data))
    changed = opened(objects, ref, index)
    if checksum:
        with pytest.raises(CorruptObject, match="field 'vector', row group 1: it fails its checksum"):
            changed.verify()
    changed.read_many([0, 100])


@pytest.mark.parametrize("counts", [[0], [0, 5, 0, 3], [3, 0]])
def test_a_file_with_empty_row_groups(objects, tmp_path, counts):
    table = table_of(sum(counts))
    with pq.ParquetWriter(tmp_path / "theirs.parquet", table.schema) as writer:
        for i, count in enumerate(counts):
            writer.write_table(table.slice(sum(counts[:i]), count))
    ref = Foreign(str(tmp_path / "theirs.parquet"), (tmp_path / "theirs.parquet").stat().st_size)
    reader = opened(objects, ref, parquet.index_of(objects, ref, prefix="p", checksum=True))
    assert reader.read_table(None, table.column_names).equals(table)
    assert [sample["text"] for sample in reader.read_many(range(sum(counts)))] == table.column("text").to_pylist()
    reader.verify()


def test_a_file_in_a_bucket_that_changes(s3):
    theirs = open_store(s3.url("theirs"))
    for table in (table_of(500), table_of(400)):
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=100)
        theirs.put("a.parquet", sink.getvalue())
        if table.num_rows == 500:
            ref = Foreign(f"{theirs.url}/a.parquet", len(sink.getvalue()), theirs.head("a.parquet")["e_tag"])
            objects = Objects(open_store(s3.url()))
            reader = opened(objects, ref, parquet.index_of(objects, ref, prefix="p", checksum=True), cache_bytes=0)
            assert reader.read_table(None, table.column_names).equals(table)
            reader.verify()
    for read in (lambda: reader.read(3), reader.verify, lambda: parquet.footer_of(objects, ref)):
        with pytest.raises(SourceChanged, match=r"theirs/a\.parquet"):
            read()


def test_the_keys_of_a_file(adopt, objects):
    table = table_of(20)
    ids = table.append_column("id", pa.array(range(100, 120)))
    ref, _ = adopt(ids, row_group_size=7)
    assert read_index(parquet.index_of(objects, ref, prefix="p", key_column="id"), where="i").keys() == [str(i) for i in range(100, 120)]
    assert opened(objects, ref, parquet.index_of(objects, ref, prefix="p", key_column="id")).fields == ("id", "label", "text", "vector")
    ours, _ = adopt(table.append_column("__key__", table.column("text")))
    reader = opened(objects, ours, parquet.index_of(objects, ours, prefix="p"))
    assert reader.keys() == table.column("text").to_pylist()
    assert reader.fields == ("label", "text", "vector")
    reader.verify()
    named, _ = adopt(table.append_column("__key__", table.column("text").dictionary_encode()))
    assert read_index(parquet.index_of(objects, named, prefix="p"), where="i").keys() == table.column("text").to_pylist()


def test_keys_that_cannot_be(adopt, objects):
    ref, _ = adopt(pa.table({"id": ["a", None, "b", "a", "", "c"], "score": [1.5] * 6}))
    with pytest.raises(
        BadSample, match=r"4 rows have no key of their own in column 'id': row 0 \('a'\), row 1 \(''\), row 3 \('a'\), row 4"
    ):
        parquet.index_of(objects, ref, prefix="p", key_column="id")
    with pytest.raises(NotFound, match="has no column 'nope' to take keys from; it has id, score"):
        parquet.index_of(objects, ref, prefix="p", key_column="nope")
    with pytest.raises(InvalidArgument, match="column 'score' of double cannot give keys"):
        parquet.index_of(objects, ref, prefix="p", key_column="score")


def test_a_long_footer_takes_two_requests(objects, store, tmp_path):
    table = pa.table({f"column {i}": [i] * 200 for i in range(40)})
    for size, requests in ((200, 1), (2, 2)):
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=size)
        ref = objects.put(sink.getvalue(), suffix=".parquet")
        store.clear()
        assert parquet.footer_of(objects, ref) == sink.getvalue()[-len(parquet.footer_of(objects, ref)) :]
        assert len(store.calls) == 2 * requests
        reader = opened(objects, ref, parquet.index_of(objects, ref, prefix="p"))
        assert reader.read(199, ["column 7"]) == {"column 7": 7}


def test_what_is_no_parquet_file(objects):
    sink = io.BytesIO()
    pq.write_table(table_of(10), sink)
    whole = sink.getvalue()
    for data, error, said in (
        (b"", CorruptObject, "is cut short"),
        (b"PAR1", CorruptObject, "is cut short"),
        (b"PAR1PAR1", CorruptObject, "is cut short"),
        (whole[:-1], CorruptObject, "is cut short: a Parquet file begins and ends with PAR1, and this ends with b'[^']*'"),
        (b"nonsense" * 10, CorruptObject, "is not a Parquet file: it begins with b'nons'"),
        (b"x" + whole[1:], CorruptObject, "is not a Parquet file: it begins with b'xAR1'"),
        (whole[:-8] + b"\xff\xff\xff\x7fPAR1", CorruptObject, "has a wrong footer: it says that it is 2147483647 bytes long"),
        (whole[:-8] + b"\x08\0\0\0PAR1", CorruptObject, "not the footer of a Parquet file"),
        (b"PAR1" + whole[-8 - int.from_bytes(whole[-8:-4], "little") :], CorruptObject, "field 'vector', row group 0: the footer is wrong"),
        (whole[:-4] + b"PARE", InvalidArgument, "is an encrypted Parquet file"),
    ):
        ref = objects.put(data, suffix=".parquet")
        with pytest.raises(error, match=said) as caught:
            parquet.index_of(objects, ref, prefix="p")
        assert ref.path in str(caught.value)


def test_files_that_cannot_be_used(adopt, objects):
    column = pa.array([1, 2])
    ref, _ = adopt(pa.Table.from_arrays([column, column], ["a", "a"]))
    with pytest.raises(InvalidArgument, match=r"has two columns of one name \(a, a\)"):
        parquet.index_of(objects, ref, prefix="p")


def test_a_broken_footer_takes_nothing_down(objects):
    """Arrow aborts the process for some of these when it is asked in the obvious way."""
    sink = io.BytesIO()
    table = pa.table({"x": list(range(30)), "y": [[f"t{i}"] for i in range(30)], "z": [None, "a", "b"] * 10})
    pq.write_table(table, sink, row_group_size=10, write_page_checksum=True)
    data = sink.getvalue()
    length = int.from_bytes(data[-8:-4], "little")
    found = 0
    for place in range(len(data) - 8 - length, len(data), 2):
        wrong = bytearray(data)
        wrong[place] ^= 1 << place % 7
        ref = objects.put(bytes(wrong), suffix=".parquet")
        try:
            reader = opened(objects, ref, parquet.index_of(objects, ref, prefix="p"))
            reader.read_many(range(len(reader)))
        except (CorruptObject, InvalidArgument) as error:
            assert ref.path in str(error)  # noqa: PT017
            found += 1
    assert found > length // 6


def test_text_that_is_no_text(adopt, objects):
    raw = pa.table({"x": pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())})
    ref, _ = adopt(raw)
    reader = opened(objects, ref, parquet.index_of(objects, ref, prefix="p"))
    with pytest.raises(CorruptObject, match="field 'x' holds a value that is not of its type string"):
        reader.read(0)
    with pytest.raises(CorruptObject, match="holds text that is not UTF-8"):
        parquet.index_of(objects, ref, prefix="p", key_column="x")


@pytest.mark.parametrize("page_checksums", [False, True])
def test_damage_in_a_file_without_an_index_of_checksums(objects, page_checksums):
    """Flipped bytes of an adopted file are an error of ours or not seen; where pages have checksums, what they cover is never wrong."""
    table = pa.table({"x": list(range(300)), "y": [f"text {i}" for i in range(300)]})
    sink = io.BytesIO()
    pq.write_table(table, sink, write_page_checksum=page_checksums, use_dictionary=["x"])
    data = sink.getvalue()
    ref = objects.put(data, suffix=".parquet")
    index = parquet.index_of(objects, ref, prefix="p")
    layout = opened(objects, ref, index)._columns.layout
    found = 0
    for place in range(4, layout.chunk(0, 1).end, 7):
        wrong = bytearray(data)
        wrong[place] ^= 0x10
        objects.store.put(ref.path, bytes(wrong))
        try:
            opened(objects, ref, index).read_many(range(300))
        except CorruptObject as error:
            assert "row group 0" in str(error)  # noqa: PT017
            found += 1
    assert found > (layout.chunk(0, 1).end // 7) * (0.9 if page_checksums else 0.05)


# ------------------------------------------------------------------ other readers


@pytest.fixture
def ours(tmp_path):
    samples = [
        {"caption": f"text {i}", "label": i % 3, "vector": np.arange(4, dtype=np.float32) + i, "tags": {"n": i, "of": ["a", "b"][: i % 3]}}
        for i in range(500)
    ]
    for i in range(0, 500, 11):
        del samples[i]["label"]
    with parquet.Writer(tmp_path / "ours.parquet", row_group_bytes=5000) as writer:
        for i, fields in enumerate(samples):
            writer.add(f"key/{i}", fields)
        writer.finish()
    rows = []
    for i, fields in enumerate(samples):
        plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}
        rows.append({"__key__": f"key/{i}", "label": None, **plain})
    return types.SimpleNamespace(path=str(tmp_path / "ours.parquet"), rows=rows)


def test_pyarrow_reads_it(ours):
    found = pa.dataset.dataset(ours.path).to_table()
    assert found.to_pylist() == [{name: row[name] for name in found.column_names} for row in ours.rows]
    assert pa.dataset.dataset(ours.path).to_table(filter=pa.dataset.field("label") == 2).num_rows == sum(r["label"] == 2 for r in ours.rows)


def test_duckdb_reads_it(ours):
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(f"select * from '{ours.path}'").fetchall()
    names = ["__key__", "caption", "label", "tags", "vector"]
    assert [dict(zip(names, row, strict=True)) for row in found] == [{name: row[name] for name in names} for row in ours.rows]
    assert duckdb.sql(f"select count(*) from '{ours.path}' where label = 1").fetchall() == [(sum(r["label"] == 1 for r in ours.rows),)]


def test_readers_keep_decoded_columns_together(tmp_path, monkeypatch):
    shared = parquet_read.Cache(50_000)
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
