"""A loader ends cleanly whatever ends it: Ctrl-C at any moment, exceptions, iterators that are forgotten, fork and spawn, a long run.

CI does a few of each; `make soak` interrupts at 50 random moments, and goes through 50,000 batches.
"""

import gc
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from dataplane import Lake
from dataplane.errors import InvalidArgument
from loaders import Int64, Loader, Map, Resize
from tests import functions
from tests.pictures import make_dataset

LONG = bool(os.environ.get("DATAPLANE_SOAK"))
HERE = Path(__file__).parents[2]
COUNTS = [7, 11, 5, 9]
N = sum(COUNTS)
PICTURES = {"jpg;png": [Resize((16, 16))], "cls": Int64()}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    made = Lake.init(str(tmp_path_factory.mktemp("lake")))
    make_dataset(made, "pictures", COUNTS)
    return made


@pytest.fixture
def train(lake):
    return lake.dataset("pictures")["train"]


def loader_of(split, **options):
    return Loader(split, **({"batch_size": 2, "transform": PICTURES, "lanes": 4, "window": 6, "threads": 2, "tail": "short"} | options))


def ours():
    """What a loader could leave behind: its threads, its processes, open files."""
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("dataplane")]
    processes = [process.name for process in multiprocessing.active_children()]
    return threads, processes, open_files()


def open_files():
    """By name, so that a test that fails says which."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            found.append(os.readlink(each))
    return sorted(found)


def program(source, *arguments, **options):
    """A Python program of its own, which can import what tests can."""
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    return subprocess.Popen([sys.executable, source, *arguments], stdout=subprocess.PIPE, text=True, env=environment, **options)


# ------------------------------------------------------------------ Ctrl-C

INTERRUPTED = """
import multiprocessing, signal, sys
from functools import partial

from dataplane import Lake
from dataplane.testing import Fault, FaultStore, LatencyStore
from loaders import Int64, Loader, Map, Resize
from tests import functions

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background jobs ignore it
    split = Lake(sys.argv[1]).dataset("pictures")["train"]
    options = {"batch_size": 2, "transform": {"jpg;png": [Resize((16, 16))], "cls": Int64()}, "threads": 3}
    store, how = split.dataset.store, sys.argv[2]
    if how == "here":
        options["threads"] = 0
    elif how == "slow":
        split = split.dataset.through(LatencyStore(store, request_seconds=0.2))["train"]
    elif how == "unavailable":
        faults = [Fault(verb, "throttled", times=10**9, path=".tar") for verb in ("get", "get_range", "get_ranges")]
        split = split.dataset.through(FaultStore(store, faults, retry_after_seconds=30))["train"]
    elif how == "processes":
        options["transform"]["cls"] = Map(partial(functions.slow, 0.05), shape=(), dtype="int64", processes=2)
    print("begun", flush=True)
    with Loader(split, **options) as loader:
        while True:
            for batch in loader:
                sum(batch["cls"])
                if how == "processes":
                    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
                    how = ""

if __name__ == "__main__":
    main()
