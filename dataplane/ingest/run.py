"""An ingest from beginning to end: list, plan, take over what a killed run left, read, commit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from dataplane.catalog import Change, Version, check_name
from dataplane.errors import BadSources, NotALake, NotFound, redact
from dataplane.ingest.badlist import from_commit, to_commit
from dataplane.ingest.commit import Edit, agreed_classes, edit, fields_of, new_parts, split_counts
from dataplane.ingest.labels import Table, label_file, labels_from
from dataplane.ingest.options import Bad, IngestOptions, IngestResult, Progress
from dataplane.ingest.plan import Task, Todo, Wanted, assign_classes, compare, describe, gone, in_order, tasks
from dataplane.ingest.pool import do_tasks
from dataplane.ingest.present import Present, load
from dataplane.ingest.resume import adopt, is_there
from dataplane.ingest.scratch import scratch
from dataplane.ingest.source import Listing, Source, open_source
from dataplane.ingest.splits import Splits
from dataplane.ingest.worker import Context
from dataplane.journal import Finished, Journal, leftovers, remove
from dataplane.lake import Lake
from dataplane.schema import Schema
from dataplane.store import open_store

__all__ = ["ingest"]

Watch = Callable[[Progress], None]


def ingest(
    lake: Lake | str,
    source: str | os.PathLike[str],
    name: str,
    *,
    options: IngestOptions = IngestOptions(),  # noqa: B008  (frozen)
    watch: Watch = lambda _: None,
) -> IngestResult:
    """Make the pictures of `source`, a folder or the URL of a store, samples of the dataset `name`. The lake is made if it is missing.

    Files that the newest version has already, unchanged, are not read. Where something changes, one new version is committed; bad files
    are listed in it and in the result. Killed at any moment, it leaves a valid lake, and the same call finishes the work. Several processes
    may ingest into one dataset at once. `watch` hears of progress, in the calling thread.

    Raises `BadSources` when there is nothing to make a first version of, or with `strict` when any file is bad; `InvalidArgument`,
    `NotFound`, `StorageFull` and the other errors of the stores.
    """
    began = time.monotonic()
    check_name(name)
    labels, splits = labels_from(options.label_from), Splits.parse(options.split, options.group_by)
    store = lake.store if isinstance(lake, Lake) else open_store(lake)
    beside = label_file(options.label_from)
    opened = open_source(os.fspath(source), apart=[store.url, *([beside] if beside else [])])
    listing = opened.list(lambda count: watch(Progress("listing", count)))
    if not listing.entries and not listing.bad:
        raise NotFound(f"{opened.url} holds no files; give the folder that holds the pictures")
    wanted, unfit = describe(listing.entries, labels, splits)
    made, lake = (False, lake) if isinstance(lake, Lake) else _open_or_make(lake)
    tally = _Tally()
    outcome = _work(_Job(lake, opened, name, options, splits, listing, wanted, [*listing.bad, *unfit], watch), tally)
    note = labels.note() if isinstance(labels, Table) else None
    return IngestResult(
        lake.url,
        name,
        outcome.version.number,
        outcome.committed,
        outcome.version.splits,
        _sorted_bad(tally),
        kept=tally.kept,
        added=outcome.change.added,
        replaced=outcome.change.replaced,
        dropped=outcome.change.dropped,
        ignored=listing.ignored,
        renamed=tally.renamed,
        resumed=tally.resumed,
        notes=(note,) if note else (),
        seconds=time.monotonic() - began,
        lake_made=made,
    )


def _open_or_make(url: str) -> tuple[bool, Lake]:
    try:
        return False, Lake(url)
    except NotALake:
        return True, Lake.init(url)


@dataclass(frozen=True, slots=True)
class _Job:
    """An ingest that is about to be done: everything that is known without reading a picture. `unfit` are bad by their paths alone."""

    lake: Lake
    source: Source
    name: str
    options: IngestOptions
    splits: Splits
    listing: Listing
    wanted: list[Wanted]
    unfit: list[Bad]
    watch: Watch

    @property
    def about(self) -> dict[str, Any]:
        """What makes another run the same work, so that it may take over shards of this one."""
        return {"source": redact(self.source.url), "check": self.options.check, "max_pixels": self.options.max_pixels}

    @property
    def parameters(self) -> dict[str, Any]:
        """What the commit says of how the version was made."""
        told = ("split", "group_by", "order", "shard_bytes", "sync")
        label_from = redact(self.options.label_from) if self.options.label_from else None
        return {**self.about, "label_from": label_from, **{name: getattr(self.options, name) for name in told}}


@dataclass(slots=True)
class _Tally:
    """What has come of an ingest so far. `carried` are finished shards, this run's and those of a run that was killed."""

    carried: list[Finished] = field(default_factory=list)
    bad: dict[str, Bad] = field(default_factory=dict)
    kept: int = 0
    renamed: int = 0
    resumed: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one attempt does against the version that was the newest when it began."""

    present: Present
    classes: tuple[str, ...]
    todo: list[Todo]
    taken: list[Finished]
    tasks: list[Task]
    drop: dict[str, bytes]

    @property
    def left(self) -> int:
        """Samples that are still to be made."""
        return sum(len(task.todo) for task in self.tasks)


@dataclass(frozen=True, slots=True)
class _Outcome:
    version: Version
    change: Edit
    committed: bool


def _work(job: _Job, tally: _Tally) -> _Outcome:
    """Attempt until an attempt holds. One fails only where others have taken the ids of our new classes meanwhile: then shards in which
    these ids lie are made again."""
    store = job.lake.store
    old = [leftover for leftover in leftovers(store, job.name) if leftover.about == job.about]
    for leftover in old:
        if not leftover.finished:
            remove(store, leftover.id)
    tally.carried = [item for leftover in old for item in leftover.finished if is_there(store, item)]
    with ExitStack() as stack:
        journal: Journal | None = None
        outcome = None
        while outcome is None:
            plan = _plan(job, tally)
            if plan.tasks:
                journal = journal or stack.enter_context(Journal(store, job.name, about=job.about))
                _make_shards(job, plan, tally, journal)
            outcome = _commit(job, plan, tally)
        if journal:
            journal.finish()
    for leftover in old:
        remove(store, leftover.id)
    return outcome


def _plan(job: _Job, tally: _Tally) -> _Plan:
    catalog = job.lake.catalog
    present = load(job.lake, catalog.version(job.name) if catalog.log(job.name).newest() else None)
    classes = assign_classes(present.schema, job.wanted)
    difference = compare(job.wanted, present.samples, {**_bad_before(job, present), **tally.bad})
    todo = in_order(difference.todo, job.options.order)
    taken, left = adopt(todo, tally.carried, {label: i for i, label in enumerate(classes)})
    drop = _to_drop(job, present) if job.options.sync else {}
    tally.bad = {bad.source: bad for bad in (*job.unfit, *difference.bad)}
    tally.kept = len(job.wanted) - len(difference.todo) - len(difference.bad)
    tally.resumed = max(tally.resumed, len(todo) - len(left))
    return _Plan(present, classes, todo, taken, tasks(left, job.splits.names, shard_bytes=job.options.shard_bytes), drop)


def _bad_before(job: _Job, present: Present) -> dict[str, Bad]:
    """Files that the newest version's ingest found bad. They need no second look while they stay the same, unless the settings changed."""
    if present.version is None or any(present.parameters.get(name) != job.about[name] for name in ("check", "max_pixels")):
        return {}
    return from_commit(job.lake.objects, present.version.bad)


