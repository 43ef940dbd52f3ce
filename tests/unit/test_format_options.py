"""The options of the writers of formats: codecs by name, and what each format is given of what was asked for."""

import pytest

from dataplane.errors import InvalidArgument
from dataplane.formats.options import check_codecs, parse_codec, writer_options
from dataplane.ingest import IngestOptions
from dataplane.ingest.options import parse_chunks


def test_codecs_have_names_and_levels():
    assert parse_codec("zstd", "zarr") == ("zstd", None)
    assert parse_codec("zstd:-7", "zarr") == ("zstd", -7)
    assert parse_codec("gzip:9", "parquet") == ("gzip", 9)
    assert parse_codec("none", "parquet") == ("none", None)


@pytest.mark.parametrize(
    ("text", "format_", "said"),
    [
        ("lz4", "zarr", "no codec 'lz4' for a Zarr shard; there are zstd, blosc, gzip, none, with a level as in 'zstd:9'"),
        ("blosc", "parquet", "no codec 'blosc' for a Parquet shard; there are zstd, snappy, gzip, none"),
        ("zstd:0", "parquet", "codec 'zstd:0': zstd has levels from 1 to 22"),
        ("zstd:", "parquet", "codec 'zstd:': zstd has levels from 1 to 22"),
        ("none:1", "zarr", "codec 'none:1': none has no levels"),
    ],
)
def test_codecs_that_are_not_there(text, format_, said):
    with pytest.raises(InvalidArgument) as caught:
        parse_codec(text, format_)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("codecs", "parquet", "zarr"),
    [
        ("zstd:9", "zstd:9", "zstd:9"),
        ("none", "none", "none"),
        ("snappy", "snappy", "zstd"),
        ("blosc:3", "zstd", "blosc:3"),
        ({"v": "blosc"}, "zstd", {"v": "blosc"}),
    ],
)
def test_each_format_takes_what_it_knows(codecs, parquet, zarr):
    check_codecs(codecs)
    made = writer_options(codecs=codecs, chunks={"v": (1, 2)}, row_group_bytes=7)
    assert made == {"parquet": {"codec": parquet, "row_group_bytes": 7}, "zarr": {"codecs": zarr, "chunks": {"v": (1, 2)}}}


@pytest.mark.parametrize("codecs", ["lzma", "", "zstd:0", {"v": "snappy"}])
def test_codecs_that_some_format_cannot_have(codecs):
    with pytest.raises(InvalidArgument, match="codec"):
        check_codecs(codecs)


def test_chunks_are_by_field():
    assert parse_chunks(["1,64,64", "volume=2, 8", "a=b=3"]) == {"array": (1, 64, 64), "volume": (2, 8), "a=b": (3,)}
    for wrong in ("", "volume=", "volume", "1,,2"):
        with pytest.raises(InvalidArgument, match="write it as 1,64,64 or volume=1,64,64"):
            parse_chunks([wrong])


def test_a_commit_tells_what_is_not_usual():
    assert IngestOptions().writing == {}
    assert IngestOptions(codecs="none", chunks={"v": (1, 2)}).writing == {"codecs": "none", "chunks": {"v": [1, 2]}}
