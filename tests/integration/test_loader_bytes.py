"""Bytes as they are: every sample's in one buffer of the batch, whatever the store, and also where samples are bad."""

import io
import os
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from dataplane import Lake
from dataplane.crc import HARDWARE
from dataplane.errors import CorruptObject, NotFound
from dataplane.order import Order
from dataplane.schema import Schema
from dataplane.testing.samples import Made, write_dataset
from dataplane.versions.where import where
from loaders import Bytes, Int64, Loader, Mixture, Ragged, Resize
from loaders.buffers import BufferPool
from loaders.fields import compile_transform
from loaders.policy import substitutes
from loaders.ragged import Note, RaggedPlaces
from loaders.source import SampleSource
from loaders.straight import StraightHand, field_sizes, goes_straight
from loaders.torch import TorchLoader
from tests import make
from tests.integration.test_loader_bad import BAD, FLIPPED, STARTS, TORN, UNLABELLED, N, bad_lake, sample
from tests.pictures import SCHEMA, picture
from tiering import Hot

FIELD = "jpg;png"
TRANSFORM = {FIELD: Bytes(), "cls": Int64()}
COUNTS = (7, 11, 5, 9)
WORSE = BAD - {TORN}  # a torn picture is still bytes

pytestmark = pytest.mark.filterwarnings("ignore:lanes")


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    return made(str(tmp_path_factory.mktemp("bytes") / "lake"))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    return bad_lake(str(tmp_path_factory.mktemp("bad") / "lake")).dataset("pictures")["train"]


def made(url):
    starts = np.cumsum([0, *COUNTS])
    shards = [("train", [picture(n) for n in range(start, start + count)]) for start, count in zip(starts, COUNTS, strict=False)]
    return write_dataset(Lake.init(url), "pictures", shards, schema=SCHEMA)["train"]


def content(fields):
    (data,) = (data for name, data in fields.items() if name != "cls")
    return data


def load(split, **options):
    options = {"batch_size": 6, "transform": TRANSFORM, "seed": 3, "threads": 2, "tail": "short", "lanes": 4, "window": 6, **options}
    return Loader(split, **options)


def stored(split):
    """The bytes and the label of each sample, by key."""
    return {each.key: (content(each.fields), int(each.fields["cls"])) for each in split}


def check(batch, wanted):
    ragged = batch[FIELD]
    assert isinstance(ragged, Ragged)
    assert (ragged.data.dtype, ragged.offsets.dtype) == (np.uint8, np.int64)
    assert len(ragged) == len(ragged.offsets) - 1 == len(batch.positions)
    assert ragged.offsets[0] == 0
    assert ragged.offsets[-1] == len(ragged.data)
    found = [(bytes(data), label) for data, label in zip(ragged, batch["cls"].tolist(), strict=True)]
    assert found == [wanted[key] for key in batch.sample_keys]
    return found


@pytest.mark.parametrize("options", [{}, {"threads": 0}, {"batch_size": 32}, {"batch_size": 1}, {"shuffle": False}], ids=str)
def test_every_sample_comes_once_with_its_bytes(train, options):
    with load(train, **options) as loader:
        wanted, keys = stored(train), []
        for batch in loader:
            check(batch, wanted)
            keys += batch.sample_keys
        assert sorted(keys) == sorted(wanted)
        assert loader.stats()["bytes"] >= sum(len(data) for data, _ in wanted.values())


def test_bytes_alone(train):
    wanted = stored(train)
    for batch in load(train, transform={FIELD: Bytes()}):
        assert [bytes(data) for data in batch[FIELD]] == [wanted[key][0] for key in batch.sample_keys]


def test_bytes_beside_pictures(train):
    wanted = stored(train)
    for batch in load(train, transform={FIELD: [Resize((8, 8))], "cls": Bytes()}):
        assert batch[FIELD].shape == (len(batch.positions), 3, 8, 8)
        assert [int(bytes(text)) for text in batch["cls"]] == [wanted[key][1] for key in batch.sample_keys]


def test_indexing_gives_views(train):
    ragged = next(iter(load(train)))[FIELD]
    assert np.shares_memory(ragged[2], ragged.data)
    assert bytes(ragged[-1]) == bytes(ragged[len(ragged) - 1])
    assert [bytes(data) for data in ragged[1:4]] == [bytes(ragged[i]) for i in (1, 2, 3)]
    assert repr(ragged) == f"Ragged(6 samples, {len(ragged.data):,} bytes)"
    with pytest.raises(IndexError):
        ragged[len(ragged)]


def test_tensors_share_the_memory(train):
    wanted = stored(train)
    for batch in load(train, output="torch"):
        ragged = batch[FIELD]
        assert (ragged.data.dtype, ragged.offsets.dtype) == (torch.uint8, torch.int64)
        assert [data.numpy().tobytes() for data in ragged] == [wanted[key][0] for key in batch.sample_keys]


