"""An ingest of tables and text: files whose rows are samples become Parquet shards, some files at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from dataplane.canonical import canonical_json
from dataplane.errors import BadSample, InvalidArgument, NotFound
from dataplane.formats import parquet
from dataplane.formats.parquet_plan import batches
from dataplane.ingest.finish import commit, taken_over
from dataplane.ingest.job import Job, Outcome, Tally
from dataplane.ingest.labels import COLUMN
from dataplane.ingest.options import Bad, Progress
from dataplane.ingest.pool import do_tasks
from dataplane.ingest.present import load
from dataplane.ingest.scratch import scratch
from dataplane.ingest.source import Entry, Source
from dataplane.ingest.splits import Splits
from dataplane.ingest.tables import (
    Columns,
    Rows,
    in_hash_order,
    one_schema,
    plan_tables,
    read_tables,
    rows_of,
    scalar_columns,
    schema_fields,
)
from dataplane.ingest.worker import RESERVED, Tick
from dataplane.journal import Finished, Journal
from dataplane.manifest import ShardRow
from dataplane.objects import Objects
from dataplane.schema import Schema
from dataplane.store import Store
from dataplane.store.local import translated

__all__ = ["make_tables"]



@dataclass(frozen=True, slots=True)
class Tables:
    """The files of one task, read in order. `labels` has one for each, None where rows have their own or none; `settings` are those that
    decide what its shards hold."""

    number: int
    entries: tuple[Entry, ...]
    labels: tuple[str | None, ...]
    settings: bytes

    @property
    def samples(self) -> int:
        """How many there are to count."""
        return len(self.entries)

    @property
    def bytes(self) -> int:
        """What they take up."""
        return sum(entry.size for entry in self.entries)

    @property
    def id(self) -> str:
        """The same for the same files with the same bytes and settings."""
        files = [[entry.path, entry.etag, label] for entry, label in zip(self.entries, self.labels, strict=True)]
        return blake3(self.settings + canonical_json(files)).hexdigest(16)


@dataclass(frozen=True, slots=True)
class TableDone:
    """What came of a task."""

    task: Tables
    finished: tuple[Finished, ...]
    bad: tuple[Bad, ...]


@dataclass(frozen=True, slots=True)
class TableContext:
    """What every task needs. It is sent once to each worker process."""

    source: Source
    store: Store
    splits: Splits
    text: bool
    columns: Columns
    in_hash_order: bool
    shard_bytes: int
    scratch: Path

    def do(self, task: Tables, tick: Tick) -> TableDone:
        """Make the shards of some files. Raises `StoreError` where the lake or the whole source fails."""
        files: list[_File] = []
        bad: list[Bad] = []
        keys: set[str] = set()
        for entry, label in zip(task.entries, task.labels, strict=True):
            try:
                files.append(_read(self, entry, label, keys, files))
            except BadSample as error:
                bad.append(Bad(entry.path, str(error)))
            tick(1, entry.size)
        schema = one_schema([file.pieces[0].table.schema for file in files])
        files = _fitted(files, schema, bad)
        if not files:
            return TableDone(task, (), tuple(bad))
        small = scalar_columns(schema, (rows.table for file in files for rows in file.pieces), RESERVED)
        with _Shards(self, task, schema, small) as shards:
            for file in files:
                for rows in file.pieces:
                    shards.add(file, rows)
            return TableDone(task, tuple(shards.finish()), tuple(bad))


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
        _tell_of_doubles(done, tally)
        made = {key for item in done for key in item.metadata.column("key").to_pylist()}
        stay = made | _keys_of(present.samples, tally.bad.keys() - _sources(done))
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


def _tell_of_doubles(finished: Sequence[Finished], tally: Tally) -> None:
    """Of samples with one key the first goes in; the files of the others are listed. Within a task that is found out when they are read."""
    if len({item.task for item in finished}) < 2:
        return
    seen: set[str] = set()
    doubles: Counter[str] = Counter()
    for table in (item.metadata for item in finished):
        keys, sources = (table.column(name).to_pylist() for name in ("key", "source"))
        doubles.update(source for key, source in zip(keys, sources, strict=True) if key in seen)
        seen.update(keys)
    for source, count in doubles.items():
        tally.bad[source] = Bad(source, f"{count} of its rows have keys that files before it have already; those were left out")


def _settled(job: Job, before: Any) -> bool:
    """The newest version was made with the same settings: then files that have not changed give the same samples."""
    return all(before.get(name) == value for name, value in job.parameters.items() if name not in {"sync", "shard_bytes", "order"})


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
    """Files in order, as many together as fill a shard."""
    settings = canonical_json({name: value for name, value in job.parameters.items() if name != "sync"})
    runs = batches([entry.size for entry in entries], job.options.shard_bytes)
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


@dataclass(frozen=True, slots=True)
class _File:
    """The rows of a file, and the etag and BLAKE3 of just the bytes that were read."""

    path: str
    etag: str
    digest: bytes
    pieces: tuple[Rows, ...]


def _fitted(files: Sequence[_File], schema: pa.Schema, bad: list[Bad]) -> list[_File]:
    """The files with the columns of `schema`; those whose values do not fit are bad."""
    fitted = []
    for file in files:
        try:
            fitted.append(replace(file, pieces=tuple(rows.fitted(schema) for rows in file.pieces)))
        except BadSample as error:
            bad.append(Bad(file.path, str(error)))
    return fitted


def _read(context: TableContext, entry: Entry, label: str | None, keys: set[str], before: Sequence[_File]) -> _File:
    """A file that goes with those before it; its keys are added to `keys`. Raises `BadSample`."""
    data, etag = context.source.read(entry)
    pieces: list[Rows] = []
    first = 0
    for table in read_tables(entry.path, data, text=context.text):
        pieces.append(rows_of(entry.path, first, table, context.columns, label=label, splits=context.splits))
        first += len(table)
    if not first:
        raise BadSample("it has no rows")
    schema = pieces[0].table.schema
    if before:
        expected = before[0].pieces[0].table.schema
        if set(schema.names) != set(expected.names):
            raise BadSample(f"it has the columns {', '.join(schema.names)}; {before[0].path} has {', '.join(expected.names)}")
        one_schema([*(file.pieces[0].table.schema for file in before), schema])
    mine = [key for rows in pieces for key in rows.keys]
    twice = {key for key, count in Counter(mine).items() if count > 1} or keys & set(mine)
    if twice:
        raise BadSample(f"{len(twice)} of its keys come twice, {min(twice)!r} for one")
    keys.update(mine)
    return _File(entry.path, etag, blake3(data).digest(), tuple(pieces))


@dataclass(slots=True)
class _Shard:
    """A shard under way."""

    writer: parquet.Writer
    path: Path
    metadata: list[pa.Table] = field(default_factory=list)
    rows: int = 0


class _Shards:
    """The shards of a task: one under way for every split."""

    def __init__(self, context: TableContext, task: Tables, schema: pa.Schema, small: Sequence[str]) -> None:
        self._context = context
        self._task = task
        self._schema = schema
        self._small = small
        self._objects = Objects(context.store)
        self._stack = ExitStack()
        self._open: dict[str, _Shard] = {}
        self._done: list[tuple[ShardRow, pa.Table]] = []

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, file: _File, rows: Rows) -> None:
        for split in sorted(set(rows.splits.tolist())):
            chosen = np.flatnonzero(rows.splits == split)
            if self._context.in_hash_order:
                chosen = chosen[in_hash_order([rows.keys[i] for i in chosen])]
            step = max(1, int(len(rows.table) * self._context.shard_bytes / max(1, rows.table.nbytes)))
            for start in range(0, len(chosen), step):
                self._append(split, file, rows.take(chosen[start : start + step]))

    def finish(self) -> list[Finished]:
        for split in sorted(self._open):
            self._end(split)
        count = len(self._done)
        return [Finished(row, table, schema_fields(self._schema), self._task.id, count) for row, table in self._done]

    def _append(self, split: str, file: _File, rows: Rows) -> None:
        shard = self._open.get(split) or self._start(split)
        shard.writer.add_table(rows.keys, rows.table)
        shard.metadata.append(_metadata(file, rows, self._small, first=shard.rows))
        shard.rows += len(rows.keys)
        if shard.writer.size >= self._context.shard_bytes:
            self._end(split)

    def _start(self, split: str) -> _Shard:
        path = self._context.scratch / f"{self._task.number}-{len(self._done)}-{len(self._open)}{parquet.SUFFIX}"
        with translated(path):
            shard = _Shard(self._stack.enter_context(parquet.Writer(path, schema=self._schema)), path)
        self._open[split] = shard
        return shard

    def _end(self, split: str) -> None:
        shard = self._open.pop(split)
        with translated(shard.path):
            ref, index = shard.writer.finish()
        self._objects.put_file(shard.path, suffix=parquet.SUFFIX, ref=ref)
        shard.path.unlink()
        table = pa.concat_tables(shard.metadata, promote_options="default")
        size = int(table.column("bytes").to_numpy().sum())
        row = ShardRow(split, "parquet", ref, self._objects.put(index, suffix=".idx"), shard.rows, size)
        self._done.append((row, table))


def _metadata(file: _File, rows: Rows, small: Sequence[str], *, first: int) -> pa.Table:
    table, count = rows.table, len(rows.keys)
    columns: dict[str, Any] = {
        "row": pa.array(np.arange(first, first + count, dtype=np.int32)),
        "key": pa.array(rows.keys, pa.string()),
        "label": pa.array(rows.labels, pa.string()),
        "width": pa.nulls(count, pa.int32()),
        "height": pa.nulls(count, pa.int32()),
        "bytes": pa.array(np.full(count, table.nbytes // count, np.int64)),
        "source": pa.array([file.path] * count, pa.string()),
        "source_etag": pa.array([file.etag] * count, pa.string()),
        "source_blake3": pa.array([file.digest] * count, pa.binary(32)),
    }
    for name in small:
        columns[name] = table.column(name).combine_chunks()
    return pa.table(columns)