"""
HOWS = ("plain", "here", "slow", "unavailable", "processes")


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", HOWS)
def test_an_interrupt_at_a_random_moment_ends_it_within_a_second(lake, tmp_path, how):
    source = tmp_path / "interrupted.py"
    source.write_text(INTERRUPTED)
    moments = random.Random(how)
    for _ in range(10 if LONG else 1):
        with program(source, lake.url, how, stderr=subprocess.PIPE) as process:
            assert process.stdout.readline() == "begun\n"
            children = process.stdout.readline().split() if how == "processes" else []
            time.sleep(moments.uniform(0.05, 1.5 if LONG else 0.5))
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            try:
                _, said = process.communicate(timeout=60)
            finally:
                process.kill()
            took = time.monotonic() - began
        assert process.returncode == -signal.SIGINT, said
        assert said.rstrip().endswith("KeyboardInterrupt"), said
        assert "Exception ignored" not in said
        assert "Fatal" not in said
        assert took < (1.0 if LONG else 6.0), f"{took:.2f} s; tests beside this one have their share of that where the run is a short one"
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


# ------------------------------------------------------------------ exceptions and what is forgotten


@pytest.mark.parametrize("processes", [0, 1])
def test_exceptions_and_forgotten_iterators_leave_nothing_behind(train, processes):
    def broken():
        transform = {**PICTURES, "cls": Map(functions.odd_fails, shape=(), dtype="int64", processes=processes)}
        with pytest.raises(ValueError, match=r"pictures@1/train: sample 'pictures/0.*: Map\(odd_fails\) failed: ValueError: 1 is odd"):
            list(loader_of(train, transform=transform))

    def left():
        def body():
            for _ in loader_of(train):
                raise RuntimeError("in the loop's body")

        with pytest.raises(RuntimeError, match="body"):
            body()

    def forgotten():
        loader = loader_of(train)
        cycle = [iter(loader)]
        cycle.append(cycle)
        next(cycle[0])

    def kept():
        with loader_of(train) as loader:
            batches = iter(loader)
            next(batches)
        assert list(batches) == []

    broken()  # what is opened once a process is open from now on
    gc.collect()
    before = ours()
    for end in (broken, left, forgotten, kept):
        end()
        gc.collect()
        assert ours() == before, end.__name__


def test_bad_samples_of_a_map_follow_the_policy(train):
    transform = {"cls": Map(functions.odd_fails, shape=(), dtype="int64")}
    labels = {f"pictures/{n:05d}": n % 2 for n in range(N)}
    skipping = list(loader_of(train, transform=transform, on_error="skip", max_bad=1.0))
    assert {key for batch in skipping for key, valid in zip(batch.sample_keys, batch.valid, strict=True) if valid} == {
        key for key, label in labels.items() if not label
    }
    with loader_of(train, transform=transform, on_error="substitute", max_bad=1.0) as loader:
        assert all((batch["cls"] == 0).all() and batch.valid.all() for batch in loader)
        bad = loader.report()["samples"]
    assert {each["key"] for each in bad} == {key for key, label in labels.items() if label}
    assert "Map(odd_fails) failed: ValueError: 1 is odd" in bad[0]["reason"]


def test_random_maps_draw_the_same_on_any_threads_and_after_a_resume(train):
    transform = {"jpg;png": [Resize((8, 8)), Map(functions.noisy, random=True)]}
    whole = {
        key: batch["jpg;png"][i].tobytes() for batch in loader_of(train, transform=transform) for i, key in enumerate(batch.sample_keys)
    }
    first = loader_of(train, transform=transform, threads=0)
    seen = [next(iter(first))]
    transform = {"jpg;png": [Resize((8, 8)), Map(functions.noisy, random=True, processes=1)]}
    with loader_of(train, transform=transform, threads=3, batch_size=4) as resumed:
        resumed.load_state_dict(first.state_dict())
        seen += list(resumed)
    assert {key: batch["jpg;png"][i].tobytes() for batch in seen for i, key in enumerate(batch.sample_keys)} == whole
    assert len(whole) == N


# ------------------------------------------------------------------ fork and spawn


def in_a_fork(work):
    """The exit code of a forked child in which `work` gives one."""
    child = os.fork()
    if not child:
        signal.alarm(60)  # should it hang
        try:
            os._exit(work())
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def refuses(call):
    try:
        call()
    except InvalidArgument as error:
        return 7 if "spawn" in str(error) else 8
    return 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # it is what this is about
def test_a_fork_in_the_middle_leaves_the_parent_its_iterator_and_refuses_in_the_child(train):
    with loader_of(train) as loader:
        batches = iter(loader)
        seen = list(next(batches).sample_keys)
        assert in_a_fork(lambda: refuses(lambda: next(batches))) == 7
        assert in_a_fork(lambda: refuses(lambda: next(iter(loader)))) == 7
        assert sorted(seen + [key for batch in batches for key in batch.sample_keys]) == [f"pictures/{n:05d}" for n in range(N)]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_without_threads_a_forked_child_goes_on_as_the_parent_does(train):
    loader = loader_of(train, threads=0)
    batches = iter(loader)
    next(batches)
    assert in_a_fork(lambda: len(list(batches))) == len(list(batches)) == N // 2 - 1
    assert in_a_fork(lambda: len(list(loader))) == N // 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_loader_that_has_not_begun_works_in_a_forked_child(train):
    loader = loader_of(train)
    assert in_a_fork(lambda: len([key for batch in loader for key in batch.sample_keys])) == N
    assert len([key for batch in loader for key in batch.sample_keys]) == N


def spawned(url, results):
    loader = loader_of(Lake(url).dataset("pictures")["train"])
    results.send([key for batch in loader for key in batch.sample_keys])
    next(iter(loader))  # and it exits in the middle of the second epoch


def test_a_spawned_process_makes_its_own(lake, train):
    mine, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=spawned, args=(lake.url, theirs))
    process.start()
    theirs.close()
    assert mine.recv() == [key for batch in loader_of(train) for key in batch.sample_keys]
    process.join(30)
    assert process.exitcode == 0


# ------------------------------------------------------------------ a long run

LONG_RUN = """
import gc, json, os, sys, threading
from pathlib import Path

