"""The commit log: numbering, requests, conflicts, lost acknowledgements, damage."""

import json
import random
import uuid

import pytest
from blake3 import blake3

from dataplane import log as log_module
from dataplane.canonical import canonical_json
from dataplane.errors import CommitConflict, CorruptObject, DataplaneError, FormatTooNew, NotFound, StorageFull, StoreUnavailable
from dataplane.log import Log
from dataplane.store import WrapperStore, open_store
from dataplane.testing import Fault, FaultStore, RecordingStore


@pytest.fixture
def store():
    return open_store(f"memory://{uuid.uuid4().hex}")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(log_module.time, "sleep", lambda _: None)


def say(what):
    return lambda _: {"says": what}


def said(log):
    return [entry.body["says"] for entry in log]


def test_numbers_start_at_one_and_have_no_gaps(store):
    log = Log(store, "a/log")
    assert (log.newest(), log.last(), list(log)) == (0, None, [])
    entries = [log.append(say(i)) for i in range(5)]
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5]
    assert log.path(1) == "a/log/00000000000000000001.json"
    assert said(log) == said(Log(store, "a/log")) == [0, 1, 2, 3, 4]
    assert log.last() == entries[-1] == log.read(5)
    assert len({entry.id for entry in entries}) == 5
    assert all(entry.created.tzinfo for entry in entries)


def test_make_sees_the_newest_entry_and_may_decline(store):
    log = Log(store, "log")
    log.append(say("first"))
    seen = []
    assert log.append(lambda tip: seen.append(tip.body["says"])) is None
    assert seen == ["first"]
    assert log.newest() == 1


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 8, 9, 100, 1000])
def test_the_newest_is_found_in_logarithmically_many_requests(store, length):
    for number in range(1, length + 1):
        store.put(Log(store, "log").path(number), b"")
    recorded = RecordingStore(store)
    log = Log(recorded, "log")
    assert log.newest() == length
    assert len(recorded.calls) <= 2 * (length + 1).bit_length() + 1
    assert recorded.paths("list") == []
    recorded.clear()
    assert log.newest() == length
    assert len(recorded.calls) == 1  # it remembers where it was


def test_a_conflict_is_rebased_on(store):
    log, other = Log(store, "log"), Log(store, "log")
    tips = []

    def make(tip):
        if not tips:
            other.append(say("theirs"))
        tips.append(tip.body["says"] if tip else None)
        return {"says": f"mine after {tips[-1]}"}

    entry = log.append(make)
    assert tips == [None, "theirs"]
    assert entry.number == 2
    assert said(log) == ["theirs", "mine after theirs"]


def test_a_conflict_may_be_refused(store):
    log, other = Log(store, "log"), Log(store, "log")

    def make(tip):
        if tip:
            raise CommitConflict("somebody was here")
        other.append(say("theirs"))
        return {"says": "mine"}

    with pytest.raises(CommitConflict, match="somebody"):
        log.append(make)
    assert said(log) == ["theirs"]


def test_endless_conflicts_end(store, monkeypatch):
    monkeypatch.setattr(log_module, "_CONFLICTS", 3)
    log, other = Log(store, "log"), Log(store, "log")

    def make(_):
        other.append(say("theirs"))
        return {"says": "mine"}

    with pytest.raises(CommitConflict, match="3 other commits came first"):
        log.append(make)
    assert said(log) == ["theirs"] * 3


@pytest.mark.parametrize("times", [1, 2, 7])
def test_a_lost_acknowledgement_is_recognised(store, times):
    faulty = FaultStore(store, [Fault("put", "lost"), Fault("put", "unavailable", times - 1)])
    log = Log(faulty, "log")
    calls = []
    entry = log.append(lambda tip: calls.append(tip) or {"says": "once"})
    assert entry.number == 1
    assert calls == [None]
    assert faulty.left == 0
    assert said(log) == ["once"]
    assert log.append(say("next")).number == 2


def test_a_lost_acknowledgement_is_recognised_when_reading_back_fails_too(store):
    faulty = FaultStore(store, [Fault("put", "lost"), Fault("get", "unavailable", 2)])
    entry = Log(faulty, "log").append(say("once"))
    assert (entry.number, said(Log(store, "log"))) == (1, ["once"])


