"""Every command that changes a lake, killed at every call it makes of the store: nothing committed is lost, and run again it completes.

The table of commands is `tests/mutations.py`; `python -m tests.mutations` prints how many points there are of each.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import uuid
from contextlib import suppress

import pytest

from dataplane import Lake
from dataplane.errors import NotFound
from dataplane.store import open_store
from dataplane.testing import Crashed, CrashStore, Point, crash_points
from dataplane.testing.recording import Call
from tests.mutations import MUTATIONS, Trial, dump, refill, run_and_die, write_sources

SOAK = bool(os.environ.get("DATAPLANE_SOAK"))
MANY = 20  # calls: of commands that make more, the short form tries about as many
SMALL = [mutation for mutation in MUTATIONS if mutation.name in {"init", "checkpoint"}]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_sources(tmp_path_factory.mktemp("sources"))


def report(record_property, mutation, tried):
    """The counts, for `pytest -rA` and the XML of a run."""
    print(f"{mutation}: {tried.calls} calls, {len(tried)} points {tried.events}, {tried.failed} ended in an error")
    record_property("points", len(tried))
    for event, count in tried.events.items():
        record_property(event, count)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_killed_at_every_call(mutation, files, record_property):
    trial = Trial(mutation, files)
    every = max(1, round(trial.calls / MANY))
    tried = trial.killed(every)
    report(record_property, mutation, tried)
    assert tried.events["killed before"] == len(range(0, tried.calls, every))
    assert tried.events["killed after"] >= 1
    assert tried.failed == 0


@pytest.mark.parametrize("mutation", SMALL, ids=str)
def test_killed_at_every_call_on_s3(mutation, files, s3):
    assert len(Trial(mutation, files, open_store(s3.url())).killed()) > 5


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="the long form runs in make soak (DATAPLANE_SOAK=1)")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("place", ["memory", "folder", "s3"])
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_killed_at_every_call_anywhere(mutation, place, files, request, tmp_path):
    urls = {"memory": lambda: None, "folder": lambda: str(tmp_path / "lake"), "s3": lambda: request.getfixturevalue("s3").url()}
    url = urls[place]()
    tried = Trial(mutation, files, open_store(url) if url else None).killed()
    assert tried.events["killed before"] == tried.calls


def kill_for_real(trial, url, calls, points):
    """The command in processes of their own, each killed by SIGKILL at one of `points`. How many were killed."""
    spawn = multiprocessing.get_context("spawn")
    killed = 0
    for at, when in points:
        store = trial.setup()
        process = spawn.Process(target=run_and_die, args=(trial.mutation.name, url, trial.files, at, when))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, f"exit code {process.exitcode} at call {at} of {calls}"
        killed += 1
        trial.check(store, Point(at, Call("any", ""), f"killed {when}"))
    return killed


def trial_in_a_folder(name, files, folder):
    mutation = next(each for each in MUTATIONS if each.name == name)
    url = str(folder / "lake")
    trial = Trial(mutation, files, open_store(url))
    return trial, url, trial.calls


def test_killed_for_real(files, tmp_path):
    """SIGKILL of a process of its own, in the middle and right after the last write of it all."""
    trial, url, calls = trial_in_a_folder("ingest again, files changed", files, tmp_path)
    assert kill_for_real(trial, url, calls, [(calls // 2, "before"), (calls - 8, "after"), (calls, "before")]) == 3


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="the long form runs in make soak (DATAPLANE_SOAK=1)")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_killed_for_real_often(mutation, files, tmp_path):
    trial, url, calls = trial_in_a_folder(mutation.name, files, tmp_path)
    points = [(at, when) for at in range(1, calls + 1, max(1, calls // 12)) for when in ("before", "after")]
    assert kill_for_real(trial, url, calls, points) >= min(6, calls)


# ------------------------------------------------------------------ the kit itself


@pytest.fixture
def store():
    return open_store(f"memory://{uuid.uuid4().hex}")


def test_nothing_after_the_death_reaches_the_store(store):
    dying = CrashStore(store, 2)
    dying.put("a", b"1")
    with pytest.raises(Crashed, match="put b"):
        dying.put("b", b"2")
    for tidy in (lambda: dying.delete("a"), lambda: dying.put("c", b""), lambda: list(dying.list()), lambda: dying.head("a")):
        with pytest.raises(Crashed):
            tidy()
    assert dump(store) == {"a": b"1"}
    assert (dying.calls, dying.last, dying.crashed) == (2, Call("put", "b"), True)


def test_after_means_carried_out(store):
    with pytest.raises(Crashed):
        CrashStore(store, 1, "after").put("a", b"1")
    assert dump(store) == {"a": b"1"}


def test_a_delete_of_several_may_end_in_the_middle(store):
    for path in "abc":
        store.put(path, b"")
    with pytest.raises(Crashed):
        CrashStore(store, 2).delete(["a", "b", "c"])
    assert sorted(dump(store)) == ["b", "c"]


def test_no_exception_handler_catches_a_death(store):
    assert not issubclass(Crashed, Exception)
    with pytest.raises(Crashed), suppress(Exception):
        CrashStore(store, 1).get("missing")


def add_two(store):
    """A command as it should not be: two files that belong together, one after the other."""
    store.put("first", b"1")
    store.put("second", b"2")


def both_or_none(store, point):
    assert len(dump(store)) != 1, "half of it"


def clean(store):
    return lambda: refill(store, {})


def test_a_command_that_leaves_a_half_is_found(store):
    with pytest.raises(AssertionError, match="half of it") as caught:
        crash_points(clean(store), add_two, both_or_none)
    assert caught.value.__notes__ == ["the command was disturbed at call 1 (put first): killed after"]


def test_a_command_that_swallows_its_death_is_found(store):
    def stubborn(store):
        try:
            store.put("a", b"")
        except BaseException:
            return

    with pytest.raises(AssertionError, match="went on after its death at call 1"):
        crash_points(clean(store), stubborn, lambda store, point: None)


def test_no_point_is_a_failure(store):
    with pytest.raises(AssertionError, match="at no point: it made 0 calls"):
        crash_points(clean(store), lambda store: None, lambda store, point: None)


def test_the_points_are_told(store):
    seen = []
    tried = crash_points(clean(store), add_two, lambda store, point: seen.append((str(point), sorted(dump(store)))))
    assert seen == [
        ("at call 1 (put first): killed before", []),
        ("at call 1 (put first): killed after", ["first"]),
        ("at call 2 (put second): killed before", ["first"]),
        ("at call 2 (put second): killed after", ["first", "second"]),
    ]
    assert (tried.calls, len(tried), tried.events, tried.failed) == (2, 4, {"killed after": 2, "killed before": 2}, 0)
    assert len(crash_points(clean(store), add_two, lambda store, point: None, every=2)) == 2


def test_reads_between_writes_hide_none(store):
    def look_and_put(store):
        for path in "abc":
            with suppress(NotFound):
                store.head(path)
            store.put(path, b"")

    tried = crash_points(clean(store), look_and_put, lambda store, point: None, every=2)
    assert tried.events == {"killed before": 3, "killed after": 2}
    assert {point.call for point in tried.points if point.event == "killed after"} == {Call("put", "a"), Call("put", "c")}


def test_damage_is_found(files):
    """The check of the runs above can fail: an object that goes missing, a commit that changes, a sample that is another."""
    trial = Trial(next(each for each in MUTATIONS if each.name == "ingest --sync"), files)
    point = Point(1, Call("put", ""), "killed before")
    trial.check(trial.setup(), point)
    store = trial.setup()
    for path in [path for path in dump(store) if path.startswith(("objects/", "datasets/"))]:
        broken = trial.setup()
        broken.delete(path)
        with pytest.raises((AssertionError, NotFound)):
            trial.check(broken, point)
    for expected in ({}, {**trial.expected, "pets": None}):
        trial.expected = expected
        with pytest.raises(AssertionError):
            trial.check(trial.setup(), point)
    assert Lake(store).datasets() == ["pets"]
