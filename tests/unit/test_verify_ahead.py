"""Verification reads many objects at once: the report is that of one after the other, and it ends when it is told to."""

import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from dataplane import Lake
from dataplane.errors import StoreUnavailable
from dataplane.refs import ref_to_json
from dataplane.store import WrapperStore
from dataplane.testing import Fault, FaultStore, LatencyStore
from dataplane.upkeep import verify, verify_lake
from dataplane.upkeep.ahead import Ahead, StoppableStore, Stopped
from tests import make


@pytest.fixture
def lake(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    for count in range(2, 8):
        make.dataset(lake, "numbers", train=(count, 3), test=(1,))
    make.dataset(lake, "others", train=(5, 6, 7))
    lake.catalog.tag("numbers", "prod", 1)
    return lake


class Jittery(WrapperStore):
    """Answers in another order than it was asked."""

    def __init__(self, inner):
        super().__init__(inner)
        self.random = random.Random(1)
        self.at_once = self.most = 0
        self.lock = threading.Lock()

    def _late(self, call):
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            pause = self.random.random() * 0.01
        time.sleep(pause)
        try:
            return call()
        finally:
            with self.lock:
                self.at_once -= 1

    def get(self, path, **options):
        return self._late(lambda: self.inner.get(path, **options))

    def get_range(self, path, **options):
        return self._late(lambda: self.inner.get_range(path, **options))


def hurt(lake):
    """Damage of every kind, all over the lake."""
    paths = sorted(meta["path"] for chunk in lake.store.list() for meta in chunk if meta["path"] != "lake.json")
    for path in paths[::5]:
        lake.store.put(path, b"damaged")
    for path in paths[3::11]:
        lake.store.delete(path)


def threads(monkeypatch, count):
    monkeypatch.setattr(verify, "_THREADS", count)
    monkeypatch.setattr(verify, "_DEEP_THREADS", count)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("damaged", [False, True])
def test_the_report_is_that_of_one_after_the_other(lake, monkeypatch, deep, damaged):
    if damaged:
        hurt(lake)
    seen = []
    with monkeypatch.context() as patch:
        threads(patch, 1)
        expected = verify_lake(lake, deep=deep, progress=seen.append)
    assert len(expected.problems) > 5 or not damaged
    jittery = Jittery(lake.store)
    for _ in range(3):
        told = []
        assert verify_lake(Lake(jittery), deep=deep, progress=told.append) == expected
        assert told == seen == list(range(1, expected.objects + 1))
    assert 4 < jittery.most <= verify._THREADS


def test_what_is_put_back_is_that_of_one_after_the_other(lake, monkeypatch, tmp_path):
    for name in ("copy", "again"):
        shutil.copytree(lake.url, tmp_path / name)
    hurt(lake)
    shutil.rmtree(tmp_path / "again")
    shutil.copytree(lake.url, tmp_path / "again")
    with monkeypatch.context() as patch:
        threads(patch, 1)
        expected = verify_lake(Lake(str(tmp_path / "again")), repair=str(tmp_path / "copy"))
    report = verify_lake(Lake(Jittery(lake.store)), repair=str(tmp_path / "copy"))
    assert report.repaired == expected.repaired
    assert len(report.repaired) > 10
    assert [problem.object for problem in report.problems] == [problem.object for problem in expected.problems]


@pytest.mark.parametrize(("deep", "least"), [(False, 6), (True, 3)])
def test_a_store_that_is_far_away(tmp_path, deep, least):
    """How many requests are under way on average."""
    lake = Lake.init(str(tmp_path / "lake"))
    make.dataset(lake, "many", train=(1,) * 60)
    best = 0.0
    for _ in range(3):
        far = LatencyStore(lake.store, request_seconds=0.02)
        there = Lake(far)
        far.clear()
        began = time.monotonic()
        assert verify_lake(there, deep=deep).ok
        best = max(best, far.requests * far.request_seconds / (time.monotonic() - began))
    assert best > least


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("verb", ["get", "get_range", "head"])
def test_a_store_that_fails_ends_it(lake, verb, deep):
    """Whichever thread waits for which, it does not hang, and nobody takes it for a success."""
    for skip in range(0, 40, 6):
        faulty = FaultStore(lake.store, [Fault(verb, "unavailable", times=1000, path="objects/", skip=skip)])
        try:
            ok = verify_lake(Lake(faulty), deep=deep).ok
        except StoreUnavailable:
            ok = False
        assert ok == (faulty.left == 1000)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dataplane-ahead")]


def test_an_interrupt_ends_it(lake):
    def interrupt(count):
        if count == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_lake(Lake(Jittery(lake.store)), progress=interrupt)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dataplane-ahead")]


INTERRUPTED = """
import sys
from dataplane import Lake
from dataplane.store import open_store
from dataplane.testing import LatencyStore
from dataplane.upkeep import verify_lake

class Told(LatencyStore):
    def get_range(self, path, **options):
        if options["start"]:
            print(path, flush=True)
        return super().get_range(path, **options)

try:
    verify_lake(Lake(Told(open_store(sys.argv[1]), request_seconds=0.3)))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_a_large_object_is_not_read_to_its_end_for_nobody(tmp_path):
    """It takes 40 requests of 0.3 s."""
    lake = Lake.init(str(tmp_path / "lake"))
    large = lake.objects.put(bytes(40 * (8 << 20)), suffix=".bin")
    lake.log("runs", "first").append(lambda _: {"weights": ref_to_json(large)})
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED, lake.url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() == large.path
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert process.wait(30) == 0
        assert time.monotonic() - began < 5
        assert process.stdout.read().strip().endswith("interrupted")


# ------------------------------------------------------------------ reading ahead


def test_results_come_in_order_and_no_more_than_so_many_ahead():
    asked = []

    def numbered():
        for number in range(50):
            asked.append(number)
            yield lambda number=number: (time.sleep(0.002 * (number % 3)), number)[1]

    with Ahead(4) as ahead:
        for place, result in enumerate(ahead(numbered(), 7)):
            assert result == place
            assert len(asked) <= place + 8


def test_what_a_call_raises_is_raised_at_its_turn():
    with Ahead(4) as ahead:
        results = ahead((lambda number=number: 12 // (3 - number) for number in range(9)), 5)
        assert [next(results) for _ in range(3)] == [4, 6, 12]
        with pytest.raises(ZeroDivisionError):
            next(results)
    assert not ahead.stopped.is_set()


def test_a_stopped_store(lake):
    stopped = threading.Event()
    store = StoppableStore(lake.store, stopped)
    assert (
        bytes(store.get_range("lake.json", start=0, length=1)) == bytes(store.get_ranges("lake.json", starts=[0], lengths=[1])[0]) == b"{"
    )
    stopped.set()
    for read in (lambda: store.get_range("lake.json", start=0, length=1), lambda: store.get_ranges("lake.json", starts=[0], lengths=[1])):
        with pytest.raises(Stopped):
            read()
