"""The loader end to end: real shards, real threads, real processes."""

import io
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from dataplane import Lake
from dataplane.errors import CorruptObject, DataplaneError, InvalidArgument, NotFound, StateMismatch
from dataplane.formats.index import ShardIndex
from loaders import CenterCrop, HorizontalFlip, Int64, Loader, Normalize, RandomResizedCrop, Resize
from tests.pictures import make_dataset, picture
from tiering import Hot

TRANSFORM = {"jpg;png": [RandomResizedCrop(24), HorizontalFlip(), Normalize.imagenet()], "cls": Int64()}
COUNTS = [7, 11, 5, 9, 1, 8]
N = sum(COUNTS)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    made = Lake.init(str(tmp_path_factory.mktemp("lake")))
    make_dataset(made, "pictures", COUNTS)
    return made


@pytest.fixture(scope="module")
def train(lake):
    return lake.dataset("pictures")["train"]


def loader_of(split, **options):
    arguments = {"batch_size": 4, "transform": TRANSFORM, "seed": 5, "lanes": 4, "window": 6, "threads": 2, "tail": "short"} | options
    return Loader(split, **arguments)


def by_key(batches):
    """Every delivered sample by key: its position and its bytes."""
    found = {}
    for batch in batches:
        for i, key in enumerate(batch.sample_keys):
            assert key not in found, f"{key} was delivered twice"
            found[key] = (int(batch.positions[i]), batch["jpg;png"][i].tobytes(), int(batch["cls"][i]))
    return found


@pytest.fixture(scope="module")
def epoch(train):
    """One uninterrupted epoch of one rank."""
    return by_key(loader_of(train))


def test_an_epoch_delivers_every_sample_once_with_its_label(epoch):
    assert sorted(epoch) == [f"pictures/{n:05d}" for n in range(N)]
    assert all(label == int(key[-5:]) % 2 for key, (_, _, label) in epoch.items())


def test_batches_have_the_shapes_and_types_that_were_asked_for(train):
    batch = next(iter(loader_of(train)))
    assert dict(batch).keys() == {"jpg;png", "cls"}
    assert batch["jpg;png"].shape == (4, 3, 24, 24)
    assert batch["jpg;png"].dtype == np.float32
    assert batch["cls"].dtype == np.int64
    assert batch.positions.tolist() == [0, 1, 2, 3]
    assert batch.valid.all()
    assert batch.epoch == 0
    assert len({batch, *loader_of(train)}) == 1 + len(loader_of(train))


@pytest.mark.parametrize(
    "options", [{"threads": 0}, {"threads": 5}, {"batch_size": 7}, {"batch_size": 1, "prefetch": 5}, {"batch_size": 100}]
)
def test_threads_and_batch_size_change_nothing(train, epoch, options):
    assert by_key(loader_of(train, **options)) == epoch


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_share_the_epoch_and_step_equally(train, epoch, world):
    with pytest.warns(UserWarning, match="share shards") if 4 % world else pytest.MonkeyPatch().context():
        ranks = [loader_of(train, rank=rank, world=world) for rank in range(world)]
    batches = [list(rank) for rank in ranks]
    assert len({len(b) for b in batches}) == 1
    assert by_key(batch for b in batches for batch in b) == epoch
    assert len({json.dumps(rank.state_dict()) for rank in ranks}) == 1


@pytest.mark.filterwarnings("ignore:lanes")
def test_resume_at_every_step_on_another_world_size_is_exact(train, epoch):
    worlds = [1, 3, 2, 4]
    for stop_after in range(1, 8):
        world = worlds[stop_after % 4]
        ranks = [loader_of(train, rank=rank, world=world, batch_size=2) for rank in range(world)]
        iterators = [iter(rank) for rank in ranks]
        got = [batch for _ in range(stop_after) for batch in (next(iterator, None) for iterator in iterators) if batch is not None]
        states = {json.dumps(rank.state_dict()) for rank in ranks}
        assert len(states) == 1
        state = json.loads(states.pop())
        if state["epoch"] == 1:  # fewer steps than asked for: the epoch is over
            assert by_key(got) == epoch
            continue
        other = worlds[(stop_after + 1) % 4]
        resumed = [loader_of(train, rank=rank, world=other, batch_size=5, threads=1, seed=99) for rank in range(other)]
        for rank in resumed:
            rank.load_state_dict(state)
        assert by_key([*got, *(batch for rank in resumed for batch in rank)]) == epoch


def test_epochs_differ_and_follow_each_other(train, epoch):
    loader = loader_of(train)
    assert by_key(loader) == epoch
    assert (loader.epoch, loader.position) == (1, 0)
    second = by_key(loader)
    assert second.keys() == epoch.keys()
    assert [second[key] for key in epoch] != [epoch[key] for key in epoch]
    loader.restart()
    assert by_key(loader) == epoch


