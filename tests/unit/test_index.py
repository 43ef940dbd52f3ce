"""The index sidecar: what was placed is found again."""

import io

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
