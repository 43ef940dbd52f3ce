"""Every command that changes a lake, as a table: what it starts from, and what it does. To add a command, add a row.

`python -m tests.mutations [NAME…]` disturbs them all at every call of the store and prints how many points were tried.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from dataplane import Lake, log, sweeps
from dataplane.adopt import AdoptOptions, adopt
from dataplane.checkpoint import Checkpoints, Progress, Trained, open_model, publish
from dataplane.errors import CorruptObject, DataplaneError, NotALake, NotFound
from dataplane.ingest import IngestOptions, ingest
from dataplane.materialize import MaterializeOptions, materialize
from dataplane.schema import Field, Schema
from dataplane.store import Store, open_store
from dataplane.store.local import LocalStore
from dataplane.testing import CrashStore, Point, RecordingStore, Tried, crash_points, fault_points, sigkill
from dataplane.testing.samples import Made, write_dataset
from dataplane.upkeep import expire, gc, rm, verify_lake
from dataplane.versions import append, clone, split, where
from tests.folders import jpeg, write_folder

TRAINED = Trained("pets", 1, "id-of-the-commit")
LOGS = ("datasets/", "runs/", "models/", "lake.json")  # what is only ever added to


@dataclass(frozen=True)
class Mutation:
    """`before` brings an empty store to where the command starts, `run` is the command; both get a folder of sources too. `repeats`: run
    again after it has committed, it commits again. `says`: run again then, it raises this, saying that it is done. `collects`: it deletes
    what nothing names, so there is nothing else in the end. `mends`: what it starts from is damaged."""

    name: str
    before: Callable[[Store, Path], object]
    run: Callable[[Store, Path], object]
    repeats: bool = False
    says: type[DataplaneError] | None = None
    collects: bool = False
    mends: bool = False

    def __str__(self) -> str:
        return self.name


# ------------------------------------------------------------------ the commands


def write_sources(root: Path) -> Path:
    """The folders that commands read: `first`, `second` with a picture changed, one gone and two new, `tars` with three
    shards, `tables` with two tables."""
    write_folder(root / "first", 6)
    (root / "first" / "cat" / "empty.jpg").touch()
    write_folder(root / "second", 6)
    (root / "second" / "cat" / "00000.jpg").write_bytes(jpeg(100))
    (root / "second" / "dog" / "00001.jpg").unlink()
    write_folder(root / "second", 2, classes=("emu", "dog"), first=6)
    (root / "tables").mkdir()
    for name in "ab":
        rows = "".join(f"{name}{number},{number / 7},{'word' * number}\n" for number in range(8))
        (root / "tables" / f"{name}.csv").write_text(f"id,value,text\n{rows}")
    (root / "tars").mkdir()
    for shard in range(3):
        with tarfile.open(root / "tars" / f"shard-{shard}.tar", "w") as tar:
            for number in range(3 * shard, 3 * shard + 3):
                member = tarfile.TarInfo(f"{number:05d}.jpg")
                member.size = len(jpeg(number))
                tar.addfile(member, io.BytesIO(jpeg(number)))
    return root


def nothing(store: Store, files: Path) -> None:
    """An empty store."""


def lake_only(store: Store, files: Path) -> None:
    Lake.init(store)


def pets(store: Store, files: Path) -> None:
    _ingest(store, files / "first")


def two_versions(store: Store, files: Path) -> None:
    pets(store, files)
    again(store, files)
    Lake(store).catalog.tag("pets", "best", 1)


def one_checkpoint(store: Store, files: Path) -> None:
    Checkpoints(Lake.init(store), "run").save(_parts(1), _progress(1))


def _ingest(store: Store, source: Path, name: str = "pets", **options: Any) -> None:
    settings = IngestOptions("folder", "train=0.5,test=0.5", shard_bytes=4000, workers=1, **options)
    try:
        lake = Lake(store)
    except NotALake:
        lake = Lake.init(store)
    ingest(lake, source, name, options=settings)


def removed(store: Store, files: Path) -> None:
    pets(store, files)
    rm(Lake(store), "pets")


def fresh(store: Store, files: Path) -> None:
    _ingest(store, files / "first")


def again(store: Store, files: Path) -> None:
    _ingest(store, files / "second")


def sync(store: Store, files: Path) -> None:
    _ingest(store, files / "second", sync=True)


def same_again(store: Store, files: Path) -> None:
    """Another dataset of the same shards, which lie in the lake already."""
    _ingest(store, files / "first", "others")


def same_again_old(store: Store, files: Path) -> None:
    """The same, where what is reused is old by any clock: it is written anew, since a collector may be about to take it."""
    with patch.object(sweeps, "YOUNG_SECONDS", -60.0):
        same_again(store, files)


def tables(store: Store, files: Path) -> None:
    ingest(Lake(store), files / "tables", "rows", options=IngestOptions(split="train=0.5,test=0.5", shard_bytes=400, workers=1, key="id"))


def adopt_two(store: Store, files: Path) -> None:
    adopt(Lake.init(store), f"{files}/tars/shard-{{0..1}}.tar", "adopted", options=AdoptOptions(split="train", workers=1))


def adopted_and_removed(store: Store, files: Path) -> None:
    adopt_two(store, files)
    rm(Lake(store), "adopted")


def adopt_all(store: Store, files: Path) -> None:
    adopt(Lake(store), f"{files}/tars/shard-*.tar", "adopted", options=AdoptOptions(split="train", workers=1))


def tag(store: Store, files: Path) -> None:
    Lake(store).catalog.tag("pets", "best", 2)


def _parts(step: int) -> dict[str, bytes]:
    return {"model": b"weights %d" % step, "optimizer": b"momentum %d" % step}


def _progress(step: int) -> Progress:
    return Progress(step, 1, 10 * step, TRAINED, {"epoch": 1}, {"epochs": 3}, {}, {"loss": 0.5}, [{"step": step}])


def save(store: Store, files: Path) -> None:
    """As training does that is told to resume: go on behind the newest checkpoint, up to step 2."""
    checkpoints = Checkpoints(Lake(store), "run")
    step = checkpoints.restore().checkpoint.progress.step
    if step < 2:
        checkpoints.save(_parts(step + 1), _progress(step + 1))


def evaluate(store: Store, files: Path) -> None:
    Checkpoints(Lake(store), "run").evaluated(1, TRAINED, "test", 3, {"accuracy": 0.5})


def publish_model(store: Store, files: Path) -> None:
    lake = Lake(store)
    network, weights = lake.objects.put(b"graph", suffix=".json"), lake.objects.put(b"tensors", suffix=".safetensors")
    publish(
        lake,
        "classifier",
        network=network,
        weights=weights,
        transform=[{"resize": 32}],
        classes=("cat", "dog"),
        run="run",
        checkpoint=1,
        dataset=TRAINED,
        config={},
        metrics={},
    )


def clone_old(store: Store, files: Path) -> None:
    clone(Lake(store), "pets@1", "mine")


def two_datasets(store: Store, files: Path) -> None:
    """`pets` in two versions, and `mine`, the first of them."""
    two_versions(store, files)
    clone_old(store, files)


def append_other(store: Store, files: Path) -> None:
    append(Lake(store), "mine", "pets@2", on_conflict="replace")


def seven_parts(store: Store, files: Path) -> None:
    """`all` of seven parts, and `b7`, which makes it eight."""
    lake = Lake.init(store)
    for number in range(8):
        made = [Made(f"{number}/{i}", {"txt": b"%d" % (10 * number + i)}) for i in range(2)]
        write_dataset(lake, f"b{number}", [("train", made)], schema=Schema((Field("txt", "bytes"),)))
    for number in range(7):
        append(lake, "all", f"b{number}")
        rm(lake, f"b{number}")


def append_and_merge(store: Store, files: Path) -> None:
    append(Lake(store), "all", "b7")


def where_label(store: Store, files: Path) -> None:
    where(Lake(store), "pets", "label = 'dog'", to="dogs")


def split_anew(store: Store, files: Path) -> None:
    split(Lake(store), "pets", "train=0.4,val=0.3,test=0.3", by="stratified", seed=1)


def pixels(store: Store, files: Path) -> None:
    materialize(Lake(store), "pets", options=MaterializeOptions(size=16, shard_bytes=4000, workers=1), to="pixels")


def pixels_of_before(store: Store, files: Path) -> None:
    """Pixels of the first version, where there is a second one with a picture changed, one gone and two new."""
    two_versions(store, files)
    materialize(Lake(store), "pets@1", options=MaterializeOptions(size=16, shard_bytes=4000, workers=1), to="pixels")


def remove_dataset(store: Store, files: Path) -> None:
    rm(Lake(store), "mine")


def remove_version(store: Store, files: Path) -> None:
    rm(Lake(store), "mine@1")


def three_versions(store: Store, files: Path) -> None:
    two_datasets(store, files)
    append_other(store, files)


def expire_old(store: Store, files: Path) -> None:
    expire(Lake(store), "mine", keep_last=1)


def garbage(store: Store, files: Path) -> None:
    """Objects that only expired and removed versions named, and some that nothing ever did."""
    lake = Lake.init(store)
    for number, name in enumerate(("kept", "kept", "gone")):
        write_dataset(lake, name, [("train", [Made("a", {"txt": b"%d" % number})])], schema=Schema((Field("txt", "bytes"),)))
    expire(lake, "kept", keep_last=1)
    rm(lake, "gone")
    lake.objects.put(b"nobody's", suffix=".bin")
    for number in range(1, 7):
        store.put(sweeps.announcements(store).path(number), log._encode(str(number), {"type": "end", "owner": "long ago"}))


def collect(store: Store, files: Path) -> None:
    """A while after whatever happened before: no announcement holds any more. They are trimmed right away."""
    later = sweeps.StoreClock(store).now() + timedelta(seconds=2 * sweeps.LEASE_SECONDS)
    with patch.object(sweeps.StoreClock, "now", lambda _: later), patch.object(sweeps, "KEPT_SECONDS", 0.0):
        gc(Lake(store), grace_seconds=0)


def damaged(store: Store, files: Path) -> None:
    """One object is gone, another holds something else; `files/copy` has them all."""
    pets(store, files)
    copy = LocalStore(files / "copy")
    if not list(copy.list()):
        refill(copy, dump(store))
    refill(store, dump(copy))
    gone, wrong = sorted(objects(store))[:2]
    store.delete(gone)
    store.put(wrong, b"something else")


def repair(store: Store, files: Path) -> None:
    report = verify_lake(Lake(store), repair=str(files / "copy"))
    if not report.ok:  # as the command line does it
        raise CorruptObject(str(report.problems))


MUTATIONS = (
    Mutation("init", nothing, lake_only),
    Mutation("ingest, no lake yet", nothing, fresh),
    Mutation("ingest again, files changed", pets, again),
    Mutation("ingest --sync", pets, sync),
    Mutation("ingest of tables", lake_only, tables),
    Mutation("ingest, objects there", pets, same_again),
    Mutation("ingest, objects old", pets, same_again_old),
    Mutation("ingest, removed before", removed, fresh),
    Mutation("adopt, no lake yet", nothing, adopt_two),
    Mutation("adopt, one more", adopt_two, adopt_all),
    Mutation("adopt, removed before", adopted_and_removed, adopt_two),
    Mutation("tag, moved", two_versions, tag, repeats=True),
    Mutation("clone", two_versions, clone_old),
    Mutation("append, some replaced", two_datasets, append_other),
    Mutation("append, parts merged", seven_parts, append_and_merge),
    Mutation("where, to a view", two_versions, where_label),
    Mutation("split", pets, split_anew),
    Mutation("materialize", pets, pixels),
    Mutation("materialize, brought up to date", pixels_of_before, pixels),
    Mutation("rm of a dataset", two_datasets, remove_dataset, says=NotFound),
    Mutation("rm of a version", three_versions, remove_version, says=NotFound),
    Mutation("expire", three_versions, expire_old),
    Mutation("verify --repair", damaged, repair, mends=True),
    Mutation("gc", garbage, collect, collects=True),
    Mutation("checkpoint", one_checkpoint, save),
    Mutation("evaluate", one_checkpoint, evaluate, repeats=True),
    Mutation("publish", one_checkpoint, publish_model, repeats=True),
)


# ------------------------------------------------------------------ what a store holds


def dump(store: Store) -> dict[str, bytes]:
    """Every object by its path."""
    return {meta["path"]: bytes(memoryview(store.get(meta["path"]).buffer())) for chunk in store.list() for meta in chunk}


def refill(store: Store, objects: Mapping[str, bytes]) -> Store:
    """`store`, holding just these objects."""
    store.delete([meta["path"] for chunk in store.list() for meta in chunk])
    if isinstance(
        store, LocalStore
    ):  # each trial leaves a writer's folder, and a command calls the store for each of them: it would never end
        for folder in (store.root / "writers").glob("*"):
            folder.rmdir()
    for path, data in objects.items():
        store.put(path, data)
    return store


def state(store: Store) -> dict[str, Any]:
    """What a user finds in a lake: the newest version of each dataset, what tags mean, the newest checkpoints, models and evaluations."""
    lake = Lake(store)
    found: dict[str, Any] = {}
    for name in lake.datasets():
        for spec in (name, *(f"{name}@{tagged}" for tagged in lake.catalog.tags(name))):
            found[spec] = _contents(lake, spec)
    for name in lake.names("runs"):
        checkpoints = Checkpoints(lake, name)
        restored = checkpoints.restore()
        found[f"run {name}"] = (
            restored.checkpoint.progress,
            [{part: bytes(data) for part, data in rank.items()} for rank in restored.ranks],
            {(item.checkpoint, item.split, item.samples, str(item.metrics)) for item in checkpoints.evaluations()},
        )
    for name in lake.names("models"):
        model = open_model(lake, name)
        found[f"model {name}"] = (model.network, model.weights, model.classes, bytes(lake.objects.get(model.weights)))
    return found


def _contents(lake: Lake, spec: str) -> Any:
    """Samples of a version by split and key, with their labels, and what else it says."""
    dataset = lake.dataset(spec)
    samples = {
        (split, sample.key): {name: _plain(value) for name, value in sample.fields.items()}
        for split in dataset.splits
        for sample in dataset[split]
    }
    labels = dataset.metadata(["key", "label"]).sort_by("key").to_pydict() if samples else {}
    assert sum(dataset.version.splits[split].samples for split in dataset.splits) == len(samples)
    bad = sorted(item["source"] for item in dataset.version.bad.get("samples", ()))
    return samples, labels, dataset.schema.classes, bad


def _plain(value: Any) -> Any:
    return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def commits(store: Store) -> int:
    """How many commits there are, of anything."""
    return sum(path.endswith(".json") and path.startswith(LOGS[:3]) for chunk in store.list() for path in (meta["path"] for meta in chunk))


def objects(store: Store) -> set[str]:
    """The paths of the objects."""
    return {meta["path"] for chunk in store.list("objects") for meta in chunk}


def journals(store: Store) -> list[str]:
    """What is left of writers' journals."""
    return [meta["path"] for chunk in store.list("writers") for meta in chunk if "/.probe-" not in meta["path"]]


