"""Parquet files that somebody else wrote."""

import functools
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataplane.errors import BadSample, CorruptObject, InvalidArgument, NotFound, SourceChanged
from dataplane.formats import parquet
from dataplane.formats.index import read_index
from dataplane.objects import Objects
from dataplane.refs import Foreign
from dataplane.store import open_store
from tests.parquets import memory_store, opened, table_of, write_theirs


@pytest.fixture
def store():
    return memory_store()


@pytest.fixture
def objects(store):
    return Objects(store)


@pytest.fixture
def adopt(tmp_path):
    """Write a table as somebody else does; the reference and its path."""
    return functools.partial(write_theirs, tmp_path / "theirs")


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