def test_a_padded_batch_repeats_samples(train):
    *_, last = load(train, tail="pad", batch_size=10)
    assert last.valid.tolist() == [True] * 2 + [False] * 8
    check(last, stored(train))


def test_a_view_of_a_version(train):
    lake = Lake(train.dataset.store.url)
    where(lake, "pictures", "label = 'china'", to="half")
    half = lake.dataset("half")["train"]
    assert 0 < len(half) < len(train)
    wanted = stored(half)
    assert sorted(key for batch in load(half) if check(batch, wanted) for key in batch.sample_keys) == sorted(wanted)


def test_a_store_that_is_no_folder():
    split = made("memory://bytes-elsewhere")
    wanted = stored(split)
    assert sum(len(check(batch, wanted)) for batch in load(split)) == len(split)


def test_through_a_hot_tier(train, tmp_path):
    wanted = stored(train)
    with load(train, hot=Hot(tmp_path / "hot", limit="64 MiB")) as loader:
        for _ in range(2):
            assert sum(len(check(batch, wanted)) for batch in loader) == len(train)


def test_what_is_held_is_not_written_over(train):
    held = [batch[FIELD] for batch in load(train, batch_size=8, tail="drop", prefetch=1)]
    wanted = {data for data, _ in stored(train).values()}
    assert {bytes(data) for ragged in held for data in ragged} == wanted


def test_a_damaged_sample_is_named(damaged):
    with pytest.raises((CorruptObject, NotFound), match=r"pictures@1/train: .* of shard"):
        list(load(damaged))


@pytest.mark.parametrize("threads", [0, 2])
def test_what_is_skipped_has_no_bytes(damaged, threads):
    loader = load(damaged, on_error="skip", max_bad=1.0, threads=threads)
    wanted = {each.key: content(each.fields) for each in map(sample, range(N))}
    keys = []
    for batch in loader:
        for key, data, valid in zip(batch.sample_keys, batch[FIELD], batch.valid.tolist(), strict=True):
            assert bytes(data) == (wanted[key] if valid else b"")
            keys += [key] if valid else []
    assert sorted(keys) == sorted(sample(n).key for n in range(N) if n not in WORSE)
    assert loader.report()["count"] == len(WORSE)


@pytest.mark.parametrize("threads", [0, 2])
def test_substitutes_have_their_own_length(damaged, threads):
    shards, items = Order(damaged.counts, seed=3, epoch=0, lanes=4, window=6).at(np.arange(N))
    due, found = (STARTS[shards] + items).tolist(), {}
    for batch in load(damaged, on_error="substitute", max_bad=1.0, threads=threads):
        found.update(zip(batch.positions.tolist(), map(bytes, batch[FIELD]), strict=True))
    for position, number in enumerate(due):
        if number in WORSE:
            number = next(index for index in substitutes(3, 0, position, N) if index not in WORSE)
        assert found[position] == content(sample(number).fields)
    assert {UNLABELLED, FLIPPED} <= WORSE


def test_in_a_mixture_the_others_have_none(train, tmp_path):
    schema = Schema(tuple(field for field in SCHEMA.fields if field.name == "cls"), SCHEMA.classes)
    shards = [("train", [Made(f"k{n}", {"cls": b"1"}) for n in range(8)])]
    plain = write_dataset(Lake.init(str(tmp_path / "lake")), "labels", shards, schema=schema)["train"]
    wanted = stored(train)
    for batch in load(Mixture({"pictures": train, "labels": plain}, {"pictures": 1, "labels": 1}), window=None):
        for key, component, data in zip(batch.sample_keys, batch.components.tolist(), batch[FIELD], strict=True):
            assert bytes(data) == (wanted[key][0] if component == 0 else b"")


@pytest.mark.parametrize("through", [iter, partial(DataLoader, batch_size=None)], ids=["TorchLoader", "DataLoader"])
def test_torch_loaders_have_tensors_that_share_the_memory_of_batches(train, through):
    wanted, keys = stored(train), []
    with TorchLoader(load(train, batch_size=5)) as batches:
        held = list(through(batches))
    for batch in held:
        ragged = batch[FIELD]
        assert isinstance(ragged, Ragged)
        assert (ragged.data.dtype, ragged.offsets.dtype) == (torch.uint8, torch.int64)
        assert len(ragged) == len(batch.sample_keys) == len(batch["cls"])
        found = [(data.numpy().tobytes(), label) for data, label in zip(ragged, batch["cls"].tolist(), strict=True)]
        assert found == [wanted[key] for key in batch.sample_keys]
        keys += batch.sample_keys
    assert sorted(keys) == sorted(wanted)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_torch_loaders_copy_both_arrays_to_a_device(train):
    wanted = stored(train)
    with TorchLoader(load(train, batch_size=5), device="cuda") as batches:
        for batch in batches:
            ragged = batch[FIELD]
            assert (ragged.data.device.type, ragged.offsets.device.type) == ("cuda", "cuda")
            assert [data.cpu().numpy().tobytes() for data in ragged] == [wanted[key][0] for key in batch.sample_keys]


