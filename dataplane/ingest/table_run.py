"""An ingest of tables and text: files whose rows are samples become Parquet shards, some files at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from dataplane.canonical import canonical_json
from dataplane.errors import BadSample, InvalidArgument, NotFound
from dataplane.formats.parquet_plan import batches
from dataplane.ingest.finish import commit, taken_over
from dataplane.ingest.job import Job, Outcome, Tally
from dataplane.ingest.labels import COLUMN
from dataplane.ingest.options import Bad, Progress
from dataplane.ingest.pool import do_tasks
from dataplane.ingest.present import load
from dataplane.ingest.scratch import scratch
from dataplane.ingest.source import Entry
from dataplane.ingest.table_task import TableContext, TableDone, Tables
from dataplane.ingest.tables import Columns, is_large, plan_tables
from dataplane.journal import Finished, Journal
from dataplane.schema import Schema

__all__ = ["make_tables"]

_OF_NEW_SHARDS: Final = frozenset({"sync", "shard_bytes", "order", "codecs", "row_group_bytes"})  # the samples are the same


def make_tables(job: Job, tally: Tally) -> Outcome:
    """Ingest the tables or texts of a source."""
    present = load(job.lake, job.lake.catalog.newest(job.name))
    if job.options.sync and not job.listing.entries:
        raise NotFound(f"{job.source.url} holds no file that could be read; --sync would drop all of {job.name}, so nothing was done")
    tally.bad = {bad.source: bad for bad in job.listing.bad}
    labels = _labels(job, tally)
    fit = [entry for entry in job.listing.entries if labels is None or entry.path in labels]
    settled = _settled(job, present.parameters)
    plan = plan_tables(fit, present.samples, sync=job.options.sync, same_settings=settled, labels=labels, unread=job.listing.unread)
    tally.kept = plan.kept
    with taken_over(job, tally) as journal:
        done, left = _resumed(_tasks(job, plan.todo, labels), tally)
        if left:
            done.extend(_make_shards(job, left, tally, journal()))
        done = _of_one_schema(done, present.schema, tally)
        same = {entry.path for entry in fit} - {entry.path for entry in plan.todo}
        done = _without_doubles(done, _keys_of(present.samples, same), tally)
        made = {key for item in done for key in item.metadata.column("key").to_pylist()}
        stay = _keys_of(present.samples, tally.bad.keys() - _sources(done))
        if present.parameters.get("kind") in {job.kind, None}:  # else the same bytes make other samples
            stay |= made
        drop = {key: digest for key, digest in plan.drop.items() if key not in stay}
        outcome = commit(job, tally, present, finished=done, drop=drop, planned=None)
    assert outcome is not None  # without class ids nothing clashes
    return outcome


def _of_one_schema(finished: Sequence[Finished], schema: Schema, tally: Tally) -> list[Finished]:
    """The shards whose columns go with those of the dataset and of the shards before them. The files of the others are listed; within a
    task that is found out when they are read."""
    fitting: list[Finished] = []
    for item in finished:
        names, expected = ([field.name for field in each.fields] for each in (item, fitting[0] if fitting else item))
        try:
            if names != expected:
                raise InvalidArgument(f"it has the columns {', '.join(names)}; files before it have {', '.join(expected)}")
            schema = schema.merged(item.fields, ())
        except InvalidArgument as error:
            tally.bad.update({source: Bad(source, str(error)) for source in _sources([item])})
        else:
            fitting.append(item)
    return fitting


def _sources(finished: Sequence[Finished]) -> set[str]:
    """The files that samples came from."""
    return {source for item in finished for source in item.metadata.column("source").unique().to_pylist()}


def _keys_of(samples: Any, sources: Set[str]) -> set[str]:
    """The keys of the samples that the dataset has of some files."""
    theirs = pc.is_in(samples.column("source"), value_set=pa.array(sorted(sources), pa.string()))
    return set(samples.filter(theirs).column("key").to_pylist())


def _without_doubles(finished: Sequence[Finished], kept: Set[str], tally: Tally) -> list[Finished]:
    """Of samples with one key the first goes in, and the one of an unchanged file (its keys are `kept`) stays. The files of the others are
    listed. Within a task that is found out when they are read."""
    if len({item.task for item in finished}) < 2 and not kept:
        return list(finished)
    seen = set(kept)
    doubles: Counter[str] = Counter()
    left = []
    for item in finished:
        keys, sources = (item.metadata.column(name).to_pylist() for name in ("key", "source"))
        twice = [row for row, key in enumerate(keys) if key in seen]
        doubles.update(sources[row] for row in twice)
        seen.update(keys)
        shard = item.shard.without(twice) if twice else item.shard
        if shard.live:
            left.append(replace(item, shard=shard))
    for source, count in doubles.items():
        tally.bad[source] = Bad(source, f"{count} of its rows have keys that files before it have already; those were left out")
    return left


def _settled(job: Job, before: Any) -> bool:
    """The newest version was made with the same settings: then files that have not changed give the same samples."""
    return all(before.get(name) == value for name, value in job.parameters.items() if name not in _OF_NEW_SHARDS)


def _labels(job: Job, tally: Tally) -> dict[str, str] | None:
    """The labels of files, by path, where that is what decides them. Files without one are bad."""
    if job.labels is None:
        return None
    labels = {}
    for entry in job.listing.entries:
        try:
            labels[entry.path] = job.labels(entry.path, entry.path)
        except BadSample as error:
            tally.bad[entry.path] = Bad(entry.path, str(error))
    return labels


def _tasks(job: Job, entries: Sequence[Entry], labels: Mapping[str, str] | None) -> list[Tables]:
    """Files in order, as many together as fill a shard; a large one by itself."""
    settings = canonical_json({name: value for name, value in job.parameters.items() if name != "sync"})
    limit, text = job.options.shard_bytes, job.kind == "text"
    runs = batches([max(entry.size, limit + 1) if is_large(entry.path, entry.size, text=text) else entry.size for entry in entries], limit)
    together = [tuple(entries[i] for i in run) for run in runs]
    return [
        Tables(number, mine, tuple(labels[entry.path] if labels else None for entry in mine), settings)
        for number, mine in enumerate(together)
    ]


def _resumed(tasks: Sequence[Tables], tally: Tally) -> tuple[list[Finished], list[Tables]]:
    """The shards of tasks that a killed run had finished, and the tasks that are left. Several runs may have finished the same shards."""
    carried: dict[str, dict[str, Finished]] = {}
    for item in tally.carried:
        carried.setdefault(item.task, {})[item.metadata.column("key")[0].as_py()] = item
    whole = {task: list(items.values()) for task, items in carried.items() if all(len(items) == item.of for item in items.values())}
    taken = [item for task in tasks for item in whole.get(task.id, ())]
    tally.resumed = sum(item.shard.live for item in taken)
    return taken, [task for task in tasks if task.id not in whole]


def _make_shards(job: Job, tasks: Sequence[Tables], tally: Tally, journal: Journal) -> Iterator[Finished]:
    total = sum(task.samples for task in tasks)
    read = read_bytes = 0

    def tick(files: int, size: int) -> None:
        nonlocal read, read_bytes
        read, read_bytes = read + files, read_bytes + size
        job.watch(Progress("reading", read, total, read, read_bytes))

    tick(0, 0)
    options = job.options
    label_from = options.label_from or ""
    column = label_from.removeprefix(COLUMN) if label_from.startswith(COLUMN) else None
    with scratch() as folder:
        context = TableContext(
            job.source,
            job.lake.store,
            job.splits,
            job.kind == "text",
            Columns(options.key, column),
            options.order == "hash",
            options.shard_bytes,
            options.by_format()["parquet"],
            folder,
        )
        results: list[TableDone] = []
        with do_tasks(context, tasks, tick, workers=options.workers) as stream:
            for result in stream:
                for item in result.finished:
                    journal.add(item)
                tally.bad.update({bad.source: bad for bad in result.bad})
                results.append(result)
    for result in sorted(results, key=lambda result: result.task.number):
        yield from result.finished
