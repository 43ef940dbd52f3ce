"""The index sidecar: what was placed is found again."""

import io

import numpy as np
import pyarrow as pa
import pytest

from dataplane.errors import CorruptObject, FormatTooNew, NotFound
from dataplane.formats.index import ImageInfo, IndexRow, Placed, read_index, write_index

ROWS = [
    IndexRow("a.b/ü", {"jpg": Placed(512, 100, 7, ImageInfo(30, 40, 6)), "cls": Placed(2048, 1, 4294967295)}),
    IndexRow("second", {"cls": Placed(4096, 0, 0)}),
    IndexRow("", {"jpg": Placed(1 << 40, 5, 1)}),
]


def test_what_was_placed_is_found():
    index = read_index(write_index(ROWS), where="here")
    assert len(index) == 3
    assert index.keys() == [row.key for row in ROWS] == [index.key(i) for i in range(3)]
    assert [index.placed(i) for i in range(3)] == [dict(row.fields) for row in ROWS]
    assert sorted(index.fields) == ["cls", "jpg"]
    assert index.field("jpg").size.tolist() == [100, -1, 5]
    assert index.field("cls").width is None


def test_segments_are_found_without_copies():
    packed = bytes(range(200))
    indexed = [IndexRow(f"{i}", {"jpg": Placed(512, 100, 7, ImageInfo(30, 40, 6, packed[:i]))}) for i in (0, 200, 0, 3)]
    data = write_index([*indexed, *ROWS])
    index = read_index(data, where="here")
    assert [index.placed(i) for i in range(4)] == [dict(row.fields) for row in indexed]
    column = index.field("jpg").segments
    assert column is not None
    assert [bytes(column[i]) for i in range(len(index))] == [b"", packed, b"", packed[:3], b"", b"", b""]
    inside = np.frombuffer(data, np.uint8)
    assert inside.ctypes.data <= np.frombuffer(column[1], np.uint8).ctypes.data < inside.ctypes.data + len(data)
    assert index.described([1]) == [{"jpg.width": 30, "jpg.height": 40, "jpg.orientation": 6}]  # for people, and for filters


def test_what_is_not_indexed_costs_nothing():
    index = read_index(write_index(ROWS), where="here")
    assert index.field("jpg").segments is None
    assert index.placed(0)["jpg"].image.segments == b""
    names = pa.ipc.open_file(write_index(ROWS)).schema.names
    assert names == [
        *("key", "cls.offset", "cls.size", "cls.crc32c", "jpg.offset", "jpg.size", "jpg.crc32c"),
        *("jpg.width", "jpg.height", "jpg.orientation"),
    ]  # as in the releases before there were segments: equal samples have equal indexes


def test_columns_of_later_releases_are_left_alone():
    table = pa.ipc.open_file(write_index(ROWS)).read_all()
    later = table.append_column("jpg.later", pa.array([b"x", None, b""])).append_column("cls.more", pa.array([1, 2, 3]))
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, later.schema) as writer:
        writer.write_table(later)
    index = read_index(sink.getvalue(), where="here")
    assert [index.placed(i) for i in range(3)] == [dict(row.fields) for row in ROWS]
    assert sorted(index.fields) == ["cls", "jpg"]


def test_segments_that_are_no_bytes_are_damage():
    table = pa.ipc.open_file(write_index(ROWS)).read_all().append_column("jpg.segments", pa.array([1, 2, 3]))
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(CorruptObject, match="here is not an index"):
        read_index(sink.getvalue(), where="here")


def test_equal_rows_give_equal_bytes():
    assert write_index(ROWS) == write_index(list(ROWS))
    assert len(read_index(write_index([]), where="here")) == 0


def test_a_field_that_is_not_there():
    with pytest.raises(NotFound, match="here has no field 'png'; it has cls, jpg"):
        read_index(write_index(ROWS), where="here").field("png")


def test_damage_is_named():
    good = write_index(ROWS)
    no_key = io.BytesIO()
    table = pa.table({"x": [1]}).replace_schema_metadata({b"dataplane.index": b"1"})
    with pa.ipc.new_file(no_key, table.schema) as writer:
        writer.write_table(table)
    for data in (b"", b"rubbish", good[:100], good[: len(good) // 2], no_key.getvalue()):
        with pytest.raises(CorruptObject, match="here is not an index"):
            read_index(data, where="here")


def test_a_newer_format_asks_for_an_upgrade():
    sink = io.BytesIO()
    table = pa.table({"later": [1]}).replace_schema_metadata({b"dataplane.index": b"2"})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(FormatTooNew, match="format 2"):
        read_index(sink.getvalue(), where="here")
