"""`materialize` from beginning to end: look at what is there, plan, take over what a killed run left, make shards, commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from dataplane.canonical import canonical_json
from dataplane.catalog import Change, Version, check_name
from dataplane.dataset import Dataset
from dataplane.errors import AlreadyExists, BadSources, CommitConflict, InvalidArgument, NotFound
from dataplane.ingest.badlist import to_commit
from dataplane.ingest.commit import Edit, edit, fields_of, new_parts
from dataplane.ingest.options import Bad, Progress
from dataplane.ingest.pool import do_tasks
from dataplane.ingest.present import Present, load
from dataplane.ingest.resume import is_there
from dataplane.ingest.scratch import scratch
from dataplane.journal import Finished, Journal, claim, leftovers, remove
from dataplane.lake import Lake
from dataplane.manifest import METADATA
from dataplane.materialize.options import FIELD, MaterializeOptions, MaterializeResult
from dataplane.materialize.plan import Task, kept, stamps, take_over, tasks
from dataplane.materialize.task import Context, Done
from dataplane.parts import merged, split_counts
from dataplane.schema import Schema
from dataplane.versions.view import find, origin

__all__ = ["OPERATION", "Watch", "materialize"]

OPERATION: Final = "materialize"
Watch = Callable[[Progress], None]

_SAYS_NOTHING: Final = "expire"  # an operation that leaves the samples as they are


def materialize(
    lake: Lake, spec: str, *, options: MaterializeOptions, to: str | None = None, watch: Watch = lambda _: None
) -> MaterializeResult:
    """Make a dataset of pixels of the pictures of the version `spec`: decoded, upright, resized; uint8 [height, width, 3] in the field
    "npy". All else of the samples stays: keys, labels, classes, splits, metadata, other fields.

    The dataset is `to`, by default the name with the size behind it ("photos-256"). Where it is there and was made of the same dataset in
    the same way, it gets a next version, and only samples that it does not have yet are made. Samples that cannot be decoded are listed in
    the commit and in the result. Killed at any moment, it leaves a valid lake, and the same call finishes the work. `watch` hears of
    progress, in the calling thread.

    Raises `NotFound` where there is no such version, `InvalidArgument` where it has no pictures, `AlreadyExists` where `to` belongs to
    anything else, `BadSources` where no sample is good or, with `strict`, where any is bad, and the errors of the store.
    """
    began = time.monotonic()
    source = find(lake, spec)
    name = check_name(to if to is not None else options.name_for(source.name))
    dataset = Dataset(lake.store, source)
    job = _Job(lake, dataset, name, options, _pictures(dataset, options), watch)
    newest = lake.catalog.newest(name)
    if newest is not None:
        _check_continues(job, newest)
    outcome = _make(job, load(lake, newest))
    return MaterializeResult(
        str(source),
        name,
        outcome.version.number,
        outcome.committed,
        outcome.version.splits,
        outcome.bad,
        outcome.kept,
        outcome.change.added,
        outcome.change.replaced,
        outcome.change.dropped,
        outcome.resumed,
        time.monotonic() - began,
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """What is about to be done. `pictures` are the fields that may hold the picture of a sample."""

    lake: Lake
    dataset: Dataset
    name: str
    options: MaterializeOptions
    pictures: tuple[str, ...]
    watch: Watch

    @property
    def about(self) -> dict[str, Any]:
        """What makes another run the same work, so that it may add to the dataset of this one."""
        return {OPERATION: self.dataset.name, **self.options.parameters}

    @property
    def about_shards(self) -> dict[str, Any]:
        """What makes another run the same work, so that it may take over shards of this one: in them lie ids of classes."""
        return {**self.about, "classes": blake3(canonical_json(list(self.dataset.schema.classes))).hexdigest(16)}

    @property
    def parameters(self) -> dict[str, Any]:
        """What the commit says of how the version was made."""
        told = {name: value for name, value in self.about.items() if name != OPERATION}
        return {**origin(self.dataset.version), **told, "max_pixels": self.options.max_pixels, "shard_bytes": self.options.shard_bytes}


@dataclass(slots=True)
class _Outcome:
    """What has come of it so far."""

    version: Version
    committed: bool
    change: Edit
    bad: tuple[Bad, ...]
    kept: int
    resumed: int


def _pictures(dataset: Dataset, options: MaterializeOptions) -> tuple[str, ...]:
    """The fields that the pictures are in. Raises `InvalidArgument`, `NotFound`."""
    known = {each.name: each for each in dataset.schema.fields}
    chosen = dataset.schema.names("image") if options.field is None else options.fields
    for name in chosen:
        if name not in known:
            raise NotFound(f"{dataset} has no field {name!r}; its fields are {', '.join(known) or 'none'}")
    if not chosen:
        has = ", ".join(map(_described, known.values())) or "none"
        raise InvalidArgument(f"{dataset} has no field of pictures; its fields are {has}; where pictures lie in one, name it (--field)")
    if FIELD in known and FIELD not in chosen:
        raise InvalidArgument(f"{dataset} has a field {FIELD!r} already, where the pixels of {', '.join(chosen)} would go")
    for split in options.splits or ():
        if split not in dataset.splits:
            raise NotFound(f"{dataset} has no split {split!r}; it has {', '.join(dataset.splits)}")
    return tuple(sorted(chosen))


def _described(known: Any) -> str:
    return f"{known.name} ({known})"


def _check_continues(job: _Job, newest: Version) -> None:
    """Raise `AlreadyExists` unless the dataset is one of pixels that were made of the same dataset in the same way."""
    made = next((version for version, _ in job.lake.catalog.history(job.name) if version.lineage["operation"] != _SAYS_NOTHING), newest)
    told = made.lineage["parameters"]
    before = {OPERATION: str(told.get("source", "")).partition("@")[0], **{name: told.get(name) for name in job.options.parameters}}
    classes = newest.schema.classes
    if made.lineage["operation"] != OPERATION or before != job.about:
        raise AlreadyExists(
            f"{job.name!r} is there already: {made} is {_difference(made.lineage['operation'], before, job.about)}; choose another name"
        )
    if job.dataset.schema.classes[: len(classes)] != classes:
        raise AlreadyExists(f"{newest} has other classes than {job.dataset}: their ids lie in its shards; choose another name")


def _difference(operation: str, before: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Why a dataset is none of the pixels that are wanted."""
    if operation != OPERATION:
        return f"no dataset of pixels, it comes from {operation!r}"
    different = [name for name, value in wanted.items() if before.get(name) != value]
    had, asked = (
        ", ".join(f"{'of ' if name == OPERATION else name + '='}{told.get(name)}" for name in different) for told in (before, wanted)
    )
    return f"{had}, and asked for is {asked}"


