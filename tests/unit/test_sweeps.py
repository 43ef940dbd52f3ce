"""What writers know of collections: announcements, the store's clock, and what was put a moment ago."""

import pickle
import time
from datetime import UTC, datetime, timedelta

import pytest

from dataplane import Lake, sweeps
from dataplane.objects import Objects, digest_bytes
from dataplane.process import Process
from dataplane.store import open_store
from dataplane.sweeps import Keeper, StoreClock, Watch, announcements, sweep_body
from dataplane.testing import RecordingStore


@pytest.fixture
def store(tmp_path):
    return Lake.init(str(tmp_path / "lake")).store


def test_a_put_costs_one_look(store):
    recorded = RecordingStore(store)
    objects = Objects(recorded)
    objects.put(b"one", suffix=".bin")
    recorded.clear()
    objects.put(b"two", suffix=".bin")
    assert [(call.verb, call.path.split("/")[0]) for call in recorded.calls] == [("put", "objects"), ("head", "gc")]


def test_the_clock_of_the_store(store, s3):
    for each in (store, open_store(s3.url())):
        clock = StoreClock(each)
        now = datetime.now(UTC)
        assert now - timedelta(seconds=5) < clock.now() <= datetime.now(UTC) + timedelta(seconds=1)
        assert clock.young(now, 60)
        assert not clock.young(now - timedelta(seconds=120), 60)
        assert [meta for chunk in each.list("writers") for meta in chunk] == []


def test_what_was_put_a_moment_ago_is_remembered_and_the_rest_forgotten(store, monkeypatch):
    monkeypatch.setattr(sweeps, "_REMEMBERED", 4)
    keeper = Keeper(store)
    refs = [digest_bytes(b"%d" % n, ".bin") for n in range(20)]
    for ref in refs:
        keeper.note(ref)
    assert all(keeper.recent(ref) for ref in refs)
    monkeypatch.setattr(sweeps, "YOUNG_SECONDS", 0.0)
    time.sleep(0.001)
    assert not any(keeper.recent(ref) for ref in refs)
    keeper._room = 4
    keeper.note(digest_bytes(b"more", ".bin"))
    assert len(keeper._put) == 0


def test_they_travel(store):
    keeper = pickle.loads(pickle.dumps(Keeper(store)))
    ref = digest_bytes(b"one", ".bin")
    assert not keeper.recent(ref)
    keeper.put(ref, lambda: store.put(ref.path, b"one"))
    assert keeper.recent(ref)
    lake = pickle.loads(pickle.dumps(Lake(store)))
    assert lake.objects.has(ref)


def test_an_announcement(store):
    watch = Watch(store)
    assert (watch.newest().number, watch.newest().over()) == (0, True)
    announcements(store).append(lambda _: sweep_body("me", ["ab" * 32]))
    sweep = watch.newest()
    assert sweep.threatens("ab" * 32)
    assert not sweep.threatens("cd" * 32)
    announcements(store).append(lambda _: {"type": "end", "owner": "me"})
    assert not watch.newest().threatens("ab" * 32)
    assert watch.passed("ab" * 32, sweep).number == 2
    assert watch.passed("ab" * 32, watch.newest()) is None


def test_processes(monkeypatch):
    mine = Process.own()
    assert Process.from_json(mine.to_json()) == mine
    assert not mine.gone()
    boot = mine.started.partition("/")[0]
    assert Process(mine.host, mine.pid, f"{boot}/1", mine.space).gone()
    assert Process(mine.host, mine.pid, f"{boot}/1").gone()  # the first ones did not say where their numbers count
    assert not Process("elsewhere", mine.pid, f"{boot}/1", mine.space).gone()
    assert not Process(mine.host, mine.pid, "another boot/1", mine.space).gone()  # another machine may have the same name
    assert not Process(mine.host, mine.pid, f"{boot}/1", "pid:[1]").gone()  # or a container whose numbers are its own


def test_an_object_that_went_while_its_writer_slept_is_put_again(store, monkeypatch):
    """The announcement was known before the put, and is over after it: the object may have been deleted between."""
    objects = Objects(store)
    ref = digest_bytes(b"one", ".bin")
    announcements(store).append(lambda _: sweep_body("me", [ref.hex]))
    keeper = objects._keeper
    assert keeper._watch.newest().threatens(ref.hex)
    puts = []

    def put():
        store.put(ref.path, b"one")
        if not puts:  # the collector deletes it, and this process is stopped until the announcement has lapsed
            store.delete(ref.path)
            keeper._watch._last.since -= 2 * sweeps.LEASE_SECONDS
        puts.append(1)

    keeper.put(ref, put)
    assert len(puts) == 2
    assert store.head(ref.path)["size"] == 3
