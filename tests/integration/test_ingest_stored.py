"""How an ingest compresses and cuts what it writes: `--codec`, `--row-group` and `--chunk`."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from typer.testing import CliRunner

from dataplane import Lake
from dataplane.cli import build
from dataplane.errors import BadSources, InvalidArgument
from dataplane.ingest import IngestOptions, ingest


@pytest.fixture
def tables(tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "a.csv").write_text("id,text\n" + "".join(f"{i},some words that come again and again {i}\n" for i in range(3000)))
    return folder


@pytest.fixture
def arrays(tmp_path):
    folder = tmp_path / "arrays"
    folder.mkdir()
    for i in range(6):
        np.save(folder / f"{i}.npy", np.full((8, 12), i, np.int16))
    np.savez(folder / "more.npz", array=np.full((8, 12), 9, np.int16), depth=np.ones((4, 4)), vector=np.arange(3.0))
    return folder


@pytest.fixture
def run(tmp_path):
    def command(*arguments):
        done = CliRunner().invoke(build(), ["ingest", *map(str, arguments), "--lake", str(tmp_path / "lake"), "--json"])
        return json.loads(done.stdout) if done.exit_code == 0 else done.exception

    return command


def paths(folder, name):
    lake = Lake(str(folder / "lake"))
    return {piece.format: str(lake.store.local_path(piece.ref)) for piece in lake.dataset(name)["train"].shards[0].row.pieces}


@pytest.mark.parametrize(
    ("codec", "compression"), [("zstd:19", "ZSTD"), ("snappy", "SNAPPY"), ("gzip:1", "GZIP"), ("none", "UNCOMPRESSED"), ("zstd", "ZSTD")]
)
def test_tables(tmp_path, tables, run, codec, compression):
    assert run(tables, "t", "--codec", codec, "--row-group", "16KiB")["samples"] == 3000
    metadata = pq.read_metadata(paths(tmp_path, "t")["parquet"])
    assert {metadata.row_group(0).column(i).compression for i in range(metadata.num_columns)} == {compression}
    assert 8 < metadata.num_row_groups < 30
    version = Lake(str(tmp_path / "lake")).catalog.version("t")
    assert version.lineage["parameters"].get("codecs", "zstd") == codec
    assert version.lineage["parameters"]["row_group_bytes"] == 16 << 10
    samples = Lake(str(tmp_path / "lake")).dataset("t")["train"]
    assert samples.key("a.csv#2999").fields == {"id": 2999, "text": "some words that come again and again 2999"}


def test_a_level_counts(tmp_path, tables, run):
    sizes = []
    for level in (1, 22):
        run(tables, f"t{level}", "--codec", f"zstd:{level}", "--row-group", "1MiB")
        metadata = pq.read_metadata(paths(tmp_path, f"t{level}")["parquet"])
        sizes.append(sum(metadata.row_group(0).column(i).total_compressed_size for i in range(metadata.num_columns)))
    assert sizes[1] < sizes[0]


def test_other_ways_to_store_make_no_new_version(tmp_path, tables):
    lake = str(tmp_path / "lake")
    ingest(lake, tables, "t")
    assert not {"codecs", "row_group_bytes", "chunks"} & Lake(lake).catalog.version("t").lineage["parameters"].keys(), (
        "those that are usual"
    )
    assert not ingest(lake, tables, "t", options=IngestOptions(codecs="snappy", row_group_bytes=1000)).committed


def test_arrays(tmp_path, arrays, run):
    assert run(arrays, "a", "--codec", "blosc:9", "--chunk", "2,4,12", "--chunk", "depth=1,2,2")["samples"] == 7
    found = paths(tmp_path, "a")
    with zarr.storage.ZipStore(found["zarr"], mode="r") as store:
        group = zarr.open_group(store, mode="r")
        assert group["array"].chunks == (2, 4, 12)
        assert group["depth"].chunks == (1, 2, 2)
        assert [type(codec).__name__ for codec in group["array"].compressors] == ["BloscCodec", "Crc32cCodec"]
    assert pq.read_metadata(found["parquet"]).row_group(0).column(0).compression == "ZSTD", "Parquet has no such codec"
    samples = Lake(str(tmp_path / "lake")).dataset("a")["train"]
    assert (samples.key("3").fields["array"] == 3).all()


@pytest.mark.parametrize(
    ("what", "options", "said"),
    [
        ("tables", ("--codec", "lzma"), "no codec 'lzma': Parquet has zstd, snappy, gzip, none; Zarr has zstd, blosc, gzip, none"),
        ("tables", ("--codec", "blosc"), "no codec 'blosc' for a Parquet shard; there are zstd, snappy, gzip, none"),
        ("tables", ("--codec", "snappy:3"), "codec 'snappy:3': snappy has no levels"),
        ("tables", ("--codec", "zstd:0"), "codec 'zstd:0': zstd has levels from 1 to 22"),
        ("tables", ("--chunk", "1,2"), "chunks (--chunk) is not for tables, which go into parquet shards"),
        ("tables", ("--row-group", "0"), "row_group_bytes is 0; it must be at least 1"),
        ("tables", ("--row-group", "many"), "'many' is no number of bytes"),
        ("arrays", ("--codec", "snappy"), "no codec 'snappy' for a Zarr shard; there are zstd, blosc, gzip, none"),
        ("arrays", ("--chunk", "1,x"), "'1,x' is no chunk; write it as 1,64,64 or volume=1,64,64: samples first"),
        (
            "arrays",
            ("--kind", "files", "--codec", "none"),
            "codecs (--codec) is not for files, which go into tar shards; those hold the files",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(request, tmp_path, run, what, options, said):  # noqa: PLR0917
    error = run(request.getfixturevalue(what), "x", *options)
    assert isinstance(error, InvalidArgument)
    assert said in str(error)
    assert not (tmp_path / "lake").exists()


def test_a_chunk_that_does_not_fit_is_told(tmp_path, arrays):
    with pytest.raises(BadSources) as caught:
        ingest(str(tmp_path / "lake"), arrays, "x", options=IngestOptions(chunks={"array": (1, 4)}))
    assert all("give 3 positive numbers, samples first" in bad.reason for bad in caught.value.bad)


def test_a_mapping_is_of_zarr(tmp_path, tables):
    with pytest.raises(InvalidArgument, match="a Parquet shard has one for all fields"):
        ingest(str(tmp_path / "lake"), tables, "x", options=IngestOptions(codecs={"text": "zstd"}))
