"""Writers' journals: what a killed writer had finished is found, and a living one is left alone."""

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataplane import Lake, journal
from dataplane.errors import CommitConflict
from dataplane.journal import Journal, leftovers, remove
from dataplane.log import Log
from dataplane.refs import referenced
from dataplane.store import WrapperStore
from dataplane.testing import Fault, FaultStore
from tests import make

ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


def of_a_dead_process(lake, dataset="numbers", shards=(), finish="os._exit(9)"):
    """The id of a journal whose writer has died after it finished shards."""
    code = f"""
import os, sys
sys.path.insert(0, {ROOT!r})
from dataplane import Lake
from dataplane.journal import Journal
from tests import make
lake = Lake({lake.url!r})
journal = Journal(lake.store, {dataset!r})
for numbers in {shards!r}:
    journal.add(make.finished(lake, "train", numbers))
print(journal.id, flush=True)
{finish}
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout.strip()


def test_a_dead_writers_shards_are_found(lake):
    writer = of_a_dead_process(lake, shards=[[0, 1, 2], [3, 4]])
    (left,) = leftovers(lake.store, "numbers")
    assert left.id == writer
    assert [finished.shard.samples for finished in left.finished] == [3, 2]
    assert left.finished[0].metadata.equals(make.finished(lake, "train", [0, 1, 2]).metadata)
    assert left.finished[1].shard == make.finished(lake, "train", [3, 4]).shard
    assert leftovers(lake.store, "other") == []
    remove(lake.store, writer)
    assert leftovers(lake.store, "numbers") == []
    assert list(lake.store.list("writers")) == []


def test_a_writer_lives_from_its_first_entry_on(lake):
    """Another thread of the process looks as soon as the entry is there."""
    seen = []

    class Watched(WrapperStore):
        def put(self, path, file, **options):
            done = super().put(path, file, **options)
            seen.append(leftovers(lake.store, "numbers"))
            return done

    with Journal(Watched(lake.store), "numbers") as mine:
        mine.finish()
    assert seen == [[]]


def test_a_living_writer_is_left_alone(lake):
    with Journal(lake.store, "numbers") as mine:
        mine.add(make.finished(lake, "train", [0]))
        assert leftovers(lake.store, "numbers") == []
        mine.finish()
    assert list(lake.store.list("writers")) == []


def test_a_writer_that_stopped_is_done_though_its_process_lives(lake):
    with Journal(lake.store, "numbers", about={"split": "train=1"}) as mine:
        mine.add(make.finished(lake, "train", [0]))
    (left,) = leftovers(lake.store, "numbers")
    assert (left.id, len(left.finished), left.about) == (mine.id, 1, {"split": "train=1"})


def test_another_machines_writer_is_dead_when_it_is_silent(lake, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("dataplane.process.socket.gethostname", lambda: "elsewhere")
        Journal(lake.store, "numbers")
    assert leftovers(lake.store, "numbers") == []
    monkeypatch.setattr(journal, "DEAD_AFTER", journal.timedelta(0))
    assert len(leftovers(lake.store, "numbers")) == 1


def test_a_process_is_not_taken_for_a_later_one_with_its_number(lake, monkeypatch):
    Journal(lake.store, "numbers")
    assert leftovers(lake.store, "numbers") == []
    monkeypatch.setattr(journal, "started", lambda _: "another boot/123")
    assert len(leftovers(lake.store, "numbers")) == 1


def test_a_writer_in_another_container_is_left_alone(lake, monkeypatch):
    """It has this host's name, and a number that means nothing here."""
    with monkeypatch.context() as patch:
        patch.setattr("dataplane.process._space", lambda: "pid:[1]")
        patch.setattr(journal, "started", lambda _: "its boot/1")
        mine = Journal(lake.store, "numbers")
    assert mine.id not in (left.id for left in leftovers(lake.store, "numbers"))
    assert not journal.retire(lake.store, mine.id, now=datetime.now(UTC), keep=timedelta(0))


def test_a_machine_whose_clock_is_slow_is_not_dead(lake, monkeypatch):
    """What was written a moment ago by the store's clock was, whatever the writer says."""

    class Slow(datetime):
        @classmethod
        def now(cls, zone=None):
            return super().now(zone) - timedelta(hours=1)

    with monkeypatch.context() as patch:
        patch.setattr("dataplane.process.socket.gethostname", lambda: "elsewhere")
        patch.setattr("dataplane.log.datetime", Slow)
        Journal(lake.store, "numbers")
    assert leftovers(lake.store, "numbers") == []