def test_after_break_it_continues_and_an_older_iterator_ends(train, epoch):
    loader = loader_of(train)
    first = iter(loader)
    got = [next(first), next(first)]
    for batch in loader:
        got.append(batch)
        if len(got) == 5:
            break
    assert list(first) == []
    assert by_key([*got, *loader]) == epoch


def test_an_older_iterator_that_had_not_begun_moves_nothing(train):
    loader = loader_of(train, tail="drop")
    older = iter(loader)
    loader.load_state_dict({**loader.state_dict(), "position": N - 1})  # less than a batch is left
    assert list(older) == []
    assert (loader.epoch, loader.position) == (0, N - 1)


@pytest.mark.parametrize("threads", [0, 2])
def test_an_interrupt_while_a_batch_is_handed_over_loses_nothing(train, epoch, threads, monkeypatch):
    tenth = [key for batch in loader_of(train) for key in batch.sample_keys][9]  # of the third batch, whichever thread comes to it
    key, asked = ShardIndex.key, []

    def interrupted(index, row):
        found = key(index, row)
        if found == tenth and not asked:
            asked.append(row)
            raise KeyboardInterrupt
        return found

    loader, got = loader_of(train, threads=threads), []
    monkeypatch.setattr(ShardIndex, "key", interrupted)
    with pytest.raises(KeyboardInterrupt):
        got.extend(batch for batch in loader)
    assert loader.position == 4 * len(got) == 8
    assert by_key([*got, *loader]) == epoch


@pytest.mark.parametrize("prefetch", [1, 3])
def test_batches_are_prepared_while_the_consumer_has_one(train, prefetch):
    loader = loader_of(train, prefetch=prefetch)
    batches = iter(loader)
    for _ in range(2):
        next(batches)
        assert len(loader._pipeline()._ahead) == prefetch


def test_the_state_after_the_last_batch_is_the_next_epochs_start(train):
    loader = loader_of(train, tail="drop")
    states = [loader.state_dict() for _ in loader]
    assert len(loader) == len(states) == N // 4
    assert [(s["epoch"], s["position"]) for s in states] == [*((0, 4 * n) for n in range(1, N // 4)), (1, 0)]


def test_a_padded_epoch_marks_what_fills_it_up(train):
    batches = list(loader_of(train, tail="pad", batch_size=16))
    assert all(len(batch.positions) == 16 for batch in batches)
    assert sum(batch.valid.sum() for batch in batches) == N
    assert batches[-1].sample_keys[-1] == batches[0].sample_keys[len(batches[-1].positions) * len(batches) - N - 1]


def test_without_shuffling_samples_come_as_they_are_stored(train):
    keys = [key for batch in loader_of(train, shuffle=False) for key in batch.sample_keys]
    assert keys == [sample.key for sample in train]


def test_pixels_are_pillows(train):
    batch = next(iter(loader_of(train, shuffle=False, batch_size=N, transform={"jpg;png": [Resize((24, 20)), CenterCrop((20, 20))]})))
    for i, key in enumerate(batch.sample_keys):
        fields = picture(int(key[-5:])).fields
        image = Image.open(io.BytesIO(fields.get("jpg") or fields["png"])).convert("RGB")
        expected = np.asarray(image.resize((20, 24), Image.Resampling.BILINEAR))[2:22]
        got = batch["jpg;png"][i].transpose(1, 2, 0).astype(int)
        assert np.abs(got - expected).max() <= 1


def test_torch_tensors_share_the_memory_and_need_no_copy(train):
    import torch

    batch = next(iter(loader_of(train, output="torch")))
    assert isinstance(batch["jpg;png"], torch.Tensor)
    assert batch["cls"].dtype == torch.int64


def test_the_hot_tier_serves_the_second_epoch(train, epoch, tmp_path):
    with loader_of(train, hot=Hot(tmp_path / "hot", limit="64 MiB")) as loader:
        assert by_key(loader) == epoch
        cold = loader.stats()["hot"]
        list(loader)
        warm = loader.stats()["hot"]
    assert cold["misses"] > 0
    assert warm["misses"] == cold["misses"]
    assert warm["hits"] > cold["hits"]


def test_the_hot_tiers_counters_outlive_it(train, tmp_path):
    with loader_of(train, hot=Hot(tmp_path / "hot", limit="64 MiB")) as loader:
        list(loader)
        before = loader.stats()
    loader.close()
    assert loader.stats()["hot"]["misses"] == before["hot"]["misses"] > 0
    assert loader.stats()["samples"] == N


def test_a_small_hot_tier_means_fewer_lanes_unless_ranks_have_to_agree(tmp_path, caplog):
    split = make_dataset(Lake.init(str(tmp_path / "lake")), "many", [20] * 12)["train"]
    assert sum(shard.row.ref.size for shard in split.shards) > 600 << 10
    options = {"batch_size": 4, "transform": {"cls": Int64()}, "hot": Hot(tmp_path / "hot", limit="600 KiB")}
    with Loader(split, **options) as alone:
        assert alone.state_dict()["lanes"] < 48
        assert sorted(key for batch in alone for key in batch.sample_keys) == sorted(sample.key for sample in split)
    assert "shuffling with" in caplog.text
    with Loader(split, **options, rank=0, world=2) as first:
        assert first.state_dict()["lanes"] == 48
    assert "give all ranks lanes=" in caplog.text
    with Loader(split, **options, lanes=24) as told:
        assert told.state_dict()["lanes"] == 24


def flip_byte(path, at):
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x40]))


