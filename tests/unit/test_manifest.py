"""Manifest parts: rows survive Parquet, and damage is named."""

import io
from dataclasses import replace
from functools import partial

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataplane.errors import CorruptObject, FormatTooNew, InvalidArgument, NotFound
from dataplane.manifest import METADATA, Groups, open_shards, read_metadata, read_shards, write_metadata, write_shards
from dataplane.refs import Digest, Foreign
from dataplane.shards import ShardRow

SHARD = Digest("ab" * 32, ".tar", 5000)
INDEX = Digest("cd" * 32, ".idx", 300)
ROW = ShardRow("train", "tar", SHARD, INDEX, 10, 1000, median_bytes={"cls": 1, "jpg": 90})


def table(rows=3):
    columns = {"shard": [0] * rows, "row": range(rows), "key": [f"k{i}" for i in range(rows)], "label": ["x"] * rows, "width": [3] * rows}
    columns |= {
        "height": [4] * rows,
        "bytes": [7] * rows,
        "source": ["s"] * rows,
        "source_etag": ["e"] * rows,
        "source_blake3": [bytes(32)] * rows,
    }
    return pa.table({name: list(values) for name, values in columns.items()}, schema=METADATA)


def test_shards_survive():
    rows = (ROW, ROW.without([0, 9]), ShardRow("test", "tar", Foreign("s3://b/k", 9, '"e"', "v"), INDEX, 1, 2, tokens=77))
    data = write_shards(rows)
    assert tuple(read_shards(data, where="here")) == rows
    assert read_shards(data, where="here")[1:] == rows[1:]
    assert read_shards(data, where="here")[-1] == rows[2]
    assert [dict(row.median_bytes) for row in read_shards(data, where="here")] == [dict(row.median_bytes) for row in rows]
    assert write_shards(rows) == data
    assert tuple(read_shards(write_shards([]), where="here")) == ()


def many(count, first=0):
    return [replace(ROW, ref=Digest(f"{first + i:064x}", ".tar", 5000), samples=1 + i % 9) for i in range(count)]


def test_any_row_of_large_tables_and_few_of_them_in_memory():
    groups, rows = Groups(), [many(5000), many(12_345, 5000), many(3, 17_345)]
    tables = [open_shards(partial(pa.BufferReader, write_shards(each)), groups, where="here") for each in rows]
    for place in np.random.default_rng(0).permutation(17_348)[:300].tolist():
        table = 0 if place < 5000 else 1 if place < 17_345 else 2
        i = place - (0, 5000, 17_345)[table]
        assert tables[table][i] == rows[table][i]
    assert groups.get.cache_info().currsize == 16
    for table, each in zip(tables, rows, strict=True):
        assert list(table) == each
        assert table.samples.tolist() == [row.samples for row in each]


def test_a_table_whose_file_went_away_is_missing(tmp_path):
    file = tmp_path / "shards.parquet"
    file.write_bytes(write_shards([ROW]))
    shards = open_shards(partial(pa.OSFile, str(file)), Groups(), where="the table")
    file.unlink()
    with pytest.raises(NotFound, match="the table"):
        shards[0]


def test_metadata_survives_with_further_columns():
    wide = table().append_column("latitude", pa.array([1.5, 2.5, None]))
    data = write_metadata(wide)
    assert read_metadata(data, where="here").equals(wide)
    assert read_metadata(data, where="here", columns=["key", "label"]).column_names == ["key", "label"]


def test_metadata_needs_its_columns():
    with pytest.raises(InvalidArgument, match="metadata needs the column 'label' of type string"):
        write_metadata(table().drop(["label"]))
    with pytest.raises(InvalidArgument, match="'bytes' of type int64"):
        write_metadata(table().set_column(6, "bytes", pa.array([1, 2, 3], pa.int32())))


def test_others_read_the_parts(tmp_path):
    (tmp_path / "shards.parquet").write_bytes(write_shards([ROW, ROW.without([1])]))
    (tmp_path / "metadata.parquet").write_bytes(write_metadata(table()))
    with duckdb.connect() as connection:
        found = connection.sql(f"SELECT split, hex(blake3), samples FROM '{tmp_path}/shards.parquet'").fetchall()
        assert found == [("train", "AB" * 32, 10)] * 2
        assert connection.sql(f"SELECT count(*), min(key) FROM '{tmp_path}/metadata.parquet'").fetchall() == [(3, "k0")]


@pytest.mark.parametrize("read", [read_shards, read_metadata])
def test_damage_is_named(read):
    good = write_shards([ROW])
    for data in (b"", b"PAR1", good[:-20], b"x" * 100):
        with pytest.raises(CorruptObject, match=r"lake/objects/x\.parquet is not a manifest part"):
            read(data, where="lake/objects/x.parquet")
    plain = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), plain)
    with pytest.raises(CorruptObject, match="is not a manifest part"):
        read(plain.getvalue(), where="here")


@pytest.mark.parametrize("read", [read_shards, read_metadata])
def test_a_newer_format_asks_for_an_upgrade(read):
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({b"dataplane.manifest": b"2"}), sink)
    with pytest.raises(FormatTooNew, match="here has format 2; this release reads up to 1: upgrade"):
        read(sink.getvalue(), where="here")
