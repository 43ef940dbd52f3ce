"""Of a large column chunk only the pages are read that hold the wanted rows, where the file says where those lie."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataplane.errors import CorruptObject
from dataplane.formats import parquet
from dataplane.formats.parquet_pages import Footer, field_pages, parse_pages
from dataplane.formats.parquet_thrift import list_of, number, write_struct
from dataplane.objects import Objects
from dataplane.ranges import Span
from tests.parquets import memory_store, opened

ROWS = 20_000


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "big": [rng.bytes(200) for _ in range(ROWS)],
            "text": [f"text {n}" * 20 for n in rng.integers(0, 3000, ROWS)],
            "nested": [{"a": i, "b": [f"{i}" * 30] * (i % 3)} for i in range(ROWS)],
            "small": pa.array(range(ROWS), pa.int32()),
        }
    )


@pytest.fixture
def store():
    return memory_store()


@pytest.fixture
def theirs(store, table):
    """Write the table as somebody else does, in one row group, and open it."""

    def write(*, checksum=False, cache_bytes=64 << 20, damage=None, **options):
        sink = io.BytesIO()
        options = {"write_page_index": True, "max_rows_per_page": 500, "write_batch_size": 100, "compression": "none", **options}
        options.setdefault("use_dictionary", False)
        pq.write_table(table, sink, row_group_size=ROWS, **options)
        objects = Objects(store)
        ref = objects.put(sink.getvalue(), suffix=".parquet")
        index = parquet.index_of(objects, ref, prefix="p", checksum=checksum)
        store.clear()
        return opened(objects, ref, index, cache_bytes=cache_bytes)

    return write


def row_of(table, row, names):
    return table.slice(row, 1).select(names).to_pylist()[0]


def plain(sample):
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in sample.items()}


def test_a_row_costs_its_pages(theirs, store, table):
    reader = theirs()
    assert reader.read(12_345, ["big"]) == row_of(table, 12_345, ["big"])
    assert len(store.calls) == 2, "the page index, then the page"
    assert 100_000 < store.bytes_read < 110_000, "one page of forty"
    store.clear()
    assert [reader.read(row, ["big"]) for row in (12_000, 12_499)] == [row_of(table, row, ["big"]) for row in (12_000, 12_499)]
    assert not store.calls, "the page is kept"
    assert reader.read(12_500, ["big"]) == row_of(table, 12_500, ["big"])
    assert len(store.calls) == 1, "the page index is known"


def test_a_dictionary_is_read_once(theirs, store, table):
    reader = theirs(use_dictionary=["big"], dictionary_pagesize_limit=500_000)
    read = []
    for row in (17, 9_000, 19_999):  # the first of them is in the dictionary, the others were written when it was full
        store.clear()
        assert reader.read(row, ["big"]) == row_of(table, row, ["big"])
        read.append(store.bytes_read)
    assert read[0] > 500_000
    assert all(100_000 < size < 130_000 for size in read[1:])


def test_nested_fields_have_pages_of_several_columns(theirs, store, table):
    reader = theirs()
    assert plain(reader.read(777)) == row_of(table, 777, sorted(table.column_names))
    pages = reader._columns._pages
    assert sorted(name for _, name in pages) == ["big", "nested", "text"], "the others are small"
    assert len(pages[0, "nested"].chunks) == 2
    assert store.bytes_read < 800_000


def test_many_rows_are_a_whole_chunk(theirs, store, table):
    reader = theirs(cache_bytes=0)
    rows = list(range(0, ROWS, 600))
    assert reader.read_many(rows, ["big"]) == table.select(["big"]).take(rows).to_pylist()
    assert len(store.calls) == 2
    store.clear()
    assert reader.read_table(None, ["big"]).equals(table.select(["big"]))
    assert len(store.calls) == 1


def test_in_order_each_page_is_read_once(theirs, store, table):
    reader = theirs(cache_bytes=1 << 20)
    for start in range(0, ROWS, 100):
        rows = range(start, start + 100)
        assert reader.read_table(rows, ["big"]).equals(table.select(["big"]).slice(start, 100))
    assert len(store.calls) == 1 + ROWS // 500


def test_recorded_checksums_are_of_whole_chunks(theirs, store, table):
    reader = theirs(checksum=True)
    assert reader.read(3, ["big"]) == row_of(table, 3, ["big"])
    assert store.bytes_read > 4_000_000


def test_a_file_without_a_page_index_is_read_by_chunks(theirs, store, table):
    reader = theirs(write_page_index=False)
    assert reader.read(3, ["big"]) == row_of(table, 3, ["big"])
    assert len(store.calls) == 1
    assert store.bytes_read > 4_000_000


def test_duckdb_writes_files_that_are_read(tmp_path, table):
    duckdb = pytest.importorskip("duckdb")
    duckdb.from_arrow(table).write_parquet(str(tmp_path / "theirs.parquet"), row_group_size=ROWS)
    objects = Objects(memory_store())
    ref = objects.put((tmp_path / "theirs.parquet").read_bytes(), suffix=".parquet")
    reader = opened(objects, ref, parquet.index_of(objects, ref, prefix="p"))
    assert [plain(sample) for sample in reader.read_many([4, 19_000])] == table.select(sorted(table.column_names)).take(
        [4, 19_000]
    ).to_pylist()


def test_a_damaged_page_is_an_error(theirs, store, table):
    reader = theirs(write_page_checksum=True, cache_bytes=0)
    reader.read(0, ["big"])
    pages = reader._columns._pages[0, "big"]
    ((_, span),) = pages.spans(1000, 1500)
    data = bytearray(memoryview(store.get(reader._columns._ref.path).buffer()))
    data[span.end - 30] ^= 1
    store.put(reader._columns._ref.path, bytes(data))
    assert reader.read(1500, ["big"]) == row_of(table, 1500, ["big"]), "another page"
    with pytest.raises(CorruptObject, match=r"field 'big', row group 0: it cannot be decoded \(.*CRC.*dataplane verify"):
        reader.read(1001, ["big"])


def test_a_file_that_was_cut_is_an_error(theirs, store):
    reader = theirs(cache_bytes=0)
    reader.read(0, ["big"])
    data = bytes(memoryview(store.get(reader._columns._ref.path).buffer()))
    store.put(reader._columns._ref.path, data[:2_000_000])
    with pytest.raises(CorruptObject, match=r"field 'big', row group 0: it ends \d+ bytes early"):
        reader.read(ROWS - 1, ["big"])


def test_threads_share_a_reader(theirs, table):
    reader = theirs(cache_bytes=1 << 20)
    rows = np.random.default_rng(0).integers(0, ROWS, 60).tolist()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda row: plain(reader.read(row)), rows))
    assert found == [row_of(table, row, sorted(table.column_names)) for row in rows]


def index_of(*pages):
    return write_struct({1: list_of([write_struct(dict(zip((1, 2, 3), map(number, page), strict=True))) for page in pages])})


def test_where_pages_lie():
    pages = parse_pages(index_of((110, 40, 0), (150, 25, 7), (175, 25, 9)), Span(100, 200), 20)
    assert pages.rows.tolist() == [0, 7, 9, 20]
    assert pages.places.tolist() == [110, 150, 175, 200]


@pytest.mark.parametrize(
    "pages",
    [
        [],
        [(110, 90, 1)],
        [(90, 110, 0)],
        [(110, 80, 0)],
        [(110, 100, 0)],
        [(110, 40, 0), (160, 40, 7)],
        [(110, 40, 0), (150, 50, 0)],
        [(110, 40, 0), (150, 50, 20)],
        [(110, 0, 0), (110, 90, 7)],
    ],
)
def test_pages_that_cannot_be(pages):
    with pytest.raises(ValueError, match="its pages do not"):
        parse_pages(index_of(*pages), Span(100, 200), 20)


def test_fields_are_cut_where_all_their_columns_are(monkeypatch):
    monkeypatch.setattr("dataplane.formats.parquet_pages._LEAST_BYTES", 30)
    one = parse_pages(index_of((110, 40, 0), (150, 25, 7), (175, 25, 9)), Span(100, 200), 20)
    two = parse_pages(index_of((200, 1, 0), (201, 1, 5), (202, 1, 9), (203, 97, 12)), Span(200, 300), 20)
    both = field_pages([one, two])
    assert both.rows.tolist() == [0, 9, 20]
    assert both.bytes.tolist() == [10, 77, 200]
    assert both.spans(9, 20) == [(Span(100, 110), Span(175, 200)), (Span(200, 200), Span(202, 300))]
    assert both.around(np.array([2, 3, 8])) == [(0, 9)]
    assert both.around(np.array([2, 9])) == both.around(np.array([10])) == [(0, 20)], "more than half of the bytes"
    assert field_pages([one]).rows.tolist() == [0, 7, 20], "pages that are small are taken together"
    assert field_pages([parse_pages(index_of((200, 100, 0)), Span(200, 300), 20)]) is None


def test_a_footer_that_is_none():
    for tail in (b"", b"\0" * 20, b"\x19\xfc" + b"\xff" * 30):
        with pytest.raises(ValueError, match="it "):
            Footer(tail)