def test_flipped_bytes_in_all_hot_indexes_and_tables_are_healed(train, epoch, tmp_path):
    hot = Hot(tmp_path / "hot", limit="64 MiB")
    with loader_of(train, hot=hot) as loader:
        list(loader)
    copies = [path for path in (tmp_path / "hot" / "objects").iterdir() if path.suffix != ".tar"]
    assert len(copies) == len(COUNTS) + 1
    for copy in copies:
        flip_byte(copy, copy.stat().st_size // 2)
    with loader_of(train, hot=hot) as loader:
        assert by_key(loader) == epoch
        assert loader.stats()["hot"]["corrupt"] == len(copies)


def test_a_flipped_byte_in_a_hot_shard_is_healed_under_random_access(damaged, tmp_path):
    _, split, shard, at, key = damaged
    with Hot(tmp_path / "hot", limit="64 MiB").wrap(split.dataset.store) as store:
        hot = split.dataset.through(store)["train"]
        whole = hot[2]
        flip_byte(tmp_path / "hot" / "objects" / shard.name, at)
        assert hot[2] == whole == split[2]
        assert (whole.key, store.stats().corrupt) == (key, 1)


@pytest.fixture
def damaged(tmp_path):
    """A lake whose first shard has a flipped byte in the middle of a picture."""
    lake = Lake.init(str(tmp_path / "lake"))
    split = make_dataset(lake, "pictures", [6, 6])["train"]
    index = split.shards[0].index
    at = int(index.field("jpg").offset[2]) + 200
    return lake, split, tmp_path / "lake" / split.shards[0].row.ref.path, at, index.key(2)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_flipped_byte_in_a_cold_object_names_sample_shard_and_version(damaged, threads):
    lake, split, shard, at, key = damaged
    flip_byte(shard, at)
    with pytest.raises(CorruptObject) as caught:
        list(loader_of(lake.dataset("pictures")["train"], threads=threads))
    for part in ("pictures@1/train", key, str(split.shards[0].row.ref), "checksum"):
        assert part in str(caught.value)


def test_a_sample_whose_index_is_damaged_is_named_by_its_row(damaged):
    lake, split, _, _, _ = damaged
    ref = split.shards[0].row.index
    lake.store.put(ref.path, b"x" * ref.size)
    with pytest.raises(CorruptObject, match=rf"^pictures@1/train: the sample in row \d+ of shard {split.shards[0].row.ref}: .*{ref.path}"):
        list(loader_of(lake.dataset("pictures")["train"], threads=0, shuffle=False))


def test_a_flipped_byte_in_a_hot_object_is_healed(damaged, tmp_path):
    _, split, shard, at, _ = damaged
    whole = by_key(loader_of(split))
    hot = Hot(tmp_path / "hot", limit="64 MiB")
    with loader_of(split, hot=hot) as loader:
        list(loader)
    (copy,) = [path for path in (tmp_path / "hot").rglob("*") if path.is_file() and path.stat().st_size == shard.stat().st_size]
    flip_byte(copy, at)
    with loader_of(split, hot=hot) as loader:
        assert by_key(loader) == whole
        assert loader.stats()["hot"]["corrupt"] == 1


def test_a_missing_shard_is_named(damaged):
    _, split, shard, _, _ = damaged
    shard.unlink()
    with pytest.raises(DataplaneError, match="no such object") as caught:
        list(loader_of(split))
    assert "pictures@1/train" in str(caught.value)


def test_a_missing_shard_is_named_by_stores_that_are_asked_for_ranges():
    lake = Lake.init("memory://a-missing-shard")
    split = make_dataset(lake, "pictures", [3])["train"]
    assert len(by_key(loader_of(split))) == 3
    lake.store.delete(split.shards[0].row.ref.path)
    with pytest.raises(NotFound, match="no such object") as caught:
        list(loader_of(split))
    for part in ("pictures@1/train", split.shards[0].index.key(0)[:-1], str(split.shards[0].row.ref)):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"transform": {}}, "no field"),
        ({"transform": {"webp": [Resize((8, 8))]}}, "cls, jpg, png"),
        ({"transform": {"jpg;png": [Int64()]}}, "jpg;png"),
        ({"transform": {"jpg;png": [HorizontalFlip()]}}, "size"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"batch_size": 1000, "tail": "drop"}, "fewer than one global batch"),
        ({"rank": 1}, "together"),
        ({"rank": 2, "world": 2}, "rank 2 of world 2"),
        ({"threads": -1}, "threads"),
        ({"prefetch": 0}, "prefetch"),
        ({"lanes": 0}, "lanes"),
        ({"tail": "keep"}, "drop, short, pad"),
        ({"output": "jax"}, "numpy"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(train, options, says):
    with pytest.raises(InvalidArgument, match=says):
        loader_of(train, **options)


def test_a_state_of_something_else_is_refused(lake, train):
    state = loader_of(train).state_dict()
    for change in ({"dataset": "other"}, {"version": 2}, {"commit": "0" * 32}, {"split": "test"}, {"shuffle": False}, {"position": N + 1}):
        with pytest.raises(StateMismatch):
            loader_of(train).load_state_dict({**state, **change})
    with pytest.raises(StateMismatch, match="leave the argument out"):
        loader_of(train, lanes=8).load_state_dict(state)


def test_a_resume_that_makes_ranks_share_shards_says_so(train):
    state = loader_of(train, lanes=48).state_dict()
    rank = loader_of(train, lanes=None, rank=0, world=20)
    with pytest.warns(UserWarning, match="lanes=48 is no multiple of world=20.*read by 5 of them"):
        rank.load_state_dict(state)


def test_numpy_integers_make_a_plain_state(train):
    loader = loader_of(train, seed=np.int64(5), batch_size=np.int64(4), lanes=np.int32(4), window=np.int16(6))
    next(iter(loader))
    plain = loader_of(train)
    next(iter(plain))
    assert json.dumps(loader.state_dict()) == json.dumps(plain.state_dict())


def test_an_impossible_epoch_is_refused_at_once(train):
    loader = loader_of(train)
    state = loader.state_dict()
    with pytest.raises(InvalidArgument, match="epoch is -1"):
        loader.restart(epoch=-1)
    assert loader.state_dict() == state


def test_abandoned_iterators_leave_no_thread(train):
    for _ in range(3):
        for _batch in loader_of(train, batch_size=2, threads=3):
            break
    assert loader_threads() == []


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("dataplane-loader")]


