"""Parquet shards as they are written: types, values, tables, and what other readers see."""

import datetime
import decimal
import functools
import types
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from dataplane.errors import InvalidArgument
from dataplane.formats import parquet
from dataplane.objects import Objects
from tests.parquets import make_shard, memory_store, opened, table_of

UTC = datetime.UTC


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
