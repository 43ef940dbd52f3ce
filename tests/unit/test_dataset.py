"""Datasets as users hold them: splits, samples, metadata."""

import gc
import importlib
import os
import subprocess
import sys
import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from dataplane import Dataset, Lake, Sample, Split
from dataplane.catalog import Part
from dataplane.errors import CorruptObject, InvalidArgument, NotFound
from dataplane.manifest import METADATA, read_metadata, write_metadata, write_shards
from dataplane.store import WrapperStore
from dataplane.store.result import BufferResult
from dataplane.testing import RecordingStore
from tests import make


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


@pytest.fixture
def numbers(lake):
    make.dataset(lake, "numbers", test=(2,), train=(4, 3))
    return lake.dataset("numbers")


def expected(number):
    key, fields, images = make.sample(number)
    image = images["jpg"]
    metadata = {"jpg.width": image.width, "jpg.height": image.height, "jpg.orientation": image.orientation}
    return Sample(key, dict(sorted(fields.items())), metadata)


def test_a_version_says_what_it_is(numbers):
    assert isinstance(numbers, Dataset)
    assert (str(numbers), numbers.name, numbers.number, numbers.splits) == ("numbers@1", "numbers", 1, ("test", "train"))
    assert repr(numbers) == "Dataset('numbers@1', test: 2, train: 7)"
    assert numbers.schema.classes == make.CLASSES


def test_a_split_is_a_sequence(numbers):
    train = numbers["train"]
    assert isinstance(train, Split)
    assert (str(train), len(train), train.counts.tolist()) == ("numbers@1/train", 7, [4, 3])
    assert repr(train) == "Split('numbers@1/train', 7 samples in 2 shards)"
    assert repr(train.shards[0]).endswith("4 samples)")
    everything = [expected(number) for number in range(2, 9)]
    assert list(train) == everything
    assert [train[i] for i in range(7)] == everything
    assert train[-1] == everything[-1]
    assert train[1:6:2] == everything[1:6:2]
    assert train[::-1] == everything[::-1]
    assert train.read_many([6, 0, 6, 3]) == [everything[i] for i in (6, 0, 6, 3)]
    assert everything[3] in train


@pytest.mark.parametrize("index", [7, -8, 100])
def test_what_lies_outside(numbers, index):
    with pytest.raises(IndexError, match=f"numbers@1/train has 7 samples; there is none at {index}"):
        numbers["train"][index]


def test_a_split_that_is_not_there(numbers):
    with pytest.raises(NotFound, match="numbers@1 has no split 'tset'; it has test, train"):
        numbers["tset"]


def test_opening_reads_no_samples(lake, numbers):
    recorded = RecordingStore(lake.store)
    train = numbers.through(recorded)["train"]
    assert len(train) == 7
    assert [call.verb for call in recorded.calls] == ["get"]  # the one table of shards
    recorded.clear()
    _ = train[0]
    assert [call.verb for call in recorded.calls] == ["get", "get_ranges"]  # its index, its bytes
    recorded.clear()
    _ = train[1]
    assert [call.verb for call in recorded.calls] == ["get_ranges"]


def test_metadata_is_a_table(numbers):
    table = numbers.metadata()
    assert table.num_rows == 9
    assert table.column("key").to_pylist() == [make.sample(number)[0] for number in range(9)]
    assert table.column("split").to_pylist() == ["test"] * 2 + ["train"] * 7
    narrow = numbers.metadata(["split", "label"])
    assert narrow.column_names == ["split", "label"]
    assert narrow.num_rows == 9


def test_metadata_that_is_not_there(numbers):
    with pytest.raises(InvalidArgument, match="no metadata nope, neither"):
        numbers.metadata(["nope", "key", "neither"])
    assert numbers.metadata(["key", "key"]).column_names == ["key"]


def test_metadata_that_only_some_parts_have_is_null_elsewhere(lake):
    shards = [make.finished(lake, "train", range(2)), make.finished(lake, "train", range(2, 4))]
    plain, graded = (make.part(lake, [shard]) for shard in shards)
    table = read_metadata(lake.objects.get(graded.metadata), where="here").append_column("grade", pa.array([7, 8]))
    graded = Part(graded.shards, lake.objects.put(write_metadata(table), suffix=".parquet"), graded.samples)
    lake.catalog.commit("numbers", lambda _: make.change([plain, graded], [shard.shard for shard in shards]))
    numbers = lake.dataset("numbers")
    for columns in (["grade", "key"], None):
        assert numbers.metadata(columns).column("grade").to_pylist() == [None, None, 7, 8]


