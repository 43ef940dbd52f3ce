"""What real runs wait for is named rightly: far storage, decoding, a slow function, a busy consumer; and tuning helps where it can."""

import io
import json
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from dataplane import Lake, write
from dataplane.errors import InvalidArgument
from dataplane.testing import LatencyStore
from loaders import Int64, Limits, Loader, Map, RandomResizedCrop, Resize
from loaders.waiting.tuning import Setting, Tuning
from tests.pictures import make_dataset
from tiering import Hot, HotStore

SMALL = {"jpg;png": [Resize((8, 8))], "cls": Int64()}
STAGES = {"all", "cold", "hot", "decode", "transform", "copy", "plan"}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    made = Lake.init(str(tmp_path_factory.mktemp("lake")))
    make_dataset(made, "pictures", [24, 24])
    return made


@pytest.fixture(scope="module")
def train(lake):
    return lake.dataset("pictures")["train"]


@pytest.fixture(scope="module")
def large(lake):
    """Pictures that take tens of milliseconds to decode, and are not indexed."""
    rng = np.random.default_rng(0)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (1024, 1024, 3), np.uint8)).save(out, "JPEG", quality=95)
    return write(lake, "large", ({"__key__": f"{n:03d}", "jpg": out.getvalue()} for n in range(24)))["train"]


def far(split, seconds):
    return split.dataset.through(LatencyStore(split.dataset.store, request_seconds=seconds))[split.name]


def run(loader, *, epochs=1, step_seconds=0.0):
    """What the loader says of some epochs."""
    with loader:
        for _ in range(epochs):
            for _batch in loader:
                time.sleep(step_seconds)
    return loader.stats()


def loader_of(split, **options):
    return Loader(split, **{"batch_size": 8, "transform": SMALL, "threads": 2, **options})


def test_far_storage_is_named(train):
    stats = run(loader_of(far(train, 0.02)), epochs=3)
    assert stats["bound_by"] == "cold"
    assert "hot=Hot(" in stats["advice"]
    assert stats["waits"]["cold"]["p50"] > 0.01
    assert stats["bytes_by_tier"]["cold"] == stats["bytes"] > 0
    assert stats["bytes_by_tier"]["hot"] == 0


def test_what_a_hot_tier_has_to_fetch_is_cold_and_what_it_has_is_not(train, tmp_path):
    with loader_of(far(train, 0.2), hot=Hot(tmp_path, limit="100 MiB"), lanes=2, window=2) as loader:
        list(loader)
        first = loader.stats()
        for _ in range(5):
            list(loader)
        stats = loader.stats()
    assert first["bound_by"] == "cold"
    assert first["waits"]["cold"]["seconds"] > 0.2
    assert stats["waits"]["cold"]["seconds"] - first["waits"]["cold"]["seconds"] < 0.05
    assert stats["thread_seconds"]["hot"] > 0
    assert stats["bytes_by_tier"] == {"cold": stats["hot"]["cold_bytes"], "hot": stats["hot"]["hot_bytes"]}
    assert min(stats["bytes_by_tier"].values()) > 0


def test_a_hot_tier_of_the_caller_is_seen_too(train, tmp_path):
    dataset = far(train, 0.05).dataset
    with Hot(tmp_path, limit="100 MiB").wrap(dataset.store) as store:
        loader = loader_of(dataset.through(store)["train"], lanes=2, window=2)
        list(loader)
        stats = loader.stats()
        assert stats["hot"]["misses"] > 0
        assert stats["bytes_by_tier"] == {"cold": stats["hot"]["cold_bytes"], "hot": stats["hot"]["hot_bytes"]}
        assert "hot=Hot(" not in stats["advice"]
        loader.close()
        list(loader)  # it is the caller's, and open
        more = loader.stats()["hot"]
        assert more["hits"] > stats["hot"]["hits"]
    assert loader.stats()["hot"] == more  # what it said last