# ------------------------------------------------------------------ disturbing them


class Trial:
    """A mutation with what it starts from and what comes of it undisturbed, and the check of what a disturbance has left."""

    def __init__(self, mutation: Mutation, files: Path, store: Store | None = None) -> None:
        self.mutation = mutation
        self.files = files
        self.store = store or open_store(f"memory://mutations-{uuid.uuid4().hex}")
        mutation.before(self.store, files)
        self.start = dump(self.store)
        recorded = RecordingStore(self.setup())
        mutation.run(recorded, files)
        self.calls = len(recorded.calls)
        self.expected, self.commits = state(self.store), commits(self.store)
        self.objects = objects(self.store)
        assert dump(self.store) != self.start, f"{mutation} changes nothing"

    def setup(self) -> Store:
        return refill(self.store, self.start)

    def command(self, store: Store) -> None:
        self.mutation.run(store, self.files)

    def check(self, store: Store, point: Point) -> None:
        """Nothing is lost or damaged; a success is the whole result; and the same command completes what was begun."""
        self.check_kept(store)
        if point.error is None and not point.event.startswith("killed"):
            self.check_result(store, again=False)
        try:
            self.command(store)
        except DataplaneError as error:
            if self.mutation.says is None or not isinstance(error, self.mutation.says):
                raise
        self.check_result(store, again=True)
        assert verify_lake(Lake(store)).problems == []
        assert not self.mutation.collects or objects(store) == self.objects
        announced = {meta["path"] for chunk in store.list("gc/log") for meta in chunk}
        log_of_them = sweeps.announcements(store)
        assert log_of_them.path(log_of_them.newest()) == max(announced, default=log_of_them.path(0)), (
            "what is left of the announcements leads astray"
        )
        assert point.event == "stale" or not journals(store)

    def check_kept(self, store: Store) -> None:
        after = dump(store)
        for path, data in self.start.items():
            assert not path.startswith(LOGS) or after.get(path) == data, f"{path} was acknowledged before"
        if "lake.json" in after and not self.mutation.mends:
            assert verify_lake(Lake(store)).problems == []

    def check_result(self, store: Store, *, again: bool) -> None:
        assert state(store) == self.expected
        more = commits(store) - self.commits
        assert more == 0 or (again and self.mutation.repeats and more == 1), f"{more} more commits than undisturbed"

    def killed(self, every: int = 1) -> Tried:
        """Kill the command at each call."""
        return crash_points(self.setup, self.command, self.check, every=every)

    def faulted(self, every: int = 1, kinds: Iterable[str] | None = None) -> Tried:
        """Let each call go wrong in each way."""
        return fault_points(self.setup, self.command, self.check, every=every, kinds=kinds)