@pytest.mark.parametrize(("world", "batch_size"), [(3, 4), (5, 2), (40, 1)])
@pytest.mark.parametrize("tail", ["short", "pad"])
def test_ranks_share_an_epoch_also_where_some_have_nothing(train, world, batch_size, tail):
    wanted, keys, empty = stored(train), [], 0
    for rank in range(world):
        with load(train, rank=rank, world=world, batch_size=batch_size, tail=tail, lanes=None, window=None) as loader:
            for batch in loader:
                check(batch, wanted)
                keys += [key for key, valid in zip(batch.sample_keys, batch.valid.tolist(), strict=True) if valid]
                empty += not len(batch.positions)
    assert sorted(keys) == sorted(wanted)
    assert (empty > 0) == (tail == "short" and world > 3)


class Nothing:
    """A hand that is not to be needed."""

    def read(self, spots):
        assert not spots, [spot.key for spot in spots]
        return iter(())

    def place(self, read, draw, arrays, i):
        raise AssertionError(i)


@pytest.mark.skipif(not HARDWARE, reason="the processor has no instruction for CRC-32C")
@pytest.mark.parametrize("jobs", [(slice(None),), (slice(0, 5), slice(5, None)), (slice(0, None, 2), slice(1, None, 2))], ids=str)
def test_of_a_folder_samples_go_straight_to_their_places(train, jobs):
    source, fillers, wanted = SampleSource(train, tuple(TRANSFORM)), compile_transform(TRANSFORM), stored(train)
    assert goes_straight(source, fillers)
    spots = [source.at(index) for index in np.random.default_rng(0).permutation(len(train)).tolist()]
    places = RaggedPlaces(len(spots), BufferPool(keep=1))
    sizes, runs = field_sizes(source, FIELD, spots)
    places.lay_out(lambda: (sizes, {7: Note(np.arange(len(spots)), runs)}))
    arrays, hand = {FIELD: places, "cls": np.full(len(spots), -1)}, StraightHand(source, fillers, Nothing(), me=7)
    for job in jobs:
        mine = range(len(spots))[job]
        _, keys, errors = hand.fill(spots, [None] * len(spots), mine, arrays)
        assert not errors
        assert list(keys) == [spots[i].key for i in mine]
    found = [(bytes(data), label) for data, label in zip(places.ragged(), arrays["cls"].tolist(), strict=True)]
    assert found == [wanted[spot.key] for spot in spots]


def test_no_room_is_reserved_for_what_a_shard_cannot_hold(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    shard = make.finished(lake, "train", range(6))
    table = pa.ipc.open_file(lake.objects.get(shard.shard.index)).read_all()
    sizes, offsets = (table.column(f"jpg.{part}").to_pylist() for part in ("size", "offset"))
    sizes[1], offsets[2], sizes[3] = 1 << 60, -5, shard.shard.ref.size - offsets[3] + 1
    for part, column in (("size", sizes), ("offset", offsets)):
        table = table.set_column(table.column_names.index(f"jpg.{part}"), f"jpg.{part}", pa.array(column, pa.int64()))
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    lying = replace(shard, shard=replace(shard.shard, index=lake.objects.put(sink.getvalue(), suffix=".idx")))
    lake.catalog.commit("numbers", lambda _: make.change([make.part(lake, [lying])], [lying.shard]))
    source = SampleSource(lake.dataset("numbers")["train"], ("jpg",))
    found, _ = field_sizes(source, "jpg", [source.at(index) for index in range(6)])
    assert found.tolist() == [sizes[0], 0, 0, 0, *sizes[4:]]


def test_a_shard_that_ends_early_is_told(tmp_path):
    train = made(str(tmp_path / "lake"))
    shard, wanted = train.shards[1], stored(train)
    path = train.dataset.store.local_path(shard.row.ref)
    path.chmod(0o644)
    os.truncate(path, min(place.offset for place in shard.index.placed(4).values()) + 1)
    lost = {shard.index.key(row) for row in range(4, len(shard))}
    loader, keys = load(train, on_error="skip", max_bad=1.0), set()
    for batch in loader:
        for key, data, valid in zip(batch.sample_keys, batch[FIELD], batch.valid.tolist(), strict=True):
            assert bytes(data) == (wanted[key][0] if valid else b"")
            keys |= {key} if valid else set()
    assert keys == set(wanted) - lost
    assert loader.report()["count"] == len(lost)
