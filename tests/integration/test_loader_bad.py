"""Bad samples: the same is delivered in their place whatever reads, everything else stays as it was, and all of it is told."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataplane import Lake
from dataplane.adopt import adopt
from dataplane.errors import BadSample, BadSamples, CorruptObject, InvalidArgument, PermissionDenied, SourceChanged, StoreUnavailable
from dataplane.formats.index import ImageInfo
from dataplane.order import Order
from dataplane.store import WrapperStore
from dataplane.testing.faults import Fault, FaultStore
from dataplane.testing.samples import write_dataset
from loaders import HorizontalFlip, Int64, Loader, Normalize, RandomResizedCrop
from loaders.fields import Draw, compile_transform
from loaders.policy import substitutes
from loaders.source import FieldBytes
from tests.hot import flip
from tests.integration.test_loader_adopted import tar_of
from tests.pictures import SCHEMA, picture
from tiering import Hot

TRANSFORM = {"jpg;png": [RandomResizedCrop(24), HorizontalFlip(), Normalize.imagenet()], "cls": Int64()}
COUNTS = [7, 11, 5, 9, 1, 8]
STARTS = np.cumsum([0, *COUNTS])
N = sum(COUNTS)
TORN, UNLABELLED, FLIPPED = 2, 8, 34  # samples, by their numbers: a torn JPEG, no field "cls", a flipped bit
GONE, BLIND = 2, 4  # shards: the object is missing, the index is damaged
BAD = {TORN, UNLABELLED, FLIPPED, *range(STARTS[GONE], STARTS[GONE + 1]), *range(STARTS[BLIND], STARTS[BLIND + 1])}
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.filterwarnings("ignore:lanes")


def sample(number):
    made = picture(number)
    if number == TORN:
        data = made.fields["jpg"]
        return replace(made, fields={**made.fields, "jpg": data[: len(data) // 2]})
    return replace(made, fields={"jpg": made.fields["jpg"]}) if number == UNLABELLED else made


def bad_lake(url):
    """A lake with bad samples of every sort."""
    lake = Lake.init(url)
    shards = [("train", [sample(n) for n in range(start, start + count)]) for start, count in zip(STARTS, COUNTS, strict=False)]
    split = write_dataset(lake, "pictures", shards, schema=SCHEMA)["train"]
    lake.store.delete(split.shards[GONE].row.ref.path)
    overwrite(lake, split.shards[BLIND].row.index, 100)
    number = int(np.searchsorted(STARTS, FLIPPED, "right")) - 1
    place = split.shards[number].index.placed(FLIPPED - int(STARTS[number]))["png"]
    overwrite(lake, split.shards[number].row.ref, place.offset + 50)
    return lake


def overwrite(lake, ref, at):
    data = bytearray(lake.store.get(ref.path).buffer())
    data[at] ^= 1
    lake.store.delete(ref.path)
    lake.store.put(ref.path, bytes(data))


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return bad_lake(str(tmp_path_factory.mktemp("bad") / "lake"))


@pytest.fixture(scope="module")
def train(lake):
    return lake.dataset("pictures")["train"]


def loader_of(split, **options):
    arguments = {"batch_size": 4, "transform": TRANSFORM, "seed": 5, "lanes": 4, "window": 6, "threads": 2, "tail": "short"}
    return Loader(split, **arguments | {"on_error": "substitute", "max_bad": 1.0} | options)


def delivered(batches):
    """What was delivered at every position: (key, pixels, label, valid)."""
    found = {}
    for batch in batches:
        for i, position in enumerate(batch.positions.tolist()):
            assert position not in found
            found[position] = (batch.sample_keys[i], batch["jpg;png"][i].tobytes(), int(batch["cls"][i]), bool(batch.valid[i]))
    return found


@pytest.fixture(scope="module")
def epoch(train):
    """One epoch with substitutes, of one rank."""
    return delivered(loader_of(train))


@pytest.fixture(scope="module")
def due(train):
    """The number of the sample that each position of epoch 0 is due to deliver, by the order alone."""
    shards, items = Order(train.counts, seed=5, epoch=0, lanes=4, window=6).at(np.arange(N))
    return (STARTS[shards] + items).tolist()


def test_the_first_good_substitute_of_a_position_is_delivered_with_the_positions_random_numbers(train, epoch, due):
    assert sorted(epoch) == list(range(N))
    assert sum(number in BAD for number in due) == len(BAD) == 9
    fillers = compile_transform(TRANSFORM)
    for position, number in enumerate(due):
        expected = number
        if number in BAD:
            expected = next(index for index in substitutes(5, 0, position, N) if index not in BAD)
        made = picture(expected)
        key, pixels, label, valid = epoch[position]
        assert (key, label, valid) == (made.key, expected % 2, True)
        ((name, data),) = [(name, data) for name, data in made.fields.items() if name != "cls"]
        out = np.empty((1, 3, 24, 24), np.float32)
        field = FieldBytes(np.frombuffer(data, np.uint8), made.images[name])
        filler = fillers["jpg;png"]
        workspace = filler.workspace()
        begun = filler.begin(field, Draw(5, 0, 0, position), out, workspace, 0)
        if begun is not None:
            filler.finish(begun, workspace)
        assert pixels == out.tobytes()


def test_the_substitutes_are_pinned():
    assert list(substitutes(0, 0, 0, 1000))[:6] == [592, 800, 380, 291, 965, 345]
    assert list(substitutes(2**63 - 1, 2**32 - 1, 2**48 - 1, 2**48))[:3] == [175121753811814, 99061824084862, 78712732622105]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(
    "options", [{"threads": 0}, {"threads": 5, "batch_size": 3}, {"batch_size": 50}, {"prefetch": 5, "batch_size": 1}], ids=str
)
def test_substitutes_depend_on_no_world_size_batch_size_or_threads(train, epoch, world, options):
    ranks = [loader_of(train, rank=rank, world=world, **options) for rank in range(world)]
    batches = [list(rank) for rank in ranks]
    assert len({len(each) for each in batches}) == 1
    assert delivered(batch for each in batches for batch in each) == epoch
    assert len({json.dumps(rank.state_dict()) for rank in ranks}) == 1
    assert sum(rank.report()["count"] for rank in ranks) == len(BAD)


@pytest.mark.parametrize("where", ["hot", "s3", "s3 hot", "memory"])
def test_substitutes_depend_on_no_store_and_no_hot_tier(epoch, where, tmp_path, request, lake):
    if where.startswith("s3"):
        lake = bad_lake(request.getfixturevalue("s3").url())
    elif where == "memory":
        lake = bad_lake("memory://bad-samples")
    hot = Hot(tmp_path / "hot", limit="64 MiB") if where.endswith("hot") else None
    with loader_of(lake.dataset("pictures")["train"], hot=hot) as loader:
        assert delivered(loader) == epoch
        assert loader.report()["count"] == len(BAD)


def test_resume_at_every_step_on_another_world_size_is_exact(train, epoch):
    worlds = [1, 3, 2, 4]
    for stop_after in range(1, 8):
        world, other = worlds[stop_after % 4], worlds[(stop_after + 1) % 4]
        ranks = [loader_of(train, rank=rank, world=world, batch_size=2) for rank in range(world)]
        iterators = [iter(rank) for rank in ranks]
        got = [batch for _ in range(stop_after) for batch in (next(iterator, None) for iterator in iterators) if batch is not None]
        (state,) = {json.dumps(rank.state_dict()) for rank in ranks}
        resumed = []
        if json.loads(state)["epoch"] == 0:
            resumed = [loader_of(train, rank=rank, world=other, batch_size=5, threads=1, seed=99) for rank in range(other)]
        for rank in resumed:
            rank.load_state_dict(json.loads(state))
        assert delivered([*got, *(batch for rank in resumed for batch in rank)]) == epoch
        assert sum(rank.report()["count"] for rank in [*ranks, *resumed]) == len(BAD)  # nothing that was only prefetched is told


_RANK = """
import hashlib, json, sys
from dataplane import Lake
from tests.integration.test_loader_bad import delivered, loader_of
rank, world, url = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
loader = loader_of(Lake(url).dataset("pictures")["train"], rank=rank, world=world, on_error=sys.argv[4])
found = {position: [key, hashlib.sha256(pixels).hexdigest(), *rest] for position, (key, pixels, *rest) in delivered(loader).items()}
print(json.dumps([found, loader.report()["samples"]]))
"""


@pytest.mark.parametrize("on_error", ["substitute", "skip"])
def test_processes_that_know_nothing_of_each_other_agree(s3, on_error):
    lake = bad_lake(s3.url())

    def processes(world):
        command = [sys.executable, "-W", "ignore", "-c", _RANK]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        started = [
            subprocess.Popen([*command, str(rank), str(world), lake.url, on_error], stdout=subprocess.PIPE, env=environment, text=True)
            for rank in range(world)
        ]
        found, told = {}, []
        for process in started:
            out, _ = process.communicate(timeout=120)
            assert process.returncode == 0
            samples, bad = json.loads(out)
            assert not samples.keys() & found.keys()
            found |= samples
            told += bad
        return found, sorted(told, key=lambda bad: bad["position"])

    alone, shared = processes(1), processes(3)
    assert shared == alone
    assert len(alone[0]) == N
    assert len(alone[1]) == len(BAD)


def test_a_skipped_sample_is_a_masked_place_of_zeros(train, epoch, due):
    loader = loader_of(train, on_error="skip", batch_size=3)
    batches = []
    for batch in loader:
        batches.append(replace(batch, fields={name: array.copy() for name, array in batch.items()}))
        for array in batch.fields.values():
            array[:] = 7  # the memory will be used again
        del array, batch
    found = delivered(batches)
    for position, number in enumerate(due):
        if number not in BAD:
            assert found[position] == epoch[position]
            continue
        key, pixels, label, valid = found[position]
        assert key == ("" if number in range(STARTS[BLIND], STARTS[BLIND + 1]) else picture(number).key)
        assert (label, valid) == (0, False)
        assert not any(pixels)
    assert [bad["substitute"] for bad in loader.report()["samples"]] == [None] * len(BAD)


def test_a_padded_batch_counts_no_bad_sample_twice(train):
    loader = loader_of(train, on_error="skip", tail="pad", batch_size=36, world=2, rank=0)
    other = loader_of(train, on_error="skip", tail="pad", batch_size=36, world=2, rank=1)
    masked = N + sum((~batch.valid).sum() for rank in (loader, other) for batch in rank) - 72
    assert masked == sum(rank.report()["count"] for rank in (loader, other)) == len(BAD)


def test_the_report_names_every_bad_sample(train, due):
    loader = loader_of(train)
    list(loader)
    report = json.loads(json.dumps(loader.report()))
    assert (report["count"], report["in_epoch"]) == (len(BAD), len(BAD))
    assert [bad["position"] for bad in report["samples"]] == [position for position, number in enumerate(due) if number in BAD]
    told = {due[bad["position"]]: bad for bad in report["samples"]}
    for number, reason in {
        TORN: "the JPEG cannot be decoded",
        UNLABELLED: "it has no field 'cls'; it has jpg",
        FLIPPED: "field 'jpg;png' fails its checksum",
        int(STARTS[GONE]): "no such object",
        int(STARTS[BLIND]): "is damaged",
    }.items():
        shard = train.shards[int(np.searchsorted(STARTS, number, "right")) - 1]
        bad = told[number]
        assert reason in bad["reason"]
        assert bad["shard"] == str(shard.row.ref)
        assert bad["key"] == (None if number == STARTS[BLIND] else picture(number).key)
        assert bad["epoch"] == 0
        assert bad["substitute"].startswith("pictures/")
    list(loader)
    assert loader.report()["count"] == 2 * len(BAD)
    later = loader.report(after=len(BAD) + 2)["samples"]
    assert len(later) == len(BAD) - 2
    assert {bad["epoch"] for bad in later} == {1}
    assert loader.report(after=2 * len(BAD))["samples"] == []


def test_the_first_bad_sample_and_the_epochs_count_are_logged(train, caplog):
    list(loader_of(train))
    first, last = [record.getMessage() for record in caplog.records if record.name == "loaders"]
    assert first.startswith("pictures@1/train: the first bad sample, which is substituted: ")
    assert last == f"pictures@1/train: {len(BAD)} samples of epoch 0 were bad and substituted; report() lists them"


@pytest.mark.parametrize("allowed", [9, 9 / N, 0.2, 0, 8, 8 / N, 0.19])
@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_more_bad_samples_than_allowed_end_the_epoch(train, due, on_error, allowed):
    loader = loader_of(train, on_error=on_error, max_bad=allowed, batch_size=2)
    if allowed in {9, 9 / N, 0.2}:
        assert [len(list(loader)), len(list(loader))] == [21, 21]  # each epoch has a budget of its own
        return
    with pytest.raises(BadSamples) as caught:
        list(loader)
    limit = 8 if allowed else 0
    last = [position for position, number in enumerate(due) if number in BAD][limit]
    assert loader.position == last // 2 * 2  # what was good has been delivered
    assert loader.report()["count"] in {limit, limit - 1}
    assert f"max_bad allows {limit} of {N}" in str(caught.value)
    assert [bad.position for bad in caught.value.bad] == [position for position, number in enumerate(due) if number in BAD][: limit + 1][:3]
    assert caught.value.bad[0].reason in str(caught.value)
    with pytest.raises(BadSamples, match=f"{limit + 1} bad samples"):  # asking again counts nothing twice
        list(loader)


def test_a_loader_that_goes_on_elsewhere_counts_anew_from_there(train, due):
    loader = loader_of(train, on_error="skip", max_bad=len(BAD), batch_size=2)
    iterator = iter(loader)
    next(iterator)
    state, left = loader.state_dict(), sum(number in BAD for number in due[2:])
    assert left
    list(iterator)
    loader.load_state_dict(state)
    assert loader.report()["in_epoch"] == 0
    list(loader)
    report = loader.report()
    assert (report["count"], report["in_epoch"]) == (len(BAD) + left, left)


def test_a_first_batch_whose_delivery_is_interrupted_is_counted_once(train):
    loader = loader_of(train, on_error="skip", batch_size=N)
    after, told = loader._after, []

    def interrupted(*arguments):
        told.append(loader.report()["count"])
        if len(told) == 1:
            raise KeyboardInterrupt
        return after(*arguments)

    loader._after = interrupted
    with pytest.raises(KeyboardInterrupt):
        list(loader)
    assert len(list(loader)) == 1
    assert told == [len(BAD)] * 2


def test_by_default_one_sample_in_a_hundred_may_be_bad(train):
    loader = Loader(train, batch_size=4, transform=TRANSFORM, on_error="skip")
    with pytest.raises(BadSamples, match=f"max_bad allows 1 of {N}"):
        list(loader)


def test_by_default_bad_samples_raise(train):
    with pytest.raises((BadSample, CorruptObject, KeyError)):
        list(Loader(train, batch_size=4, transform=TRANSFORM))


def test_a_lake_without_a_good_sample_raises_whatever_the_budget(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    split = write_dataset(lake, "pictures", [("train", [sample(n) for n in range(8)])], schema=SCHEMA)["train"]
    lake.store.delete(split.shards[0].row.ref.path)
    with pytest.raises(KeyError, match="none of the 16 samples that were tried in its place"):
        list(loader_of(split))
    assert not any(batch.valid.any() for batch in loader_of(split, on_error="skip"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"on_error": "ignore"}, "raise, skip, substitute"),
        ({"max_bad": -1}, "max_bad is -1"),
        ({"max_bad": 1.5}, "at most 1.0"),
        ({"max_bad": float("nan")}, "max_bad is nan"),
        ({"max_bad": True}, "max_bad is True"),
        ({"max_bad": "few"}, "max_bad is 'few'"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(train, options, says):
    with pytest.raises(InvalidArgument, match=says):
        loader_of(train, **options)


# ---------------------------------------------------------------------- what is no bad sample


@pytest.fixture
def good(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    shards = [("train", [picture(n) for n in range(start, start + 6)]) for start in (0, 6, 12)]
    return write_dataset(lake, "pictures", shards, schema=SCHEMA)["train"]


def test_damage_in_the_hot_tier_alone_makes_no_bad_sample(good, tmp_path):
    whole = delivered(loader_of(good))
    hot = Hot(tmp_path / "hot", limit="64 MiB")
    with loader_of(good, hot=hot) as loader:
        assert delivered(loader) == whole
    for copy in (tmp_path / "hot" / "objects").iterdir():
        flip(copy, copy.stat().st_size // 2)
    with loader_of(good, hot=hot) as loader:
        assert delivered(loader) == whole
        assert loader.stats()["hot"]["corrupt"] > 0
        assert loader.report() == {"count": 0, "in_epoch": 0, "samples": []}


@pytest.mark.parametrize("kind", ["unavailable", "throttled", "timeout"])
@pytest.mark.parametrize("tier", [None, "hot"])
def test_a_store_that_is_unavailable_for_a_while_is_waited_for(good, tmp_path, kind, tier):
    whole = delivered(loader_of(good))
    asked = {"get_range": "objects"} if tier else {"get": ".idx", "get_ranges": ".tar"}
    faults = FaultStore(good.dataset.store, [Fault(verb, kind, times=2, path=path) for verb, path in asked.items()])
    split = good.dataset.through(faults)["train"]
    with loader_of(split, hot=tier and Hot(tmp_path / tier, limit="64 MiB")) as loader:
        assert delivered(loader) == whole
        assert loader.report()["count"] == 0
    assert faults.left == 0


@pytest.mark.parametrize("kind", ["flipped", "short"])
def test_bytes_that_arrive_damaged_once_are_read_again(good, kind):
    whole = delivered(loader_of(good))
    faults = FaultStore(good.dataset.store, [Fault("get_ranges", kind, path=".tar"), Fault("get", kind, path=".idx", skip=1)])
    loader = loader_of(good.dataset.through(faults)["train"])
    assert delivered(loader) == whole
    assert loader.report()["count"] == 0


@pytest.mark.parametrize(("verb", "path"), [("get", ".idx"), ("get_ranges", ".tar")])
@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_a_store_that_stays_unavailable_is_waited_for_once_and_raises(good, on_error, verb, path, monkeypatch):
    monkeypatch.setattr("loaders.patience._PATIENCE_SECONDS", 0.5)
    faults = FaultStore(good.dataset.store, [Fault(verb, "unavailable", times=1000, path=path)])
    loader = loader_of(good.dataset.through(faults)["train"], on_error=on_error, threads=0, batch_size=18)
    with pytest.raises(StoreUnavailable, match=r"pictures@1/train: .* of shard \w+\.tar: .* 503"):
        list(loader)
    assert 3 <= 1000 - faults.left <= 8  # of a job of four samples in several shards, for which the index's error is read once more
    assert loader.position == 0


class Forbidding(WrapperStore):
    """Lets nobody read what lies in shards."""

    def get_ranges(self, path, *, starts, ends=None, lengths=None):
        raise PermissionDenied(f"{path}: access denied")


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_refused_credentials_raise(good, on_error):
    split = good.dataset.through(Forbidding(good.dataset.store))["train"]
    with pytest.raises(PermissionDenied, match="access denied"):
        list(loader_of(split, on_error=on_error))


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_an_adopted_object_that_changed_raises(tmp_path, on_error):
    lake = Lake.init(str(tmp_path / "lake"))
    tar_of(tmp_path / "x.tar", range(8))
    adopt(lake, str(tmp_path / "x.tar"), "x")
    tar_of(tmp_path / "x.tar", range(9))
    loader = loader_of(lake.dataset("x")["train"], transform={"cls": Int64()}, on_error=on_error)
    with pytest.raises(SourceChanged, match="adopt it again"):
        list(loader)


def test_a_picture_that_the_index_misdescribes_is_a_bad_sample(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    made = [picture(n) for n in range(8)]
    made[3] = replace(made[3], images={"jpg": ImageInfo(10, 10)})
    split = write_dataset(lake, "pictures", [("train", made)], schema=SCHEMA)["train"]
    loader = loader_of(split)
    assert sorted(delivered(loader)) == list(range(8))
    (bad,) = loader.report()["samples"]
    assert bad["key"] == made[3].key