def test_any_thread_may_ask_while_a_loader_with_a_hot_tier_closes(train, tmp_path, monkeypatch):
    errors, done, stats = [], threading.Event(), HotStore.stats

    def slow(store):
        time.sleep(0.001)
        return stats(store)

    monkeypatch.setattr(HotStore, "stats", slow)

    def ask():
        try:
            while not done.is_set():
                loader.stats()
        except Exception as error:
            errors.append(error)

    for n in range(5):
        done.clear()
        loader = loader_of(train, hot=Hot(tmp_path / str(n), limit="100 MiB"), lanes=2, window=2)
        next(iter(loader))
        asking = [threading.Thread(target=ask) for _ in range(3)]
        for thread in asking:
            thread.start()
        time.sleep(0.005)
        loader.close()
        done.set()
        for thread in asking:
            thread.join()
    assert errors == []


def test_a_machine_without_threads_left_is_not_asked_for_them_in_the_next_epoch(train, monkeypatch):
    with loader_of(train, threads=None, limits=Limits(threads=8)) as loader:
        list(loader)
        cores, start = loader._tuner.cores, threading.Thread.start

        def scarce(thread):
            if sum(each.name.startswith("dataplane-loader") for each in threading.enumerate()) >= cores:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", scarce)
        batches = iter(loader)
        next(batches)
        monkeypatch.setattr("loaders.waiting.tuner.decide", lambda tuning, seen, room: Tuning(Setting(8, 3), "threads", tuning.setting))
        assert loader._tuner.step(loader._pipeline(), loader._stats, 1)
        assert loader.stats()["tuned"] == {"threads": cores, "prefetch": 3}
        assert len(list(batches)) == 5
        assert len(list(loader)) == 6


def test_decoding_is_named(large):
    stats = run(loader_of(large, transform={"jpg": [Resize((8, 8))]}))
    assert stats["bound_by"] == "decode"
    assert stats["thread_seconds"]["decode"] > stats["thread_seconds"]["cold"]
    assert stats["decode_seconds"] == stats["thread_seconds"]["decode"] + stats["thread_seconds"]["transform"]


def slowly(data):
    time.sleep(0.01)
    return np.zeros(1, np.uint8)


def test_a_slow_function_is_named(train):
    stats = run(loader_of(train, transform={"cls": Map(slowly, shape=(1,), dtype=np.uint8)}))
    assert stats["bound_by"] == "transform"
    assert "Map(fn, processes=n)" in stats["advice"]


def test_a_busy_consumer_is_named(train):
    loader = loader_of(train)
    list(loader)  # compiles
    del loader
    stats = run(loader_of(train, prefetch=6), epochs=4, step_seconds=0.05)
    assert stats["bound_by"] == "consumer"
    assert stats["consumer_seconds"] > 0.05 * (stats["batches"] - 4)
    assert "The model bounds this run" in stats["advice"]


@pytest.mark.parametrize("threads", [0, 3])
def test_the_totals_add_up(train, threads):
    started = time.perf_counter()
    with loader_of(train, threads=threads) as loader:
        for _batch in loader:
            time.sleep(0.002)
        stats = loader.stats()
    taken = time.perf_counter() - started
    assert (stats["batches"], stats["samples"]) == (6, 48)
    assert stats["waits"].keys() == STAGES
    assert sum(wait["seconds"] for name, wait in stats["waits"].items() if name != "all") == pytest.approx(stats["wait_seconds"])
    assert stats["waits"]["all"]["seconds"] == pytest.approx(stats["wait_seconds"])
    assert stats["waits"]["all"]["p50"] <= stats["waits"]["all"]["p99"]
    assert 0 < stats["wait_seconds"] + stats["consumer_seconds"] <= taken
    assert sum(stats["thread_seconds"].values()) <= max(1, threads) * taken
    json.dumps(stats)
    assert 'dataplane_loader_batches_total{data="pictures@1/train",rank="0"} 6.0' in loader.metrics()


def test_what_is_delivered_does_not_depend_on_tuning(train):
    fixed = loader_of(train)
    with loader_of(far(train, 0.03), threads=None, limits=Limits(threads=8)) as loader:
        for _ in range(6):
            assert [batch.sample_keys for batch in loader] == [batch.sample_keys for batch in fixed]
        assert loader._tuner.tried or loader._tuner.setting != Setting(loader._tuner.cores, 2)