from dataplane import Lake
from loaders import HorizontalFlip, Int64, Loader, Map, RandomResizedCrop
from tests import functions

def files():  # those that stay open: not a shard that a thread reads just now
    found = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(each))
        except FileNotFoundError:
            pass
    return sum(not name.endswith(".tar") for name in found)

def now():
    gc.collect()
    rss = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return {"rss": int(rss.split()[1]) * 1024, "files": files(), "threads": threading.active_count()}

def main():
    split = Lake(sys.argv[1]).dataset("pictures")["train"]
    count = int(sys.argv[3])
    transform = {"jpg;png": [RandomResizedCrop(64), HorizontalFlip()], "cls": Int64()}
    if sys.argv[2] == "processes":
        transform["cls"] = Map(functions.sizes, shape=(), dtype="int32", processes=1)
    before, seen, batches = now(), [], 0
    with Loader(split, batch_size=2, transform=transform, threads=2) as loader:
        source = loader
        if sys.argv[2] == "torch":
            from loaders.torch import TorchLoader
            source = TorchLoader(loader, channels_last=True)
        while batches < count:
            for batch in source:
                batches += 1
                if batches % (count // 20) == 0:
                    seen.append(now())
                if batches == count or batches % 997 == 0:  # now and then an iterator is left in the middle
                    break
    del loader, source, batch
    print(json.dumps({"batches": batches, "before": before, "seen": seen, "after": now()}))

if __name__ == "__main__":
    main()
"""


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("how", ["processes", *(["plain", "torch"] if LONG else [])])  # the first has all that the second has
def test_many_batches_leave_memory_threads_and_files_as_they_were(lake, tmp_path, how):
    source = tmp_path / "long_run.py"
    source.write_text(LONG_RUN)
    with program(source, lake.url, how, "50000" if LONG else "400") as process:
        found = json.loads(process.communicate(timeout=1700)[0])
    assert process.returncode == 0
    settled = found["seen"][4:]
    print(how, {"batches": found["batches"], "rss_mb": [each["rss"] >> 20 for each in found["seen"]]})
    assert max(each["rss"] for each in settled) - min(each["rss"] for each in settled) < 16 << 20
    assert len({each["files"] for each in settled}) == 1
    assert len({each["threads"] for each in settled}) == 1
    assert found["after"]["threads"] == found["before"]["threads"]
    assert found["after"]["files"] <= found["before"]["files"] + (2 if how == "processes" else 0)  # multiprocessing's own, once
