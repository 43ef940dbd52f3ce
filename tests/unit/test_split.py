"""Random access to a split whose shards differ: keys, fields that some of them lack, what is kept in memory."""

import numpy as np
import pyarrow as pa
import pytest

from dataplane import Lake
from dataplane.catalog import Change, Part
from dataplane.errors import CorruptObject, NotFound
from dataplane.manifest import read_metadata, write_metadata, write_shards
from dataplane.parts import split_counts, store_part
from dataplane.testing import RecordingStore
from dataplane.writer import WriteOptions, write
from tests import make


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


def key(number):
    return make.sample(number)[0]


def thinned(lake):
    """Two parts; the first has a shard of another split in the middle, one of which nothing is left, and one without its ends."""
    made = [make.finished(lake, "train", range(4)), make.finished(lake, "test", range(4, 8)), make.finished(lake, "train", range(8, 12))]
    made.append(make.finished(lake, "train", range(12, 20)))
    whole = make.part(lake, made)
    rows = [made[0].shard.without([1]), made[1].shard, made[2].shard.without(range(4)), made[3].shard.without([0, 7])]
    shuffled = read_metadata(lake.objects.get(whole.metadata), where="x").take(pa.array(np.random.default_rng(0).permutation(20)))
    first = store_part(lake.objects, rows, shuffled)
    other = make.finished(lake, "train", range(20, 25))
    second = make.part(lake, [other])
    all_rows = [*rows, other.shard]
    lake.catalog.commit("numbers", lambda _: make.change([first[0], second], all_rows))
    return lake.dataset("numbers")


def test_keys_are_found_in_the_metadata(lake):
    dataset = thinned(lake)
    recorded = RecordingStore(lake.store)
    train = dataset.through(recorded)["train"]
    live = [0, 2, 3, *range(13, 19), *range(20, 25)]
    assert [train.index_of(key(number)) for number in live] == list(range(len(live)))
    for number in (1, 4, 9, 12, 19, 30):
        with pytest.raises(NotFound, match=f"numbers@1/train has no sample '{key(number)}'"):
            train.index_of(key(number))
    metadata = [part.metadata.path for part in dataset.version.parts]
    assert [path for path in recorded.paths("get") if path in metadata] == metadata
    assert all(train.key(key(number)).key == key(number) for number in live)
    assert dataset["test"].index_of(key(5)) == 1


def test_one_key_costs_one_index(lake):
    make.dataset(lake, "numbers", train=(1,) * 10)
    recorded = RecordingStore(lake.store)
    assert lake.dataset("numbers").through(recorded)["train"].key(key(7)).key == key(7)
    assert len([path for path in recorded.paths("get") if path.endswith(".idx")]) == 1


def test_keys_with_one_hash_are_told_apart(lake, monkeypatch):
    dataset = thinned(lake)
    monkeypatch.setattr("dataplane.dataset._hash", lambda key: 3)
    assert dataset["train"].index_of(key(14)) == 4
    with pytest.raises(NotFound):
        dataset["train"].index_of("other")


def test_metadata_that_lack_samples_are_found(lake):
    shard = make.finished(lake, "train", range(4))
    part = make.part(lake, [shard])
    less = write_metadata(read_metadata(lake.objects.get(part.metadata), where="x").slice(1))
    short = Part(lake.objects.put(write_shards([shard.shard]), suffix=".parquet"), lake.objects.put(less, suffix=".parquet"), 4)
    lake.catalog.commit("numbers", lambda _: make.change([short], [shard.shard]))
    with pytest.raises(CorruptObject, match="3 samples of numbers@1/train, which has 4 there; check with: dataplane verify"):
        lake.dataset("numbers")["train"].index_of(key(2))


def test_a_field_that_some_shards_lack_is_absent_from_their_samples(lake):
    write(lake, "x", [{"__key__": "a", "one": b"1", "two": "2"}], options=WriteOptions(shard_bytes=1))
    train = write(lake, "x", [{"__key__": "b", "one": b"1"}, {"__key__": "c", "two": "2", "three": b"3"}])["train"]
    found = {sample.key: sample.fields for sample in train.read_many(range(3), ["two", "three"])}
    assert found == {"a": {"two": "2"}, "b": {}, "c": {"two": "2", "three": b"3"}}
    with pytest.raises(NotFound, match="no field 'four'"):
        train.read_many([0], ["four"])


def test_indexes_are_kept_up_to_so_many_bytes(lake, monkeypatch):
    make.dataset(lake, "numbers", train=(1, 1, 1))
    recorded = RecordingStore(lake.store)
    train = lake.dataset("numbers").through(recorded)["train"]
    size = train.shards[0].row.index.size
    monkeypatch.setattr("dataplane.dataset._INDEX_BYTES", 2 * size + size // 2)
    for index in (0, 1, 0, 2, 0):  # shard 0 is used all the time, so 1 is forgotten
        _ = train[index]
    assert len([path for path in recorded.paths("get") if path.endswith(".idx")]) == 3
    monkeypatch.setattr("dataplane.dataset._INDEX_BYTES", 1)
    assert [train[index].key for index in (0, 1, 0, 2, 0)] == [key(number) for number in (0, 1, 0, 2, 0)]


def test_no_samples_of_no_rows(lake):
    train = thinned(lake)["train"]
    assert train.read_many([]) == []
    assert train[5:5] == []


def test_an_empty_dataset_of_two_parts(lake):
    parts = [store_part(lake.objects, [], read_metadata_of_nothing()) for _ in range(2)]
    lake.catalog.commit("x", lambda _: Change("make", {}, make.SCHEMA, tuple(part for part, _ in parts), split_counts(parts), {}))
    assert (lake.dataset("x").splits, len(lake.dataset("x").metadata())) == ((), 0)


def read_metadata_of_nothing():
    return make.METADATA.empty_table()
