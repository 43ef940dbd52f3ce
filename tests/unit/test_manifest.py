"""Manifest parts: rows survive Parquet and JSON, bitmaps select, and damage is named."""

import io

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.errors import CorruptObject, FormatTooNew, InvalidArgument
from dataplane.manifest import METADATA, Part, ShardRow, read_metadata, read_shards, write_metadata, write_shards
from dataplane.refs import Digest, Foreign

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
    part = Part(SHARD, INDEX, 10)
    assert Part.from_json(part.to_json()) == part


@pytest.mark.parametrize("parse", [ShardRow.from_json, Part.from_json])
def test_damaged_json(parse):
    foreign = {"url": "x", "size": 1}
    with pytest.raises(CorruptObject, match="not a"):
        parse({"index": foreign, "shards": foreign, "metadata": foreign})


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