def run_and_die(name: str, url: str, files: Path, at: int, when: Any) -> None:
    """The command in this process, which is killed at a call: for a spawned one."""
    mutation = next(each for each in MUTATIONS if each.name == name)
    mutation.run(CrashStore(open_store(url), at, when, die=sigkill), files)


def main() -> None:
    """Every point of every command, in a lake in memory."""
    every = int(os.environ.get("EVERY", "1"))
    log.time.sleep = lambda _: None  # type: ignore[attr-defined]  # waiting for a store that is well again anyway
    logging.disable()  # damage that was injected is told of in warnings
    totals = [0, 0, 0]
    print(f"{'command':30} {'calls':>6} {'killed':>7} {'faults':>7} {'of them errors':>15} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as folder:
        files = write_sources(Path(folder))
        for mutation in [each for each in MUTATIONS if not sys.argv[1:] or each.name.startswith(tuple(sys.argv[1:]))]:
            began = time.monotonic()
            trial = Trial(mutation, files)
            killed, faulted = trial.killed(every), trial.faulted(every)
            row = (len(killed), len(faulted), faulted.failed)
            totals = [total + value for total, value in zip(totals, row, strict=True)]
            seconds = time.monotonic() - began
            print(f"{mutation.name:30} {killed.calls:6} {row[0]:7} {row[1]:7} {row[2]:15} {seconds:8.1f}", flush=True)
    print(f"{'all':30} {'':6} {totals[0]:7} {totals[1]:7} {totals[2]:15}")


if __name__ == "__main__":
    sys.exit(main())
