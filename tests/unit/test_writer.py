"""`write`: samples from Python, whose fields go into the formats that suit them."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from dataplane import Lake
from dataplane.errors import BadSample, InvalidArgument, NotFound
from dataplane.formats.index import read_index
from dataplane.group import Group, format_of
from dataplane.testing import RecordingStore
from dataplane.upkeep import verify_lake
from dataplane.versions import where
from dataplane.writer import WriteOptions, write
from tests.folders import jpeg

SMALL = WriteOptions(split="train=0.8,test=0.2", shard_bytes=20_000)


def sample(i, *, extra=0):
    return {
        "__key__": f"s/{i:03d}",
        "__label__": ("even", "odd")[i % 2],
        "jpg": jpeg(i),
        "caption": f"number {i + extra}",
        "vector": np.arange(8, dtype=np.float32) + i,
        "volume": np.full((3, 4, 5), i, np.int16),
        "count": i,
    }


@pytest.fixture(params=["folder", "memory"])
def lake(request, tmp_path):
    return Lake.init(str(tmp_path / "lake") if request.param == "folder" else f"memory://{tmp_path.name}")


def same(found, wanted):
    fields = {name: value for name, value in wanted.items() if not name.startswith("__")}
    return set(found.fields) == set(fields) and all(np.array_equal(found.fields[name], value) for name, value in fields.items())


def test_fields_of_all_formats_side_by_side(lake):
    made = {f"s/{i:03d}": sample(i) for i in range(60)}
    dataset = write(lake, "mixed", made.values(), options=SMALL)
    assert str(dataset) == "mixed@1"
    assert {field.name: str(field) for field in dataset.schema.fields} == {
        "caption": "value string",
        "count": "value int64",
        "jpg": "image",
        "vector": "value list<float>",
        "volume": "array int16[3, 4, 5]",
    }
    assert set(dataset.splits) == {"train", "test"}
    assert len(dataset["train"].shards) > 2
    assert [piece.format for piece in dataset["train"].shards[0].row.pieces] == ["tar", "parquet", "zarr"]
    found = {one.key: one for split in dataset.splits for one in dataset[split]}
    assert set(found) == set(made)
    assert all(same(found[key], made[key]) for key in made)
    assert verify_lake(lake).problems == []
    assert [meta for chunk in lake.store.list("writers") for meta in chunk] == []


def test_random_access_and_projection(lake):
    train = write(lake, "mixed", (sample(i) for i in range(40)), options=WriteOptions(shard_bytes=20_000))["train"]
    for i in (3, 39, 0, -1):
        assert same(train[i], sample(int(train[i].key[2:])))
    assert same(train.key("s/017"), sample(17))
    assert train[train.index_of("s/017")].key == "s/017"
    with pytest.raises(NotFound, match=r"mixed@1/train has no sample 's/999'"):
        train.key("s/999")
    only = train.read_many([5, 2, 5], ["count", "volume"])
    assert [sorted(one.fields) for one in only] == [["count", "volume"]] * 3
    assert only[0].fields["count"] == only[2].fields["count"] == int(only[0].key[2:])
    with pytest.raises(NotFound, match="no field 'png'; it has caption, count, jpg, vector, volume"):
        train.read_many([0], ["png"])


def test_writing_again_adds_replaces_and_does_nothing(lake):
    write(lake, "mixed", (sample(i) for i in range(20)), options=SMALL)
    assert write(lake, "mixed", (sample(i) for i in range(20)), options=SMALL).number == 1
    dataset = write(lake, "mixed", (sample(i, extra=100 * (i == 7)) for i in range(25)), options=SMALL)
    assert dataset.number == 2
    found = {one.key: one.fields["caption"] for split in dataset.splits for one in dataset[split]}
    assert found == {f"s/{i:03d}": f"number {107 if i == 7 else i}" for i in range(25)}
    assert len(lake.dataset("mixed@1")["train"]) + len(lake.dataset("mixed@1")["test"]) == 20


def test_new_keys_are_added_without_a_look_at_the_old_ones(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    options = replace(SMALL, new_keys=True)
    for first in range(0, 60, 3):
        write(lake, "mixed", (sample(i) for i in range(first, first + 3)), options=options)
    dataset = lake.dataset("mixed")
    assert dataset.number == 20
    assert len(dataset.version.parts) < 16
    found = {one.key: one for split in dataset.splits for one in dataset[split]}
    assert all(same(found[f"s/{i:03d}"], sample(i)) for i in range(60))
    assert sum(count.samples for count in dataset.version.splits.values()) == len(found) == 60
    assert {name: len(dataset[name]) for name in dataset.splits} == {name: count.samples for name, count in dataset.version.splits.items()}
    recorded = RecordingStore(lake.store)
    write(Lake(recorded), "mixed", [sample(99)], options=options)
    read = {call.path for call in recorded.calls if call.verb.startswith("get")}
    assert not {part.metadata.path for part in dataset.version.parts[:-8]} & read
    assert verify_lake(lake, deep=True).problems == []


def test_samples_are_chosen_by_their_small_values(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    write(lake, "mixed", (sample(i) for i in range(30)), options=SMALL)
    where(lake, "mixed", "\"count\" >= 20 and caption <> 'number 25' and label = 'odd'", to="some")
    chosen = lake.dataset("some")
    assert sorted(one.key for split in chosen.splits for one in chosen[split]) == ["s/021", "s/023", "s/027", "s/029"]
    assert not {"volume", "vector", "jpg"} & set(chosen.metadata().column_names)


def test_a_sample_may_lack_fields_and_name_its_split(lake):
    rows = [
        {"__key__": "a", "__split__": "one", "txt": b"a"},
        {"__key__": "b", "__split__": "one", "volume": np.ones((2, 2)), "n": None},
        {"__key__": "c", "__split__": "two", "n": 3},
    ]
    dataset = write(lake, "sparse", rows)
    assert [dict(one.fields).keys() for one in dataset["one"]] == [{"txt"}, {"volume"}]
    assert dataset["one"][0].fields["txt"] == b"a"
    assert dataset["two"][0].fields == {"n": 3}


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([], InvalidArgument, "no samples to write to 'x'"),
        ([{"n": 1}], InvalidArgument, "needs its key, a text that is not empty, under '__key__'; got None"),
        ([{"__key__": "a", "jpg": b"no"}], BadSample, "'a': field 'jpg': .*fields of other bytes need another name"),
        (
            [{"__key__": "a", "v": np.ones((2, 2))}, {"__key__": "b", "v": np.ones((2, 3))}],
            InvalidArgument,
            r"'b': the field 'v' is array float64\[2, 3\], and array float64\[2, 2\] in the samples before it",
        ),
        ([{"__key__": "a", "n": 1}, {"__key__": "b", "n": "text"}], InvalidArgument, "'n'"),
        ([{"__key__": "a", "n": object()}], InvalidArgument, "'n'"),
        ([{"__key__": "a", "n": 1}, {"__key__": "a", "n": 2}], InvalidArgument, "'a' is the key of two samples"),
    ],
)
def test_what_cannot_be_written(tmp_path, rows, error, message):
    lake = Lake.init(str(tmp_path / "lake"))
    with pytest.raises(error, match=message):
        write(lake, "x", rows)
    assert lake.datasets() == []
    assert verify_lake(lake).problems == []


def test_formats_can_be_chosen(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    options = WriteOptions(formats={"v": "zarr", "w": "parquet"})
    dataset = write(lake, "x", [{"__key__": "a", "v": np.ones(3), "w": b"raw"}], options=options)
    assert [piece.format for piece in dataset["train"].shards[0].row.pieces] == ["parquet", "zarr"]
    assert dataset["train"][0].fields["w"] == b"raw"
    assert np.array_equal(dataset["train"][0].fields["v"], np.ones(3))


def test_the_format_that_suits_a_value():
    assert format_of(b"x") == "tar"
    assert {format_of(value) for value in ("x", 1, 2.5, True)} == {"parquet"}
    assert format_of(np.ones(3)) == "parquet"
    assert format_of(np.ones((3, 3))) == "zarr"
    assert format_of([1, 2]) == format_of({"a": 1}) == "parquet"


def test_equal_samples_make_equal_objects(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    rows = []
    for _ in range(2):
        with Group(tmp_path) as group:
            for i in range(5):
                one = sample(i)
                group.add(one["__key__"], {name: one[name] for name in ("caption", "vector", "volume")})
            rows.append(group.finish(lake.objects, "train"))
    assert rows[0] == rows[1]
    index = read_index(lake.objects.get(rows[0].index), where="x")
    assert index.keys() == [f"s/{i:03d}" for i in range(5)]
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]


def test_the_first_value_of_a_field_may_say_little(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    rows = [
        {"__key__": f"{i:03d}", "words": ["w"] * (i % 3), "number": i / 2 if i % 5 else i, "at": {"x": None if i % 4 == 0 else 1.5}}
        for i in range(200)
    ]
    dataset = write(lake, "x", rows)
    types = {"at": "value struct<x: double>", "number": "value double", "words": "value list<string>"}
    assert {field.name: str(field) for field in dataset.schema.fields} == types
    write(lake, "y", [{"__key__": "a", "words": [], "at": {"x": None}}])
    dataset = write(lake, "y", [{"__key__": "b", "words": ["w"], "at": {"x": 1.5}}])
    assert {field.name: str(field) for field in dataset.schema.fields} == {name: types[name] for name in ("at", "words")}
    write(lake, "y", [{"__key__": "c", "words": []}])
    assert [list(sample.fields["words"]) for sample in lake.dataset("y")["train"]] == [[], ["w"], []]
    with pytest.raises(InvalidArgument, match="'words' holds value list<string> in this dataset, not value list<int64>"):
        write(lake, "y", [{"__key__": "d", "words": [1]}])


def test_how_shards_are_cut_and_compressed_is_an_option(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    options = WriteOptions(row_group_bytes=1000, codecs={"v": "none"}, chunks={"v": (2, 3, 3)}, schema=pa.schema([("n", pa.int8())]))
    rows = ({"__key__": f"{i:03d}", "n": i, "v": np.full((3, 3), i, np.int32)} for i in range(100))
    dataset = write(lake, "x", rows, options=options)
    paths = [str(lake.store.local_path(piece.ref)) for piece in dataset["train"].shards[0].row.pieces]
    parquet = pq.ParquetFile(paths[0])
    assert parquet.num_row_groups > 1
    assert parquet.schema_arrow.field("n").type == pa.int8()
    with zarr.storage.ZipStore(paths[1], mode="r") as store:
        array = zarr.open_array(store, path="v", mode="r")
        assert array.chunks == (2, 3, 3)
        assert [type(codec).__name__ for codec in array.compressors] == ["Crc32cCodec"]
    with pytest.raises(InvalidArgument, match="no codec 'lzma'"):
        write(lake, "y", [{"__key__": "a", "v": np.ones((2, 2))}], options=WriteOptions(codecs="lzma"))