def test_a_version_may_have_only_some_samples_of_a_shard(lake):
    shards = [make.finished(lake, "train", range(10)), make.finished(lake, "train", range(10, 13))]
    whole = make.part(lake, shards)
    rows = [shards[0].shard.without([0, 1, 9]), shards[1].shard.without(range(3))]
    thin = Part(lake.objects.put(write_shards(rows), suffix=".parquet"), whole.metadata, sum(row.live for row in rows))
    lake.catalog.commit("numbers", lambda _: make.change([thin], rows))
    numbers = lake.dataset("numbers")
    train = numbers["train"]
    assert len(train) == 7
    assert len(train.shards) == 1  # nothing is left of the other
    assert [sample.key for sample in train] == [make.sample(number)[0] for number in range(2, 9)]
    assert train[-1] == expected(8)
    assert numbers.metadata(["key"]).column("key").to_pylist() == [make.sample(number)[0] for number in range(2, 9)]
    assert numbers.version.splits["train"].shards == 1


def test_a_version_without_samples(lake):
    lake.catalog.commit("empty", lambda _: make.change([], []))
    assert lake.dataset("empty").splits == ()
    with pytest.raises(NotFound, match="empty@1 has no samples"):
        lake.dataset("empty").metadata()
    with pytest.raises(NotFound, match="it has none"):
        lake.dataset("empty")["train"]


def test_an_index_of_something_else_is_found(lake):
    one, two = make.finished(lake, "train", range(4)), make.finished(lake, "train", range(3))
    row = type(one.shard)("train", "tar", one.shard.ref, two.shard.index, 4, one.shard.bytes)
    part = Part(lake.objects.put(write_shards([row]), suffix=".parquet"), make.part(lake, [one]).metadata, 4)
    lake.catalog.commit("mixed", lambda _: make.change([part], [row]))
    with pytest.raises(CorruptObject, match="indexes 3 samples; its shard has 4"):
        lake.dataset("mixed")["train"][0]


def test_only_so_many_indexes_are_kept(lake, monkeypatch):
    monkeypatch.setattr("dataplane.dataset._INDEXES", 2)
    make.dataset(lake, "numbers", train=(1, 1, 1))
    recorded = RecordingStore(lake.store)
    train = lake.dataset("numbers").through(recorded)["train"]
    for index in (0, 1, 0, 2, 0):  # shard 0 is used all the time, so 1 is forgotten
        _ = train[index]
    indexes = [path for path in recorded.paths("get") if path.endswith(".idx")]
    assert len(indexes) == 3
    _ = train[1]
    assert len([path for path in recorded.paths("get") if path.endswith(".idx")]) == 4


def test_metadata_of_a_part_without_samples(lake):
    shard = make.finished(lake, "train", range(2))
    part = make.part(lake, [shard])
    nothing = Part(
        lake.objects.put(write_shards([]), suffix=".parquet"),
        lake.objects.put(write_metadata(METADATA.empty_table()), suffix=".parquet"),
        0,
    )
    lake.catalog.commit("numbers", lambda _: make.change([part, nothing], [shard.shard]))
    assert lake.dataset("numbers").metadata().num_rows == 2


class Watched(WrapperStore):
    """A store far away, all of whose answers are known for as long as somebody keeps their bytes."""

    def __init__(self, inner):
        super().__init__(inner)
        self.answers = []

    def get(self, path, *, options=None):
        result = super().get(path, options=options)
        data = np.frombuffer(memoryview(result.buffer()), np.uint8).copy()
        self.answers.append(weakref.ref(data))
        return BufferResult(data, result.meta, result.range[0])

    def kept(self):
        gc.collect()
        return sum(answer() is not None for answer in self.answers)


@pytest.mark.parametrize("room", [True, False])
def test_large_tables_of_shards_far_away_are_kept_on_the_disk_where_it_has_room(lake, numbers, room, monkeypatch, tmp_path):
    shards = [make.finished(lake, "train", range(4 * n, 4 * n + 4)) for n in range(3)]
    lake.catalog.commit("numbers", lambda _: make.change([make.part(lake, [each]) for each in shards], [each.shard for each in shards]))
    numbers, store = lake.dataset("numbers"), Watched(lake.store)
    small = numbers.through(store)
    assert (len(small["train"]), store.kept()) == (12, 3)
    del small
    monkeypatch.setattr("dataplane.dataset._TABLE_BYTES", 0)
    if not room:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    large = numbers.through(store)
    assert (len(large["train"]), store.kept()) == (12, 0 if room else 3)
    assert list(large["train"]) == list(numbers["train"])
    assert large.parts == numbers.parts


