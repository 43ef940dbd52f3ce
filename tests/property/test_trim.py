"""Trimming the announcements of collections: however it goes on, whoever searches for the newest one finds it."""

import time
import uuid
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane import sweeps
from dataplane.log import Log
from dataplane.store import WrapperStore, open_store
from dataplane.sweeps import Watch, announcements, sweep_body
from dataplane.testing import RecordingStore
from dataplane.upkeep.trim import needed, trim

LATER = datetime.now(UTC) + timedelta(seconds=2 * sweeps.KEPT_SECONDS)


def numbers(store):
    return sorted(int(meta["path"].rsplit("/", 1)[1][:20]) for chunk in store.list("gc/log") for meta in chunk)


def empty():
    return open_store(f"memory://trim-{uuid.uuid4().hex}")


def test_what_a_search_comes_by():
    store = empty()
    for newest in range(1, 300):
        announcements(store).store.put(announcements(store).path(newest), b"{}")
        recorded = RecordingStore(store)
        assert announcements(recorded).newest() == newest
        asked = {int(path[-25:-5]) for path in recorded.paths("head")}
        assert {number for number in asked if number <= newest} == needed(newest)
    assert len(needed(10**6)) < 40


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=8))
def test_the_newest_is_found_from_the_start_and_the_next_goes_behind_it(steps):
    store, count = empty(), 0
    for more, trimmed in steps:
        for _ in range(more):
            count += 1
            store.put(announcements(store).path(count), b"{}", mode="create")  # a number is not given twice
            assert announcements(store).newest() == count
        if trimmed:
            trim(announcements(store), LATER)
            assert set(numbers(store)) == needed(count)
    assert announcements(store).newest() == count
    assert not announcements(store)._has(count + 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.data())
def test_killed_anywhere_and_beside_another(count, data):
    """Any of what one trimming deletes may be left, and another one may have read a listing of before."""
    store = empty()
    for number in range(1, count + 1):
        store.put(announcements(store).path(number), b"{}")
    earlier = data.draw(st.integers(0, count))
    doomed = sorted((set(range(1, count + 1)) - needed(count)) | (set(range(1, earlier + 1)) - needed(earlier)))
    for number in data.draw(st.sets(st.sampled_from(doomed)) if doomed else st.just(set())):
        store.delete(announcements(store).path(number))
    assert announcements(store).newest() == count


class Overtaken(WrapperStore):
    """Calls `do` before one of the calls of `head`."""

    def __init__(self, inner, at, do):
        super().__init__(inner)
        self.calls, self.at, self.do = 0, at, do

    def head(self, path):
        self.calls += 1
        if self.calls == self.at:
            self.do()
        return super().head(path)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 100), st.integers(1, 10), st.integers(1, 14))
def test_others_append_and_trim_while_a_search_is_under_way(old, young, at):
    """What the search came by at its beginning must not go before its end: it would find one of long ago, and go on from there."""
    store = empty()
    log = announcements(store)

    def meanwhile():
        for number in range(old + 1, old + young + 1):
            store.put(log.path(number), b"{}")
        trim(Log(Aged(store, old), log.prefix), LATER)

    for number in range(1, old + 1):
        store.put(log.path(number), b"{}")
    search = announcements(Overtaken(store, at, meanwhile))
    assert old <= search.newest() <= old + young
    search.store.do()
    assert search.newest() == old + young


class Aged(WrapperStore):
    """The entries up to `old` came long ago; the others just before `LATER`."""

    def __init__(self, inner, old):
        super().__init__(inner)
        self.old = old

    def list(self, prefix=None, *, offset=None):
        for chunk in super().list(prefix, offset=offset):
            yield [{**meta, "last_modified": meta["last_modified"] if int(meta["path"][-25:-5]) <= self.old else LATER} for meta in chunk]


def test_what_is_young_stays():
    store = empty()
    for _ in range(10):
        announcements(store).append(lambda _: {"type": "end", "owner": "me"})
    trim(announcements(store), datetime.now(UTC))
    assert numbers(store) == list(range(1, 11))
    trim(announcements(store), LATER)
    assert numbers(store) == sorted(needed(10))
    assert announcements(store).append(lambda tip: {"type": "end", "owner": str(tip.number)}).body["owner"] == "10"
    trim(Log(store, "gc/empty"), LATER)


def test_a_writer_that_has_not_looked_for_weeks_searches_from_the_start(monkeypatch):
    store = empty()
    log = announcements(store)
    for _ in range(4):
        log.append(lambda _: {"type": "end", "owner": "me"})
    asleep, hasty = Watch(store), Watch(store)
    assert asleep.newest().number == hasty.newest().number == 4
    for _ in range(11):
        log.append(lambda _: {"type": "end", "owner": "me"})
    log.append(lambda _: sweep_body("me", ["ab" * 32]))
    trim(announcements(store), LATER)
    assert numbers(store) == [1, 3, 7, 15, 16]
    assert hasty.newest().number == 4  # what would become of it otherwise
    weeks_on = time.time() + sweeps.KEPT_SECONDS
    monkeypatch.setattr(sweeps.time, "time", lambda: weeks_on)
    assert asleep.newest().threatens("ab" * 32)