def test_somebody_elses_commit_is_not_taken_for_ours(store):
    """The put is refused before it happens, and another writer takes the number meanwhile."""

    class Overtaken(WrapperStore):
        done = False

        def put(self, path, file, **options):
            if not self.done:
                self.done = True
                Log(self.inner, "log").append(say("theirs"))
                raise StoreUnavailable("injected")
            return self.inner.put(path, file, **options)

    entry = Log(Overtaken(store), "log").append(say("mine"))
    assert entry.number == 2
    assert said(Log(store, "log")) == ["theirs", "mine"]


def test_an_unknown_outcome_is_tried_again(store):
    faulty = FaultStore(store, [Fault("put", "unavailable", 7)])
    assert Log(faulty, "log").append(say("once")).number == 1
    assert said(Log(store, "log")) == ["once"]


def test_trying_again_draws_none_of_the_callers_random_numbers(store):
    before = random.getstate()
    Log(FaultStore(store, [Fault("put", "unavailable", 3)]), "log").append(say("a"))
    assert random.getstate() == before


def test_a_store_that_stays_away_is_an_error(store):
    faulty = FaultStore(store, [Fault("put", "unavailable", 8)])
    with pytest.raises(StoreUnavailable, match="503"):
        Log(faulty, "log").append(say("never"))
    assert faulty.left == 0
    assert said(Log(store, "log")) == []


def test_a_full_store_is_not_tried_again(store):
    faulty = FaultStore(store, [Fault("put", "full", 2)])
    with pytest.raises(StorageFull):
        Log(faulty, "log").append(say("never"))
    assert faulty.left == 1


def test_a_missing_entry(store):
    with pytest.raises(NotFound, match="00007"):
        Log(store, "log").read(7)


# ------------------------------------------------------------------ damage


def test_a_flipped_byte_anywhere_is_damage(store):
    log = Log(store, "log")
    log.append(say("first"))
    log.append(say("second"))
    raw = bytes(memoryview(store.get(log.path(2)).buffer()))
    for at in range(len(raw)):
        wrong = bytearray(raw)
        wrong[at] ^= 1
        store.put(log.path(2), bytes(wrong))
        with pytest.raises(CorruptObject) as caught:
            log.read(2)
        message = str(caught.value)
        assert f"{store.url}/{log.path(2)} is damaged" in message
        assert "NAME@1" in message
        assert "from a copy" in message
    store.put(log.path(2), raw)
    assert said(log) == ["first", "second"]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"blake3":"","commit":{}}'])
def test_rubbish_is_damage(store, raw):
    log = Log(store, "log")
    store.put(log.path(1), raw)
    with pytest.raises(CorruptObject, match="is damaged"):
        log.read(1)


def test_a_truncated_entry_is_damage(store):
    log = Log(store, "log")
    log.append(say("first"))
    raw = bytes(memoryview(store.get(log.path(1)).buffer()))
    for end in range(len(raw)):
        store.put(log.path(1), raw[:end])
        with pytest.raises(CorruptObject):
            log.read(1)


def test_a_newer_format_asks_for_an_upgrade(store):
    commit = {"format": 2, "id": "x", "created": "2031-01-01T00:00:00+00:00", "body": {}}
    log = Log(store, "log")
    store.put(log.path(1), canonical_json({"blake3": blake3(canonical_json(commit)).hexdigest(), "commit": commit}))
    with pytest.raises(FormatTooNew, match=r"has format 2; this release reads up to 1: upgrade"):
        log.read(1)


def test_nothing_else_escapes(store):
    """Whatever a commit file holds, the error is of the one tree."""
    log = Log(store, "log")
    for commit in ({}, {"format": "1"}, {"format": 1, "id": "x", "created": "not a date", "body": {}}, {"format": None}, []):
        store.put(log.path(1), canonical_json({"blake3": blake3(canonical_json(commit)).hexdigest(), "commit": commit}))
        with pytest.raises(DataplaneError):
            log.read(1)


def test_the_file_is_plain_json(store):
    Log(store, "log").append(say("ü"))
    document = json.loads(bytes(memoryview(store.get(Log(store, "log").path(1)).buffer())))
    assert document["commit"]["body"] == {"says": "ü"}
    assert document["commit"]["format"] == 1