@pytest.mark.parametrize("late_beat", [False, True])
def test_a_writer_hears_that_its_journal_is_gone(lake, late_beat):
    other = Log(lake.store, "writers/other")
    for kind in ("begin", "beat"):
        other.append(lambda _, kind=kind: {"type": kind})
    with Journal(lake.store, "numbers") as mine:
        remove(lake.store, mine.id)
        if late_beat:
            lake.store.put(f"writers/{mine.id}/{2:020d}.json", bytes(lake.store.get(other.path(2)).buffer()))
        with pytest.raises(CommitConflict, match="took over"):
            mine.hold([])
    assert not mine._beating.is_alive()


def test_objects_that_are_held_are_named_and_not_taken_over(lake):
    ref = lake.objects.put(b"one", suffix=".idx")
    with Journal(lake.store, "numbers") as mine:
        mine.hold([ref])
    assert [list(referenced(entry.body)) for entry in journal.read(lake.store, mine.id)] == [[], [ref], []]
    assert journal.read(lake.store, mine.id, after=2)[0].number == 3
    assert [left.finished for left in leftovers(lake.store, "numbers")] == [()]


class Third(WrapperStore):
    """Says when the third entry of a log was put."""

    def __init__(self, inner):
        super().__init__(inner)
        self.there = threading.Event()

    def put(self, path, file, **options):
        done = self.inner.put(path, file, **options)
        if path.endswith("00003.json"):
            self.there.set()
        return done


def test_the_heart_beats_and_stops(lake, monkeypatch):
    monkeypatch.setattr(journal, "BEAT_SECONDS", 0.01)
    store = Third(lake.store)
    with Journal(store, "numbers") as mine:
        assert store.there.wait(30)
    log = Log(lake.store, f"writers/{mine.id}")
    assert {entry.body["type"] for entry in list(log)[1:-1]} == {"beat"}
    assert log.last().body == {"type": "end"}
    assert not mine._beating.is_alive()


def test_a_missed_beat_does_not_stop_the_heart(lake, monkeypatch):
    monkeypatch.setattr(journal, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr("dataplane.log.time.sleep", lambda _: None)
    faulty = FaultStore(lake.store, [Fault("put", "unavailable", 20, path="00000002.json")])
    store = Third(faulty)
    with Journal(store, "numbers"):
        assert store.there.wait(30)
    assert faulty.left == 0


def test_finishing_waits_for_a_beat_under_way(lake, monkeypatch):
    monkeypatch.setattr(journal, "BEAT_SECONDS", 0.0)
    for _ in range(5):
        with Journal(lake.store, "numbers") as mine:
            mine.finish()
    assert list(lake.store.list("writers")) == []


def test_a_removal_that_was_killed_half_way_is_no_obstacle(lake):
    writer = of_a_dead_process(lake, shards=[[0], [1], [2]])
    log = Log(lake.store, f"writers/{writer}")
    assert log.newest() == 4
    lake.store.delete(log.path(2))  # 1, 3 and 4 are left
    (left,) = leftovers(lake.store, "numbers")
    assert left.finished == ()
    remove(lake.store, writer)
    assert list(lake.store.list("writers")) == []


def test_a_removal_under_way_is_no_obstacle(lake):
    writer = of_a_dead_process(lake, shards=[[0], [1]])
    lake.store.delete([meta["path"] for chunk in lake.store.list(f"writers/{writer}") for meta in chunk if meta["path"].endswith(".arrow")])
    (left,) = leftovers(lake.store, "numbers")
    assert left.finished == ()


def test_damaged_metadata_are_not_taken_over(lake, caplog):
    of_a_dead_process(lake, shards=[[0], [1]])
    damaged, whole = sorted((lake.store.root / "writers").glob("*/*.arrow"))
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    (left,) = leftovers(lake.store, "numbers")
    assert [finished.shard.index.hex for finished in left.finished] == [whole.stem]
    assert str(damaged) in caplog.text


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_damaged_journal_is_no_obstacle(lake, caplog, number):
    writer = of_a_dead_process(lake, shards=[[0], [1]])
    path = Log(lake.store, f"writers/{writer}").path(number)
    (lake.store.root / path).write_bytes(b"{}")
    assert [len(left.finished) for left in leftovers(lake.store, "numbers")] == [number - 2] * (number > 1)
    assert path in caplog.text