def _make(job: _Job, present: Present) -> _Outcome:
    tables = _metadata(job)
    wanted = {key: stamp for split, table in tables.items() for key, stamp in stamps(table, split)}
    have = kept(wanted, stamps(present.samples, present.samples.column("split").to_pylist()))
    keys, digests = (present.samples.column(name).to_pylist() for name in ("key", "source_blake3"))
    there = dict(zip(keys, digests, strict=True))
    with _taken_over(job) as (carried, journal):
        finished, resumed = take_over({key: stamp for key, stamp in wanted.items() if key not in have}, carried)
        left = wanted.keys() - have - resumed
        bad: list[Bad] = []
        if left:
            finished += _make_shards(job, tasks(tables, left, job.options), tables, journal(), bad)
        gone = (there.keys() - wanted.keys()) | (there.keys() & {item.source for item in bad})
        drop = {key: there[key] for key in sorted(gone)}
        outcome = _commit(job, present, finished, drop, tuple(sorted(bad, key=lambda item: item.source)))
    outcome.kept, outcome.resumed = len(have), len(resumed)
    return outcome


def _metadata(job: _Job) -> dict[str, Any]:
    """The metadata of the wanted splits, each in the order of the split."""
    found: dict[str, list[Any]] = {split: [] for split in job.dataset.splits if job.options.splits is None or split in job.options.splits}
    for part, shards in job.dataset.parts:
        table = job.dataset.part_metadata(part, shards, None)
        table = table.sort_by([("shard", "ascending"), ("row", "ascending")])
        for split, tables in found.items():
            tables.append(table.filter(pc.equal(table.column("split"), split)))
    return {split: pa.concat_tables(tables, promote_options="permissive") for split, tables in found.items() if tables}


