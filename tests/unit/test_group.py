"""A shard of several objects: all of them have the same rows, whatever is refused on the way."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from dataplane import Lake
from dataplane.errors import InvalidArgument
from dataplane.formats import open_shard
from dataplane.formats.index import ImageInfo, read_index
from dataplane.group import Group
from dataplane.ingest import IngestOptions, ingest
from dataplane.writer import WriteOptions, write


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


def opened(lake, row):
    indexes = [read_index(lake.objects.get(piece.index), where="x") for piece in row.pieces]
    return [open_shard(piece.format, lake.objects, piece.ref, index) for piece, index in zip(row.pieces, indexes, strict=True)]


VOLUME = np.ones((2, 2))


@pytest.mark.parametrize(
    "refused",
    [
        {"volume": VOLUME, "é": b"bytes"},
        {"volume": VOLUME, "a" * 16: b"bytes"},
        {"volume": VOLUME, "b": "bytes before, text now"},
        {"volume": VOLUME, "__key__": "text"},
        {"volume": np.ones((3, 3)), "b": b"bytes", "number": 3},
        {"volume": VOLUME, "b": b"bytes", "odd": VOLUME.astype("U4")},
        {"volume": VOLUME, "number": 2**70},
        {"one/two": VOLUME, "b": b"bytes"},
        {"volume": VOLUME, "number": [3]},
        {"volume": VOLUME, "number": True},
        {"volume": VOLUME, "number": "three"},
    ],
)
def test_a_sample_that_is_refused_leaves_no_row_behind(lake, tmp_path, refused):
    good = {"volume": VOLUME, "b": b"bytes", "number": 3}
    with Group(tmp_path) as group:
        group.add("first", good)
        with pytest.raises(InvalidArgument):
            group.add("refused", refused)
        group.add("last", good)
        row = group.finish(lake.objects, "train")
    for reader in opened(lake, row):
        assert reader.keys() == ["first", "last"]
        reader.verify()
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]


def test_a_format_that_only_a_refused_sample_has_is_none_of_the_shard(lake, tmp_path):
    with Group(tmp_path) as group:
        group.add("a", {"text": "a"})
        with pytest.raises(InvalidArgument, match="dtype"):
            group.add("b", {"text": "b", "volume": VOLUME.astype("U4")})
        row = group.finish(lake.objects, "train")
    assert [piece.format for piece in row.pieces] == ["parquet"]
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]


def test_what_does_not_go_into_settled_columns_is_refused_at_once(lake, tmp_path):
    with Group(tmp_path, options={"parquet": {"row_group_bytes": 1}}) as group:
        for i in range(100):
            group.add(f"{i}", {"vector": np.zeros(100), "number": 1, "text": "x", "volume": VOLUME})
        for odd in ({"vector": np.zeros(7)}, {"number": 1.5}, {"text": 3}, {"other": "x"}, {"number": 2**70}):
            with pytest.raises(InvalidArgument, match="'odd'"):
                group.add("odd", {"volume": VOLUME, **odd})
        group.add("last", {"volume": VOLUME, "number": None})
        row = group.finish(lake.objects, "train")
    assert [len(reader) for reader in opened(lake, row)] == [101, 101]
    assert [reader.keys()[-1] for reader in opened(lake, row)] == ["last", "last"]


@pytest.mark.parametrize("drafts", [False, True])
def test_what_is_placed_is_what_is_added(lake, tmp_path, drafts):
    """Also behind a sample that lacks its fields, and beside those that were refused."""
    buffer, rows = np.zeros(1 << 14, np.uint8), []
    buffer[:] = np.arange(1 << 14)
    for placing in (False, True):
        with Group(tmp_path, store=lake.store if drafts else None) as group:
            group.add("first", {"z": b"other"})
            for i, (at, size) in enumerate(((2048, 100), (4096, 512), (9000, 0))):
                data, image, before = buffer[at : at + size].tobytes(), ImageInfo(i + 1, 9, 6), ("cls", b"%d" % i)
                if placing:
                    group.place(f"{i}", "jpg", buffer, at, size, image=image, before=before)
                    with pytest.raises(InvalidArgument, match=f"'{i}' is the key of a sample"):
                        group.place(f"{i}", "jpg", buffer, at, size)
                    with pytest.raises(InvalidArgument, match="cannot be the name"):
                        group.place("odd", "é", buffer, at, size)
                else:
                    group.add(f"{i}", {"jpg": data, "cls": before[1]}, {"jpg": image})
            group.flush()
            buffer[:2048] = 7
            rows.append((group.finish(lake.objects, "train"), group.fields, len(group)))
    assert rows[0] == rows[1]
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]


def test_a_key_comes_once_in_a_shard(tmp_path):
    with Group(tmp_path) as group:
        group.add("a", {"one": b"1"})
        with pytest.raises(InvalidArgument, match="'a' is the key of a sample of this shard already"):
            group.add("a", {"two": b"2"})


def test_memory_of_others_goes_into_a_tar_as_its_bytes(lake, tmp_path):
    numbers = np.arange(4, dtype=np.float32)
    with Group(tmp_path) as group:
        group.add("a", {"raw": memoryview(numbers), "copy": bytearray(b"12")})
        row = group.finish(lake.objects, "train")
    (reader,) = opened(lake, row)
    assert reader.read(0) == {"raw": numbers.tobytes(), "copy": b"12"}


@pytest.mark.parametrize(
    "value",
    [
        [[1], [1, 2]],
        [np.int64(1), np.int64(2)],
        [b"1", b"2"],
        float("nan"),
        [{"at": datetime.datetime(2020, 1, 1)}],
        [np.arange(3), np.arange(2)],
        [],
    ],
)
def test_values_of_any_kind_can_be_written_and_told_from_others(lake, value):
    write(lake, "x", [{"__key__": "a", "value": value}])
    assert write(lake, "x", [{"__key__": "a", "value": value}]).number == 1
    found = lake.dataset("x")["train"][0].fields["value"]
    assert repr(pa.array([found]).to_pylist()) == repr(pa.array([value]).to_pylist())


def test_long_arrays_in_a_list_are_told_from_others(lake):
    one, other = ([np.arange(5000) + (i == at) for i in range(2)] for at in (0, 5))
    write(lake, "x", [{"__key__": "a", "value": one}])
    assert write(lake, "x", [{"__key__": "a", "value": other}]).number == 2


def test_a_sample_may_have_nothing_but_its_key(lake):
    dataset = write(lake, "x", [{"__key__": "a"}, {"__key__": "b", "value": None}])
    assert [(sample.key, dict(sample.fields)) for sample in dataset["train"]] == [("a", {}), ("b", {})]


@pytest.mark.parametrize("shard_bytes", [1, 1 << 20])
def test_a_key_comes_once_in_what_is_written(lake, shard_bytes):
    with pytest.raises(InvalidArgument, match="'a' is the key of two samples"):
        write(lake, "x", [{"__key__": "a", "n": 1}, {"__key__": "a", "n": 2}], options=WriteOptions(shard_bytes=shard_bytes))
    assert lake.datasets() == []


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"__key__": "a\udc80", "n": 1}, "not Unicode text"),
        ({"__key__": "a", "n": 1, "__split__": 3}, "a split is named by a text; got 3"),
    ],
)
def test_keys_and_splits_are_texts(lake, sample, message):
    with pytest.raises(InvalidArgument, match=message):
        write(lake, "x", [sample])


def test_formats_that_are_none():
    with pytest.raises(InvalidArgument, match="'n' is to lie in 'csv'; the formats are parquet, tar and zarr"):
        WriteOptions(formats={"n": "csv"})


def test_arrays_that_are_not_like_the_others_are_listed_and_no_row_moves(lake, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    made = {}
    for i in range(300):
        made[f"{i:03d}"] = {"a": np.full((4, 4), i), "v": np.full(2000, float(i)), "n": np.int64(i)}
    made["017"]["v"] = made["017"]["v"][:7]
    made["018"]["__key__"] = np.arange(3)
    made["019"]["n"] = np.bool_(True)
    made["021"]["n"] = np.arange(3)
    made["020"]["late"] = np.int64(3)
    for key, arrays in made.items():
        np.savez(source / f"{key}.npz", **arrays)
    result = ingest(lake, source, "x", options=IngestOptions(workers=1))
    bad = {one.source.removesuffix(".npz") for one in result.bad}
    assert {"018"} <= bad <= {"017", "018", "019", "020", "021"}
    samples = {sample.key: sample.fields for sample in lake.dataset("x")["train"]}
    assert samples.keys() == made.keys() - bad
    assert all(np.array_equal(fields[name], value) for key, fields in samples.items() for name, value in made[key].items())