@pytest.mark.parametrize("end", [iter, Loader.restart, Loader.close, lambda loader: loader.load_state_dict(loader.state_dict())])
def test_an_iterator_that_is_ended_leaves_no_thread_even_if_it_is_kept(train, end):
    loader = loader_of(train)
    batches = iter(loader)
    next(batches)
    assert len(loader_threads()) == 2
    end(loader)
    assert loader_threads() == []
    assert list(batches) == []


def test_the_interpreter_exits_in_the_middle_of_an_epoch(lake):
    program = f"""
from dataplane import Lake
from loaders import Int64, Loader
split = Lake({lake.url!r}).dataset("pictures")["train"]
iterator = iter(Loader(split, batch_size=2, transform={{"cls": Int64()}}, threads=3))
print(next(iterator)["cls"].shape)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], timeout=60, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(2,)\n", "")


def test_torch_distributed_gives_rank_and_world(lake):
    program = f"""
import json, os, sys
import torch.distributed as dist
from dataplane import Lake
from loaders import Int64, Loader
dist.init_process_group("gloo")
split = Lake({lake.url!r}).dataset("pictures")["train"]
loader = Loader(split, batch_size=3, transform={{"cls": Int64()}}, tail="short", seed=5)
keys = [key for batch in loader for key in batch.sample_keys]
everybody = [None, None]
dist.all_gather_object(everybody, keys)
if dist.get_rank() == 0:
    print(json.dumps(everybody))
dist.destroy_process_group()
"""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "--no-python",
        sys.executable,
        "-c",
        program,
    ]
    done = subprocess.run(command, timeout=120, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout.strip().splitlines()[-1])
    assert sorted(first + second) == [f"pictures/{n:05d}" for n in range(N)]
    assert not set(first) & set(second)