def _to_drop(job: _Job, present: Present) -> dict[str, bytes]:
    if not job.listing.entries:
        raise NotFound(f"{job.source.url} holds no file that could be read; --sync would drop all of {job.name}, so nothing was done")
    return gone(present.samples, job.wanted, [bad.source for bad in job.unfit], job.listing.unread)


def _make_shards(job: _Job, plan: _Plan, tally: _Tally, journal: Journal) -> None:
    """Do the tasks of a plan. What is finished is journalled at once."""
    taken, total = len(plan.todo) - plan.left, len(plan.todo)
    read = read_bytes = 0

    def tick(samples: int, size: int) -> None:
        nonlocal read, read_bytes
        read, read_bytes = read + samples, read_bytes + size
        job.watch(Progress("reading", taken + read, total, read, read_bytes))

    tick(0, 0)
    options, ids = job.options, {label: i for i, label in enumerate(plan.classes)}
    with scratch() as folder:
        context = Context(job.source, job.lake.store, ids, options.check == "decode", options.max_pixels, folder)
        with do_tasks(context, plan.tasks, tick, workers=options.workers) as results:
            for result in results:
                if result.finished:
                    journal.add(result.finished)
                    tally.carried.append(result.finished)
                    plan.taken.append(result.finished)
                tally.bad.update({bad.source: bad for bad in result.bad})
                tally.kept += result.same
                tally.renamed += result.renamed


def _commit(job: _Job, plan: _Plan, tally: _Tally) -> _Outcome | None:
    """Commit what a plan has made; None where class ids clash."""
    bad = _sorted_bad(tally)
    if bad and job.options.strict:
        raise BadSources(f"{len(bad)} of the files in {job.source.url} are bad, and --strict allows none; nothing was committed", bad)
    place = {item.wanted.key: i for i, item in enumerate(plan.todo)}
    finished = sorted(plan.taken, key=lambda item: place[_first_key(item)])
    state, change, clash = plan.present, Edit(), False

    def make(newest: Version | None) -> Change | None:
        nonlocal state, change, clash
        state = plan.present if newest is None or newest.number == plan.present.number else load(job.lake, newest)
        change = edit(state, finished, plan.drop)
        classes = agreed_classes(state.schema.classes, plan.classes, change.labels)
        clash = classes is None
        return None if classes is None or change.nothing else _body(job, state, change, classes, bad)

    version = None
    if finished or plan.drop:
        job.watch(Progress("committing"))
        version = job.lake.catalog.commit(job.name, make)
    if clash:
        return None
    newest = version or state.version
    if newest is None:
        raise BadSources(f"none of the {len(bad)} files in {job.source.url} can be a sample; nothing was committed", bad)
    return _Outcome(newest, change, version is not None)


def _body(job: _Job, state: Present, change: Edit, classes: tuple[str, ...], bad: Sequence[Bad]) -> Change:
    objects = job.lake.objects
    parts = new_parts(objects, state, change)
    schema = Schema(state.schema.merged(fields_of(change.finished), ()).fields, classes)
    return Change("ingest", job.parameters, schema, tuple(part for part, _ in parts), split_counts(parts), to_commit(objects, bad))


def _first_key(item: Finished) -> str:
    """The key of a shard's first sample that is wanted."""
    rows = item.shard.rows
    return item.metadata.column("key")[0 if rows is None else int(rows[0])].as_py()  # type: ignore[no-any-return]


def _sorted_bad(tally: _Tally) -> tuple[Bad, ...]:
    return tuple(tally.bad[source] for source in sorted(tally.bad))
