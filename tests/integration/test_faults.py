"""Every command that changes a lake, with each fault of a store at every call: the whole result or a clean error, never anything between.

The table of commands is `tests/mutations.py`. The stores that do it are tested here too.
"""

from __future__ import annotations

import copy
import os
import pickle
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from dataplane import Lake, log
from dataplane.errors import AlreadyExists, CorruptObject, InvalidArgument, NotFound, StorageFull, StoreUnavailable
from dataplane.log import Log
from dataplane.store import open_store
from dataplane.testing import Fault, FaultStore, LatencyStore, crash_points, fault_points
from dataplane.testing.faults import KINDS
from tests.mutations import MUTATIONS, Trial, dump, refill, write_sources

SOAK = bool(os.environ.get("DATAPLANE_SOAK"))
SOME = 7  # calls of a command: where there are many more, the short form leaves out those between
ALIKE = {"throttled", "timeout"}  # to a command they are what "unavailable" is: the long form tries them too


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture
def store():
    return open_store(f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(log.time, "sleep", lambda _: None)


def disturb(mutation, files, record_property, *, every, kinds):
    tried = Trial(mutation, files).faulted(every, kinds)
    print(f"{mutation}: {tried.calls} calls, {len(tried)} faults {tried.events}, {tried.failed} ended in an error")
    record_property("points", len(tried))
    record_property("errors", tried.failed)
    assert 0 < tried.failed < len(tried)
    assert tried.events["unavailable"] == len(range(0, tried.calls, every))
    assert tried.events.get("flipped") == tried.events.get("short")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_each_fault(mutation, files, record_property, no_waiting):
    """The short form: at some of the calls of each command."""
    kinds = {kind for kinds in KINDS.values() for kind in kinds} - ALIKE
    disturb(mutation, files, record_property, every=max(1, Trial(mutation, files).calls // SOME), kinds=kinds)


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="the long form runs in make soak (DATAPLANE_SOAK=1)")
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_each_fault_at_every_call(mutation, files, record_property, no_waiting):
    disturb(mutation, files, record_property, every=1, kinds=None)


# ------------------------------------------------------------------ the store that fails


def test_each_verb_fails_in_its_ways(store):
    """And works again afterwards."""
    calls = {
        "get": lambda s: s.get("a/b"),
        "get_range": lambda s: s.get_range("a/b", start=0, end=4),
        "get_ranges": lambda s: s.get_ranges("a/b", starts=[0, 2], ends=[2, 6]),
        "put": lambda s: s.put("a/b", b"other"),
        "head": lambda s: s.head("a/b"),
        "list": lambda s: list(s.list("a")),
        "list_with_delimiter": lambda s: s.list_with_delimiter("a"),
        "delete": lambda s: s.delete("a/b"),
    }
    assert calls.keys() == KINDS.keys()
    for verb, call in calls.items():
        for kind in ("unavailable", "throttled", "timeout", "lost"):
            refill(store, {"a/b": b"01234567"})
            faulty = FaultStore(store, [Fault(verb, kind, path="a")])
            with pytest.raises(StoreUnavailable, match="injected") as caught:
                call(faulty)
            assert caught.value.retry_after == (0.01 if kind == "throttled" else None)
            assert faulty.left == 0
            done = dump(store) != {"a/b": b"01234567"}
            assert done == (kind == "lost" and verb in {"put", "delete"})
            refill(store, {"a/b": b"01234567"})
            call(faulty)


def test_what_is_read_is_wrong_or_short(store):
    store.put("a", b"01234567")

    def reads(kind):
        faulty = FaultStore(store, [Fault(verb, kind) for verb in ("get", "get_range", "get_ranges")])
        whole = faulty.get("a")
        span = bytes(memoryview(faulty.get_range("a", start=0, length=4)))
        spans = [bytes(memoryview(piece)) for piece in faulty.get_ranges("a", starts=[4, 0], lengths=[4, 2])]
        assert faulty.left == 0
        return bytes(memoryview(whole.buffer())), whole.meta["size"], span, spans

    assert reads("flipped") == (b"01235567", 8, b"0133", [b"4567", b"00"])
    assert reads("short") == (b"0123", 8, b"01", [b"4567", b"0"])
    assert FaultStore(store, [Fault("get_ranges", "short")]).get_ranges("a", starts=[], ends=[]) == []


def test_a_fault_strikes_after_some_went_well(store):
    faulty = FaultStore(store, [Fault("put", "full", times=2, path="a", skip=1)])
    faulty.put("a1", b"")
    faulty.put("b", b"")
    for _ in range(2):
        with pytest.raises(StorageFull):
            faulty.put("a2", b"")
    faulty.put("a2", b"")
    assert sorted(dump(store)) == ["a1", "a2", "b"]


def test_a_delete_of_several_fails_in_the_middle(store):
    for path in "abc":
        store.put(path, b"")
    with pytest.raises(StoreUnavailable):
        FaultStore(store, [Fault("delete", "unavailable", skip=1)]).delete(["a", "b", "c"])
    assert sorted(dump(store)) == ["b", "c"]


def test_a_fault_that_cannot_be_is_refused():
    with pytest.raises(InvalidArgument, match=r"head cannot be 'flipped'; allowed are unavailable, throttled, timeout, lost"):
        Fault("head", "flipped")
    with pytest.raises(InvalidArgument, match="no verb of a store: 'patch'"):
        Fault("patch", "lost")


def paths(chunks):
    return sorted(meta["path"] for chunk in chunks for meta in chunk)


def test_a_stale_listing(store):
    """As it was before the last writes, whatever they did; other verbs see the truth."""
    for path in ("a/old", "a/gone", "a/sub/gone"):
        store.put(path, b"1")
    stale = [Fault("list", "stale", times=9), Fault("list_with_delimiter", "stale", times=9)]
    for writes, expected in ((None, ["a/gone", "a/old", "a/sub/gone"]), (2, ["a/new/1", "a/old"]), (0, ["a/new/1", "a/old", "a/two"])):
        refill(store, {"a/old": b"1", "a/gone": b"1", "a/sub/gone": b"1"})
        faulty = FaultStore(store, stale, stale_writes=writes)
        faulty.delete(["a/gone", "a/sub/gone"])
        faulty.put("a/new/1", b"")
        faulty.put("a/old", b"longer")
        faulty.put("a/two", b"")
        assert paths(faulty.list("a")) == expected
        assert paths(faulty.list("a", offset="a/new/1")) == [path for path in expected if path > "a/new/1"]
        level = faulty.list_with_delimiter("a")
        assert [meta["path"] for meta in level["objects"]] == [path for path in expected if path.count("/") == 1]
        assert level["common_prefixes"] == sorted({path.rsplit("/", 1)[0] for path in expected if path.count("/") == 2})
        sizes = {meta["path"]: meta["size"] for chunk in faulty.list("a") for meta in chunk}
        assert sizes["a/old"] == (6 if writes == 0 else 1)
        assert faulty.head("a/two")["size"] == 0
        with pytest.raises(NotFound):
            faulty.head("a/gone")
    assert sorted(faulty.list_with_delimiter()["common_prefixes"]) == ["a"]


def test_a_listing_breaks_off(store):
    store.put("a", b"")
    listing = FaultStore(store, [Fault("list", "lost")]).list()
    assert [meta["path"] for meta in next(listing)] == ["a"]
    with pytest.raises(StoreUnavailable):
        next(listing)


def test_what_a_server_asks_to_wait_survives_the_way_from_another_process():
    error = StoreUnavailable("slow down", retry_after=3.0)
    for sent in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (str(sent), sent.retry_after, type(sent)) == ("slow down", 3.0, StoreUnavailable)
    assert StoreUnavailable("gone").retry_after is None


def test_a_commit_waits_as_long_as_it_is_asked_to(store, monkeypatch):
    waited = []
    monkeypatch.setattr(log.time, "sleep", waited.append)
    faulty = FaultStore(store, [Fault("put", "throttled", 2)], retry_after_seconds=7.0)
    assert Log(faulty, "log").append(lambda _: {"says": "once"}).number == 1
    assert waited == [7.0, 7.0]
    waited.clear()
    greedy = FaultStore(store, [Fault("put", "throttled")], retry_after_seconds=86_400.0)
    assert Log(greedy, "log").append(lambda _: {"says": "twice"}).number == 2
    assert waited == [30.0]


def test_a_timeout_takes_its_time(store):
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"timed out after 0\.05 s"):
        FaultStore(store, [Fault("head", "timeout")], timeout_seconds=0.05).head("a")
    assert time.monotonic() - began >= 0.05


# ------------------------------------------------------------------ the run of faults


def test_a_fault_run_finds_what_is_wrong(store):
    def careless(store):
        try:
            store.put("a", b"1")
        except StoreUnavailable:
            return  # as if it were done

    def check(store, point):
        assert point.error or "a" in dump(store), "said to be done, and is not"

    with pytest.raises(AssertionError, match="said to be done") as caught:
        fault_points(lambda: refill(store, {}), careless, check)
    assert caught.value.__notes__ == ["the command was disturbed at call 1 (put a): unavailable"]


def test_a_fault_run_finds_other_errors(store):
    store.put("a", b"[1]")

    def command(store):
        return int(bytes(memoryview(store.get("a").buffer())).decode().strip("[]"))

    with pytest.raises(AssertionError, match=r"no DataplaneError, but ValueError: .* at call 1 \(get a\): short"):
        fault_points(lambda: store, command, lambda store, point: None, kinds=["short"])


def test_a_fault_run_without_a_point_is_a_failure(store):
    for kinds, command in (({"full"}, lambda store: list(store.list())), (None, lambda store: None)):
        with pytest.raises(AssertionError, match="at no point"):
            fault_points(lambda: store, command, lambda store, point: None, kinds=kinds)


def test_each_call_is_hit_once(store):
    def command(store):
        store.put("a", b"1", mode="create")
        store.delete(["a", "b"])
        list(store.list())

    tried = fault_points(lambda: refill(store, {}), command, lambda store, point: None)
    hit = {(point.number, point.event) for point in tried.points}
    assert len(hit) == len(tried) == sum(len(KINDS[verb]) for verb in ("put", "delete", "delete", "list"))
    assert tried.failed == len(tried) - 1  # all but the stale listing
    some = fault_points(lambda: refill(store, {}), command, lambda store, point: None, every=3)
    assert len(some) == len(KINDS["put"]) + len(KINDS["list"])
    assert len(crash_points(lambda: refill(store, {}), command, lambda store, point: None)) == 7


# ------------------------------------------------------------------ the store that is far away


def timed(call):
    began = time.monotonic()
    call()
    return time.monotonic() - began


def test_requests_take_their_time_one_by_one_and_not_at_once(store):
    for number in range(8):
        store.put(f"{number}", b"x" * 1000)
    far = LatencyStore(store, request_seconds=0.05)
    names = [f"{number}" for number in range(8)]
    one_by_one = timed(lambda: [far.get(name) for name in names])
    assert one_by_one >= 0.4
    with ThreadPoolExecutor(8) as threads:
        assert 0.05 <= timed(lambda: list(threads.map(far.get, names))) < one_by_one / 2
    assert (far.requests, far.bytes) == (16, 16_000)


def test_the_line_is_shared(store):
    store.put("a", bytes(10_000))
    narrow = LatencyStore(store, bytes_per_second=100_000)
    with ThreadPoolExecutor(4) as threads:
        assert timed(lambda: list(threads.map(narrow.get, ["a"] * 4))) >= 0.4
    assert timed(lambda: narrow.put("b", bytes(5_000))) >= 0.05


def test_neighbours_are_one_request(store):
    store.put("a", bytes(8 << 20))
    far = LatencyStore(store, request_seconds=0.02)
    far.get_ranges("a", starts=[0, 100, 6 << 20, 50], lengths=[10, 10, 10, 10])
    assert (far.requests, far.bytes) == (2, 120)
    far.clear()
    far.get_ranges("a", starts=[0], lengths=[0])
    far.get_range("a", start=5, length=7)
    assert (far.requests, far.bytes) == (1, 7)


def test_the_other_verbs_wait_too(store, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(100))
    far = LatencyStore(store, request_seconds=0.01)
    for call in (
        lambda: far.put("a", file),
        lambda: far.put("b", iter([b"12"])),
        lambda: far.head("a"),
        lambda: list(far.list()),
        far.list_with_delimiter,
        lambda: far.delete("a"),
    ):
        assert timed(call) >= 0.01
    assert (far.requests, far.bytes) == (6, 100)
    with pytest.raises(InvalidArgument, match="above 0"):
        LatencyStore(store, request_seconds=-1)


def test_a_lake_far_away_is_a_lake(store):
    far = LatencyStore(store, request_seconds=0.001)
    lake = Lake.init(far)
    ref = lake.objects.put(b"data", suffix=".bin")
    assert bytes(lake.objects.get(ref)) == b"data"
    with pytest.raises(AlreadyExists):
        far.put("lake.json", b"", mode="create")
    store.put(ref.path, b"other")
    with pytest.raises(CorruptObject):
        Lake(far).objects.get(ref)