@contextmanager
def _taken_over(job: _Job) -> Iterator[tuple[list[Finished], Callable[[], Journal]]]:
    """Round the work: what dead runs of the same work had finished, and what begins the journal of this one. All journals are removed at
    the end, unless the work fails."""
    store, objects = job.lake.store, job.lake.objects
    old = [leftover for leftover in leftovers(store, job.name) if leftover.about == job.about_shards]
    for leftover in old:
        if not leftover.finished:
            remove(store, leftover.id)
    carried = [item for leftover in old if claim(store, leftover.id) for item in leftover.finished if is_there(objects, item)]
    with ExitStack() as stack:
        begun: list[Journal] = []

        def journal() -> Journal:
            begun.append(stack.enter_context(Journal(store, job.name, about=job.about_shards)))
            return begun[0]

        yield carried, journal
        for mine in begun:
            mine.finish()
    for leftover in old:
        remove(store, leftover.id)


def _make_shards(job: _Job, todo: Sequence[Task], tables: Mapping[str, Any], journal: Journal, bad: list[Bad]) -> list[Finished]:
    total = sum(task.samples for task in todo)
    made = read = 0

    def tick(samples: int, size: int) -> None:
        nonlocal made, read
        made, read = made + samples, read + size
        job.watch(Progress("reading", made, total, made, read))

    tick(0, 0)
    done: dict[int, Finished] = {}
    with scratch() as folder:
        context = Context(job.lake.store, job.dataset.version, job.pictures, job.options, folder)
        light = job.pictures == ("jpg",)  # its decoder, and resizing, let go of the interpreter; those of other formats do not
        with do_tasks(context, todo, tick, workers=job.options.workers, light=light) as results:
            for result in results:
                table = tables[result.task.split].take(pa.array(result.task.rows))
                keys = table.column("key").to_pylist() if result.bad else []
                bad.extend(Bad(keys[place], reason) for place, reason in result.bad)
                if result.shard is not None:
                    done[result.task.number] = Finished(result.shard, _metadata_of(table, result), result.fields)
                    journal.add(done[result.task.number])
    return [done[number] for number in sorted(done)]


def _metadata_of(table: Any, result: Done) -> Any:
    """The metadata of a shard's samples: those of their sources, but for what pixels have of their own."""
    at = table.take(pa.array([item.place for item in result.made], pa.int64()))
    digests = at.column("source_blake3").to_pylist()
    own: dict[str, Any] = {
        "row": np.arange(len(at), dtype=np.int32),
        "width": [item.width for item in result.made],
        "height": [item.height for item in result.made],
        "bytes": [item.size for item in result.made],
        "source_blake3": [digest or item.digest for digest, item in zip(digests, result.made, strict=True)],
    }
    for name, values in own.items():
        column = METADATA.field(name)
        at = at.set_column(at.column_names.index(name), column, pa.array(values, column.type))
    return at.drop_columns(["shard", "split"])


def _commit(job: _Job, present: Present, finished: Sequence[Finished], drop: Mapping[str, bytes], bad: tuple[Bad, ...]) -> _Outcome:
    if bad and job.options.strict:
        raise BadSources(f"{len(bad)} of the samples of {job.dataset} are bad, and strict allows none; nothing was committed", bad)
    objects = job.lake.objects
    state, change = present, Edit()

    def make(newest: Version | None) -> Change | None:
        nonlocal state, change
        if newest is None and present.version is not None:
            raise CommitConflict(f"{job.name} was removed while it was being made; to begin it anew, run the same command again")
        if newest is not None and newest.number != present.number:
            _check_continues(job, newest)
            state = load(job.lake, newest)
        change = edit(state, finished, drop)
        if change.nothing:
            return None
        fields = Schema(state.schema.merged(fields_of(change.finished), ()).fields, job.dataset.schema.classes)
        parts = new_parts(objects, state, change)
        return Change(
            OPERATION,
            job.parameters,
            fields,
            tuple(merged(objects, [part for part, _ in parts])),
            split_counts(parts),
            to_commit(objects, bad),
            parents=(str(job.dataset.version),),
            counts={"added": change.added, "replaced": change.replaced, "dropped": change.dropped, "bad": len(bad)},
        )

    version = None
    if finished or drop:
        job.watch(Progress("committing"))
        version = job.lake.catalog.commit(job.name, make)
    newest = version or state.version
    if newest is None:
        raise BadSources(f"none of the {len(bad)} samples of {job.dataset} can be made pixels; nothing was committed", bad)
    return _Outcome(newest, version is not None, change, bad, 0, 0)