READING = """
import sys
import dataplane
split = dataplane.Lake(sys.argv[1]).dataset("numbers")["train"]
assert len(split[3].fields["jpg"]) > 0 and split.shards[1].row.samples == 3 and split.sizes.sum() > 0
heavy = {"pandas", "pyarrow.compute", "pyarrow.dataset", "obstore", "fsspec", "numba", "zarr", "duckdb", "PIL", "rich", "typer", "email"}
assert not heavy & set(sys.modules), f"reading a sample loads {sorted(heavy & set(sys.modules))}"
"""


def test_reading_loads_nothing_heavy(lake, numbers):
    importlib.import_module("pandas")  # it is installed: pyarrow would load it
    done = subprocess.run([sys.executable, "-c", READING, lake.url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fields", [None, ["jpg"], ["cls", "jpg"], []])
def test_each_gives_what_read_many_gives(numbers, fields):
    train = numbers["train"]
    for indices in ([], [3], [6, 0, 3, 3, -1], range(7), np.array([5, 2])):
        assert list(train.each(indices, fields)) == train.read_many(indices, fields)
    with pytest.raises(NotFound, match="no field 'png'"):
        list(train.each([0], ["png"]))
    with pytest.raises(IndexError, match="there is none at 7"):
        list(train.each([0, 7]))


def test_each_from_a_store_that_is_no_folder(numbers):
    elsewhere = numbers.through(WrapperStore(numbers.store))["train"]
    assert list(elsewhere.each([6, 0, 3])) == numbers["train"].read_many([6, 0, 3])


def test_each_reads_a_sample_when_it_is_its_turn(numbers):
    train = numbers["train"]
    samples = train.each(range(7))
    assert next(samples) == expected(2)
    path = numbers.store.local_path(train.shards[1].row.ref)
    data = bytearray(path.read_bytes())
    data[train.shards[1].index.placed(0)["jpg"].offset] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    assert [next(samples) for _ in range(3)] == [expected(number) for number in (3, 4, 5)]
    with pytest.raises(CorruptObject, match=r"field 'jpg' of sample .* fails its checksum"):
        next(samples)


def test_each_closes_its_files(numbers, tmp_path):
    def files():
        return len(os.listdir("/proc/self/fd"))

    before, samples = files(), numbers["train"].each(range(7))
    next(samples)
    assert files() > before
    del samples
    assert files() == before


def test_each_goes_on_where_its_file_is_deleted_and_says_so_where_it_ends_early(numbers):
    train = numbers["train"]
    first, second = (numbers.store.local_path(shard.row.ref) for shard in train.shards)
    samples = train.each(range(7))
    assert next(samples) == expected(2)
    first.unlink()
    assert [next(samples) for _ in range(3)] == [expected(number) for number in (3, 4, 5)]
    second.chmod(0o644)
    os.truncate(second, train.shards[1].index.placed(1)["jpg"].offset + 1)
    assert next(samples) == expected(6)
    with pytest.raises(CorruptObject, match="fails its checksum"):
        next(samples)


def test_what_each_gave_before_stays_as_it_was(numbers):
    train, rng = numbers["train"], np.random.default_rng(0)
    indices = rng.integers(0, 7, 600)
    held = list(train.each(indices))
    assert held == [expected(2 + index) for index in indices.tolist()]


def test_threads_may_each_have_an_iterator_of_one_split(numbers):
    train = numbers["train"]

    def read(seed):
        indices = np.random.default_rng(seed).integers(0, 7, 600)
        return [sample.key for sample in train.each(indices)] == [expected(2 + index).key for index in indices.tolist()]

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(read, range(8)))


def test_each_holds_some_samples_of_a_far_store_and_no_more(lake):
    make.dataset(lake, "long", train=(200,))
    recorded = RecordingStore(lake.store)
    train = lake.dataset("long").through(recorded)["train"]
    some = train.read_many(range(64))
    recorded.clear()
    samples = train.each(range(200))
    assert next(samples) == some[0]
    assert recorded.bytes_read == sum(len(data) for sample in some for data in sample.fields.values())
    assert len(list(samples)) == 199
