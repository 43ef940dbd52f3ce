"""The collection of garbage: what goes, what stays, and what happens when a writer comes in the middle."""

import dataclasses
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from dataplane import Lake, journal, sweeps
from dataplane.checkpoint import Checkpoints, Progress, Trained
from dataplane.errors import CommitConflict, CorruptObject, InvalidArgument, NotFound, PermissionDenied, StoreUnavailable
from dataplane.journal import Journal
from dataplane.objects import Objects
from dataplane.refs import Digest, ref_to_json
from dataplane.store import WrapperStore, open_store
from dataplane.sweeps import Watch, announcements, sweep_body
from dataplane.testing import Crashed, CrashStore, Fault, FaultStore
from dataplane.upkeep import expire, gc, rm, verify_lake
from tests import make


@pytest.fixture(params=["folder", "memory", "s3"])
def lake(request, tmp_path):
    urls = {
        "folder": lambda: str(tmp_path / "lake"),
        "memory": lambda: f"memory://gc-{uuid.uuid4().hex}",
        "s3": lambda: request.getfixturevalue("s3").url(),
    }
    return Lake.init(urls[request.param]())


@pytest.fixture
def local(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


def objects(lake):
    return {meta["path"] for chunk in lake.store.list("objects") for meta in chunk}


def run(lake, name="first", version="numbers@1", **parts):
    """A checkpoint that names a version."""
    found = lake.catalog.version(version)
    progress = Progress(1, 1, 10, Trained(found.name, found.number, found.id), {}, {}, {}, {}, [])
    return Checkpoints(lake, name).save(parts or {"model": b"weights"}, progress)


# ------------------------------------------------------------------ what goes and what stays


def test_what_is_named_stays_and_the_rest_goes(lake):
    make.dataset(lake, "numbers", train=(4, 3))
    run(lake)
    model = lake.objects.put(b"graph", suffix=".json")
    lake.log("models", "digits").append(lambda _: {"network": ref_to_json(model)})
    named = objects(lake)
    garbage = [lake.objects.put(b"left over %d" % n, suffix=".bin") for n in range(5)]
    lake.store.put("objects/README", b"not ours")
    dry = gc(lake, grace_seconds=0, dry_run=True)
    assert (dry.objects, dry.bytes, dry.dry_run) == (5, sum(ref.size for ref in garbage), True)
    assert objects(lake) >= {ref.path for ref in garbage}
    report = gc(lake, grace_seconds=0)
    assert (report.objects, report.bytes, report.kept_objects) == (5, dry.bytes, len(named))
    assert objects(lake) == named | {"objects/README"}
    assert verify_lake(lake).ok
    assert gc(lake, grace_seconds=0).objects == 0


def test_what_is_young_stays(lake):
    lake.objects.put(b"left over", suffix=".bin")
    report = gc(lake)
    assert (report.objects, report.young_objects, report.young_bytes) == (0, 1, 9)
    assert len(objects(lake)) == 1


def test_a_dry_run_writes_nothing(local):
    make.dataset(local)
    local.objects.put(b"left over", suffix=".bin")
    before = sorted(local.store.root.rglob("*"))
    gc(local, grace_seconds=0, dry_run=True)
    assert sorted(local.store.root.rglob("*")) == before


def test_expired_versions_go_but_not_what_others_share(lake):
    make.dataset(lake, "numbers", train=(4,))
    make.dataset(lake, "numbers", train=(4, 3))
    first = set(referenced_paths(lake, "numbers@1"))
    expire(lake, "numbers", keep_last=1)
    gc(lake, grace_seconds=0)
    left = objects(lake)
    assert left == set(referenced_paths(lake, "numbers"))
    assert first - left
    assert verify_lake(lake).ok
    assert [sample.key for sample in lake.dataset("numbers")["train"]]


def test_a_removed_dataset_goes(lake):
    make.dataset(lake, "numbers")
    make.dataset(lake, "others", train=(5,))
    rm(lake, "numbers")
    gc(lake, grace_seconds=0)
    assert objects(lake) == set(referenced_paths(lake, "others"))


def test_a_version_that_was_expired_just_now_stays_for_its_readers(lake):
    make.dataset(lake, "numbers", train=(4,))
    make.dataset(lake, "numbers", train=(5,))
    expire(lake, "numbers", keep_last=1)
    before = objects(lake)
    report = gc(lake, grace_seconds=3600)
    assert objects(lake) == before
    assert (report.objects, report.young_objects) == (0, 0)


@pytest.mark.parametrize("kind", ["run", "model"])
def test_what_a_run_or_model_names_stays_though_it_is_removed(local, kind):
    lake = local
    version = make.dataset(lake, "numbers", train=(4,))
    if kind == "run":
        run(lake)
    else:
        body = {"dataset": {"name": "numbers", "version": 1, "id": version.id}}
        lake.log("models", "first").append(lambda _: body)
    named = objects(lake)
    assert rm(lake, "numbers").kept[0].reason == f"{kind} first"
    assert gc(lake, grace_seconds=0).held == {"numbers@1": f"{kind} first"}
    assert objects(lake) == named


def test_a_version_of_another_lake_with_the_same_name_holds_nothing(local):
    make.dataset(local, "numbers", train=(4,))
    local.log("models", "first").append(lambda _: {"dataset": {"name": "numbers", "version": 1, "id": "of another lake"}})
    rm(local, "numbers")
    assert gc(local, grace_seconds=0).held == {}
    assert objects(local) == set()


def test_regardless_of_runs(local):
    make.dataset(local, "numbers", train=(4,))
    checkpoint = run(local)
    rm(local, "numbers", keep_used=False)
    gc(local, grace_seconds=0)
    assert objects(local) == {checkpoint.ranks[0]["model"].path}


def test_a_tag_that_came_at_the_same_moment_holds_what_it_names(local):
    """A tag is made between the look for tags and the commit of an expire."""
    for count in (4, 5):
        make.dataset(local, "numbers", train=(count,))
    before = objects(local)
    local.catalog.tag_log("numbers", "late").append(lambda _: {"version": 1})
    expire(local, "numbers", keep_last=1, keep_tagged=True)
    assert local.catalog.numbers("numbers") == [1, 2]
    expire(local, "numbers", keep_last=1, keep_tagged=False)
    gc(local, grace_seconds=0)
    assert objects(local) < before


@pytest.mark.parametrize("what", ["commit", "lost", "table"])
def test_nothing_is_deleted_where_something_cannot_be_read(local, what):
    for count in (4, 5, 6):
        version = make.dataset(local, "numbers", train=(count,))
    local.objects.put(b"left over", suffix=".bin")
    path = {
        "commit": local.catalog.log("numbers").path(2),
        "lost": local.catalog.log("numbers").path(2),
        "table": version.parts[0].shards.path,
    }
    if what == "lost":
        local.store.delete(path[what])
    else:
        local.store.put(path[what], b"damaged")
    before = objects(local)
    with pytest.raises(CorruptObject):
        gc(local, grace_seconds=0)
    assert objects(local) == before


def test_arguments(local):
    for wrong in ({"grace_seconds": -1}, {"journal_days": -1}):
        with pytest.raises(InvalidArgument):
            gc(local, **wrong)


# ------------------------------------------------------------------ journals and litter


def dead_journal(lake, monkeypatch):
    """The journal of a writer that has died after it finished a shard."""
    mine = Journal(lake.store, "numbers")
    mine.add(make.finished(lake, "train", [1, 2]))
    monkeypatch.setattr(journal, "started", lambda _: "another boot/1")
    return mine.id


def test_a_journal_keeps_what_it_names(lake, monkeypatch):
    with Journal(lake.store, "numbers") as mine:
        mine.add(make.finished(lake, "train", [1, 2]))
        named = objects(lake)
        gc(lake, grace_seconds=0, journal_days=0)
        assert objects(lake) == named
    gc(lake, grace_seconds=0)  # it said that it ended, but the next run may go on from it
    assert objects(lake) == named
    assert len(journal.leftovers(lake.store, "numbers")) == 1


def test_a_journal_of_long_ago_goes(lake, monkeypatch):
    dead_journal(lake, monkeypatch)
    assert gc(lake, grace_seconds=0, journal_days=0, dry_run=True).journals == 1
    assert gc(lake, grace_seconds=0, journal_days=0).journals == 1
    assert objects(lake) == set()
    assert journal.leftovers(lake.store, "numbers") == []
    assert journal.writers(open_store(lake.url)) == [] or lake.url.startswith("/")


def test_a_claimed_journal_is_not_retired(local, monkeypatch):
    writer = dead_journal(local, monkeypatch)
    real = journal.stale

    def stale(*arguments, **options):
        assert journal.claim(local.store, writer)  # another run takes over while the collector makes up its mind
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "stale", stale)
        assert not journal.retire(local.store, writer, now=datetime.now(UTC), keep=timedelta(0))
    assert len(journal.leftovers(local.store, "numbers")[0].finished) == 1