def test_reading_from_afar_gets_more_threads(train):
    with loader_of(far(train, 0.05), threads=None, batch_size=12, limits=Limits(threads=8)) as loader:
        for _ in range(8):
            list(loader)
        stats = loader.stats()
        assert stats["tuned"]["threads"] > loader._tuner.cores or "did not help" in stats["advice"]
        assert stats["tuned"]["threads"] <= 8
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dataplane-loader")]


def test_limits_are_checked(train):
    with pytest.raises(InvalidArgument, match="prefetch"):
        loader_of(train, limits=Limits(prefetch=0))


def test_a_trace_of_a_run_opens(train, tmp_path):
    file = tmp_path / "trace.json"
    with loader_of(train, transform={"jpg;png": [RandomResizedCrop(8)]}) as loader:
        list(loader)
        with loader.trace(file):
            list(loader)
        list(loader)
    events = json.loads(file.read_text())["traceEvents"]
    names = {event["name"] for event in events}
    assert {"working", "waiting", "cold", "decode", "transform"} <= names
    assert sum(event["name"] == "waiting" for event in events) == 6
    tracks = {}
    for event in events:
        if event["ph"] == "X":
            tracks.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
            assert event["ts"] >= 0
    assert len(tracks) == 3
    for track in (1, 2):  # a thread does one thing at a time
        spans = sorted(tracks[track])
        assert all(b[0] >= a[1] - 1 for a, b in pairwise(spans))


def test_a_trace_to_nowhere_is_refused_before_it_begins(train, tmp_path):
    with pytest.raises(InvalidArgument, match="there is no folder"), loader_of(train).trace(tmp_path / "no" / "trace.json"):
        raise AssertionError


def test_a_loader_has_one_trace_at_a_time(train, tmp_path):
    loader = loader_of(train)
    with loader.trace(tmp_path / "a.json"):
        with pytest.raises(InvalidArgument, match="already"), loader.trace(tmp_path / "b.json"):
            raise AssertionError
        list(loader)
    assert not (tmp_path / "b.json").exists()
    with loader.trace(tmp_path / "b.json"):
        pass
    assert len(json.loads((tmp_path / "a.json").read_text())["traceEvents"]) > 20


def interrupted(loader, file, *, spoil=lambda: None):
    """A trace of a loop that somebody interrupts."""
    with loader, loader.trace(file):
        for _batch in loader:
            spoil()
            raise KeyboardInterrupt


def test_a_trace_does_not_hide_what_ended_it(train, tmp_path):
    folder = tmp_path / "gone"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted(loader_of(train), folder / "trace.json", spoil=folder.rmdir)
    assert "no trace can be written" in caught.value.__notes__[0]


def test_a_trace_that_an_error_ends_is_written(train, tmp_path):
    file = tmp_path / "trace.json"
    with pytest.raises(KeyboardInterrupt):
        interrupted(loader_of(train), file)
    assert any(event["name"] == "waiting" for event in json.loads(file.read_text())["traceEvents"])


def test_what_is_no_terminal_gets_one_picture_in_the_end(train):
    console = Console(file=io.StringIO(), width=90)
    before = set(threading.enumerate())
    with loader_of(train) as loader, loader.watch(console):
        next(iter(loader))
        assert not [t for t in set(threading.enumerate()) - before if not t.name.startswith("dataplane-loader")]
        assert console.file.getvalue() == ""
    assert console.file.getvalue().count("pictures@1/train") == 1


def test_watching_ends_with_its_block(train):
    console = Console(file=io.StringIO(), width=90, force_terminal=True)
    before = set(threading.enumerate())
    with loader_of(far(train, 0.02)) as loader, loader.watch(console):
        list(loader)
    for thread in set(threading.enumerate()) - before:  # it was told to end
        thread.join(5)
        assert not thread.is_alive()
    text = console.file.getvalue()
    assert "pictures@1/train" in text
    assert "cold tier" in text