def test_a_retired_journal_is_not_claimed(local, monkeypatch):
    writer = dead_journal(local, monkeypatch)
    monkeypatch.setattr(journal, "remove", lambda *_: None)  # killed before it came to that
    assert journal.retire(local.store, writer, now=datetime.now(UTC), keep=timedelta(0))
    assert not journal.claim(local.store, writer)
    assert journal.leftovers(local.store, "numbers") == []


def test_what_a_silent_writer_on_another_machine_names_stays(local, monkeypatch):
    """Its clock may be wrong; what it put a moment ago by the store's clock, it did."""
    with monkeypatch.context() as patch:
        patch.setattr("dataplane.process.socket.gethostname", lambda: "elsewhere")
        mine = Journal(local.store, "numbers")
        mine.add(make.finished(local, "train", [1, 2]))
    named = objects(local)
    monkeypatch.setattr(
        "dataplane.log.datetime", type("Slow", (datetime,), {"now": classmethod(lambda cls, zone: datetime(2020, 1, 1, tzinfo=zone))})
    )
    mine._append({"type": "beat"})
    assert gc(local, grace_seconds=0, journal_days=0).objects == 0
    assert objects(local) == named


def test_litter(local):
    import os

    root = local.store.root
    for path in (".tmp/abandoned", ".tmp/fresh", "writers/.probe-1", "writers/.probe-2", "writers/numbers-1/x"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    (root / "writers/numbers-1/x").unlink()
    (root / "writers/numbers-2").mkdir()
    for path in (".tmp/abandoned", "writers/.probe-1", "writers/numbers-1"):
        os.utime(root / path, (1e9, 1e9))
    assert gc(local, dry_run=True).litter == 3
    assert gc(local).litter == 3
    left = {path.relative_to(root).as_posix() for folder in (".tmp", "writers") for path in (root / folder).iterdir()}
    assert left == {".tmp/fresh", "writers/.probe-2", "writers/numbers-2"}


# ------------------------------------------------------------------ a writer comes in the middle


class At(WrapperStore):
    """Calls `do` once, at the first call of `verb` on a path that starts with `prefix`: before it is carried out, or after."""

    def __init__(self, inner, verb, prefix, do, after=False):
        super().__init__(inner)
        self.verb, self.prefix, self.do, self.after = verb, prefix, do, after

    def _at(self, verb, path, call):
        mine = verb == self.verb and path.startswith(self.prefix) and self.do is not None
        if not mine:
            return call()
        do, self.do = self.do, None
        if not self.after:
            do()
        result = call()
        if self.after:
            do()
        return result

    def put(self, path, file, **options):
        return self._at("put", path, lambda: self.inner.put(path, file, **options))

    def head(self, path):
        return self._at("head", path, lambda: self.inner.head(path))

    def delete(self, paths):
        wanted = [paths] if isinstance(paths, str) else list(paths)
        return self._at("delete", wanted[0] if wanted else "", lambda: self.inner.delete(wanted))


@pytest.fixture
def ages(monkeypatch):
    """Objects are old after a moment."""
    monkeypatch.setattr(sweeps, "YOUNG_SECONDS", 0.0)
    monkeypatch.setattr("dataplane.upkeep.collector._COARSE", timedelta(0))


GRACE = 0.05


def aged():
    time.sleep(2 * GRACE)


def commit_reusing(lake, data):
    """A writer that stores bytes that lie there already, and commits them."""
    ref = lake.objects.put(data, suffix=".bin")
    lake.log("runs", "writer").append(lambda _: {"state": ref_to_json(ref)})
    return ref


MOMENTS = [
    ("put", "gc/", False),
    ("put", "gc/", True),
    ("head", "objects/", False),
    ("head", "objects/", True),
    ("delete", "objects/", False),
]


@pytest.mark.parametrize(("verb", "prefix", "after"), MOMENTS)
def test_a_writer_reuses_an_object_that_is_being_collected(local, ages, verb, prefix, after):
    """At each moment of the collection the writer starts, and runs as far as it will: to its end, or till it waits for the collector."""
    ref = local.objects.put(b"wanted again", suffix=".bin")
    aged()
    writer = threading.Thread(target=lambda: commit_reusing(Lake(local.url), b"wanted again"))

    def start():
        writer.start()
        writer.join(0.3)

    report = gc(Lake(At(local.store, verb, prefix, start, after)), grace_seconds=GRACE)
    writer.join(30)
    assert not writer.is_alive()
    assert local.objects.has(ref)
    assert verify_lake(local).ok
    assert report.objects <= 1


WRITER = [
    ("put", "objects/", False),
    ("put", "objects/", True),
    ("head", "objects/", True),
    ("head", "gc/", False),
    ("head", "gc/", True),
    ("put", "runs/", False),
]


@pytest.mark.parametrize(("verb", "prefix", "after"), WRITER)
def test_a_whole_collection_in_the_middle_of_a_writer(local, ages, verb, prefix, after):
    """At each moment of the writer a collection runs from beginning to end."""
    local.objects.put(b"wanted again", suffix=".bin")
    aged()
    writer = Lake(At(local.store, verb, prefix, lambda: gc(local, grace_seconds=GRACE), after))
    ref = commit_reusing(writer, b"wanted again")
    assert local.objects.has(ref)
    assert verify_lake(local).ok


def test_without_looking_at_the_announcements_it_would_be_lost(local, ages, monkeypatch):
    """That the tests above can fail."""
    monkeypatch.setattr(Watch, "passed", lambda *_: None)
    ref = local.objects.put(b"wanted again", suffix=".bin")
    aged()
    writer = Lake(local.url)
    gc(Lake(At(local.store, "delete", "objects/", lambda: commit_reusing(writer, b"wanted again"))), grace_seconds=GRACE)
    assert not local.objects.has(ref)


def test_a_writer_takes_long_between_its_objects_and_its_commit(local, ages):
    ref = local.objects.put(b"from another process", suffix=".bin")
    aged()
    make.dataset(local, "numbers", train=(2,))

    def change(newest):
        return make.change(newest.parts, [], bad={"count": 0, "report": ref_to_json(ref)})

    before = local.store.head(ref.path)["last_modified"]
    Lake(local.url).catalog.commit("numbers", change)
    assert local.store.head(ref.path)["last_modified"] > before


def test_what_is_gone_is_not_committed(local):
    ref = local.objects.put(b"collected", suffix=".bin")
    local.store.delete(ref.path)
    with pytest.raises(NotFound, match="a commit was to name it: run the same command again"):
        Lake(local.url).catalog.commit("numbers", lambda _: make.change([], [], bad={"report": ref_to_json(ref)}))


def test_a_parent_that_was_expired_cannot_be_cloned(local):
    for count in (4, 5):
        make.dataset(local, "numbers", train=(count,))
    parent = local.catalog.version("numbers@1")
    expire(local, "numbers", keep_last=1)
    from dataclasses import replace

    clone = replace(make.change(parent.parts, []), parents=("numbers@1",))
    with pytest.raises(NotFound, match="numbers@1 was expired by numbers@3"):
        local.catalog.commit("mine", lambda _: clone)
    again = replace(make.change(local.catalog.version("numbers").parts, []), parents=("numbers@2",))
    assert local.catalog.commit("mine", lambda _: again).lineage["parents"] == ["numbers@2"]


# ------------------------------------------------------------------ collectors


def test_two_collectors(local):
    local.objects.put(b"left over", suffix=".bin")
    announcements(local.store).append(lambda _: sweep_body("another", ["ab" * 32]))
    with pytest.raises(CommitConflict, match=r"another collection is at work .* \(process \d+ on "):
        gc(local, grace_seconds=0)
    assert len(objects(local)) == 1
    announcements(local.store).append(lambda _: {"type": "end", "owner": "another"})
    assert gc(local, grace_seconds=0).objects == 1


def test_a_killed_collection_is_finished_by_the_next(local, monkeypatch):
    monkeypatch.setattr("dataplane.upkeep.collector._BATCH", 2)
    make.dataset(local)
    named = objects(local)
    at = 0
    while True:
        for number in range(5):
            local.objects.put(b"left over %d" % number, suffix=".bin")
        at += 3
        dying = CrashStore(local.store, at, "after")
        with monkeypatch.context() as patch:
            patch.setattr(sweeps.Process, "gone", lambda _: True)  # the process of a killed collector is
            patch.setattr(sweeps, "_SETTLE_SECONDS", 0.0)
            try:
                gc(Lake(dying), grace_seconds=0)
            except Crashed:
                pass
            assert objects(local) >= named
            if not dying.crashed:
                break
            gc(local, grace_seconds=0)
            assert objects(local) == named
    assert at > 30


def test_a_collection_whose_end_could_not_be_told_does_not_block_the_next_of_its_process(local, monkeypatch):
    monkeypatch.setattr("dataplane.log._TRIES", 2)
    for number in range(2):
        local.objects.put(b"left over %d" % number, suffix=".bin")
        broken = FaultStore(local.store, [Fault("put", "unavailable", times=9, path="gc/log", skip=1)])
        report = gc(Lake(broken), grace_seconds=0)
        assert (report.objects, broken.left) == (1, 7)
        assert announcements(local.store).last().body["type"] == "sweep"
    monkeypatch.setattr("dataplane.upkeep.collector._ended", set())  # another process does not know, and this one lives
    local.objects.put(b"left over", suffix=".bin")
    with pytest.raises(CommitConflict):
        gc(local, grace_seconds=0)


def test_a_collection_that_was_interrupted_while_it_told_its_end_does_not_block_the_next(local):
    def interrupt():
        raise KeyboardInterrupt

    local.objects.put(b"left over", suffix=".bin")
    ending = At(local.store, "delete", "objects/", lambda: None, True)
    ending.put = lambda path, file, **options: interrupt() if ending.do is None else local.store.put(path, file, **options)
    with pytest.raises(KeyboardInterrupt):
        gc(Lake(ending), grace_seconds=0)
    assert announcements(local.store).last().body["type"] == "sweep"
    local.objects.put(b"another", suffix=".bin")
    assert gc(local, grace_seconds=0).objects == 1
    assert announcements(local.store).last().body["type"] == "end"


def test_what_a_delete_got_no_answer_about_is_in_danger_though_its_process_is_gone(local, monkeypatch):
    """The request may be on its way still. A writer that goes on before it arrives loses what it relies on."""
    monkeypatch.setattr(sweeps, "_SETTLE_SECONDS", 0.0)
    dead = dataclasses.replace(sweeps.Process.own(), pid=2**22 + 1)
    ref = local.objects.put(b"left over", suffix=".bin")
    other = local.objects.put(b"left over too", suffix=".bin")
    silent = FaultStore(local.store, [Fault("delete", "timeout", path="objects/")])
    with monkeypatch.context() as patch:
        patch.setattr(sweeps.Process, "own", lambda: dead)
        with pytest.raises(StoreUnavailable):
            gc(Lake(silent), grace_seconds=0)
    assert dead.gone()
    watch = sweeps.Watch(local.store)
    for _ in range(3):
        assert watch.newest().threatens(ref.hex)
        assert watch.newest().threatens(other.hex)
        time.sleep(0.01)
    with pytest.raises(CommitConflict, match="10 minutes after it was cut off"):
        gc(local, grace_seconds=0)
    later = sweeps.StoreClock(local.store).now() + timedelta(seconds=sweeps.LEASE_SECONDS + 1)
    monkeypatch.setattr(sweeps.StoreClock, "now", lambda _: later)
    assert gc(local, grace_seconds=0).objects == 2


def test_a_delete_that_was_refused_is_over(local):
    def refuse():
        raise PermissionDenied("no deletes here")

    ref = local.objects.put(b"left over", suffix=".bin")
    with pytest.raises(PermissionDenied):
        gc(Lake(At(local.store, "delete", "objects/", refuse)), grace_seconds=0)
    assert not sweeps.Watch(local.store).newest().threatens(ref.hex)
    assert gc(local, grace_seconds=0).objects == 1


def test_the_next_collection_waits_for_the_last_request_of_a_killed_one(local, monkeypatch):
    """What it announces frees the writers that wait."""
    monkeypatch.setattr(sweeps, "_SETTLE_SECONDS", 0.3)
    dead = dataclasses.replace(sweeps.Process.own(), pid=2**22 + 1)
    monkeypatch.setattr(sweeps.Process, "own", lambda: dead)
    for name in (b"left over", None):
        announcements(local.store).append(lambda _: sweep_body("dead", ["ab" * 32]))
        if name:
            local.objects.put(name, suffix=".bin")
        began = time.monotonic()
        assert gc(local, grace_seconds=0).objects == (1 if name else 0)
        assert time.monotonic() - began >= 0.3
        assert announcements(local.store).last().body["type"] == "end"


def test_old_announcements_are_trimmed(local, monkeypatch):
    monkeypatch.setattr(sweeps, "KEPT_SECONDS", 0.0)
    for number in range(10):
        local.objects.put(b"left over %d" % number, suffix=".bin")
        assert gc(local, grace_seconds=0).objects == 1
    names = [int(meta["path"][-25:-5]) for chunk in local.store.list("gc/log") for meta in chunk]
    assert (announcements(local.store).newest(), len(names)) == (20, len({1, 3, 7, 15, 17, 18, 19, 20}))
    before = sorted(names)
    gc(local, grace_seconds=0, dry_run=True)
    assert sorted(int(meta["path"][-25:-5]) for chunk in local.store.list("gc/log") for meta in chunk) == before


def test_an_announcement_of_a_dead_collector_blocks_nobody_for_long(local, monkeypatch):
    monkeypatch.setattr(sweeps, "_SETTLE_SECONDS", 0.1)
    monkeypatch.setattr(sweeps.Process, "gone", lambda _: True)
    ref = local.objects.put(b"announced", suffix=".bin")
    announcements(local.store).append(lambda _: sweep_body("dead", [ref.hex]))
    began = time.monotonic()
    assert Objects(local.store).put(b"announced", suffix=".bin") == ref
    assert 0.1 <= time.monotonic() - began < 5


def test_an_announcement_of_long_ago_blocks_nobody(local, monkeypatch):
    ref = local.objects.put(b"announced", suffix=".bin")
    announcements(local.store).append(lambda _: sweep_body("elsewhere", [ref.hex]))
    monkeypatch.setattr(sweeps, "LEASE_SECONDS", 0.0)
    assert Objects(local.store).put(b"announced", suffix=".bin") == ref


def test_an_announcement_blocks_only_what_it_names(local):
    announcements(local.store).append(lambda _: sweep_body("alive", ["ab" * 32]))
    assert Objects(local.store).has(Objects(local.store).put(b"another", suffix=".bin"))


def referenced_paths(lake, spec):
    dataset = lake.dataset(spec)
    for part, shards in dataset.parts:
        yield part.shards.path
        yield part.metadata.path
        yield from (ref.path for ref in shards.refs() if isinstance(ref, Digest))


def test_shards_that_nothing_is_wanted_of_go(local):
    one, two = make.finished(local, "train", range(4)), make.finished(local, "train", range(20, 23))
    rows = [one.shard.without(range(4)), two.shard]
    part = make.part(local, [type(one)(row, each.metadata) for row, each in zip(rows, (one, two), strict=True)])
    local.catalog.commit("odd", lambda _: make.change([part], rows))
    gc(local, grace_seconds=0)
    assert not local.objects.has(one.shard.ref)
    assert local.objects.has(two.shard.ref)
    assert verify_lake(local, deep=True).problems == []
