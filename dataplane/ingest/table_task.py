"""One task of an ingest of tables: read some files, and make Parquet shards of their rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from blake3 import blake3

from dataplane.canonical import canonical_json
from dataplane.errors import BadSample
from dataplane.formats import parquet
from dataplane.ingest.local_file import local_file
from dataplane.ingest.options import Bad
from dataplane.ingest.source import Entry, Source
from dataplane.ingest.splits import Splits
from dataplane.ingest.tables import (
    Columns,
    Rows,
    in_hash_order,
    is_large,
    long_texts,
    one_schema,
    read_tables,
    rows_of,
    scalar_columns,
    schema_fields,
)
from dataplane.ingest.worker import RESERVED, Tick
from dataplane.journal import Finished
from dataplane.objects import Objects
from dataplane.shards import ShardRow
from dataplane.store import Store
from dataplane.store.local import translated

__all__ = ["TableContext", "TableDone", "Tables"]


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
    """What every task needs. It is sent once to each worker process. `writing`: what the writer of Parquet is given."""

    source: Source
    store: Store
    splits: Splits
    text: bool
    columns: Columns
    in_hash_order: bool
    shard_bytes: int
    writing: Mapping[str, Any]
    scratch: Path

    def do(self, task: Tables, tick: Tick) -> TableDone:
        """Make the shards of some files. Raises `StoreError` where the lake or the whole source fails."""
        if len(task.entries) == 1 and is_large(task.entries[0].path, task.entries[0].size, text=self.text):
            try:
                return _in_pieces(self, task)
            except BadSample as error:
                return TableDone(task, (), (Bad(task.entries[0].path, str(error)),))
            finally:
                tick(1, task.bytes)
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
        small = scalar_columns(schema, set().union(*(long_texts(rows.table) for file in files for rows in file.pieces)), RESERVED)
        with _Shards(self, task, schema, small) as shards:
            for file in files:
                for rows in file.pieces:
                    shards.add(file, rows)
            return TableDone(task, tuple(shards.finish()), tuple(bad))


def _in_pieces(context: TableContext, task: Tables) -> TableDone:
    """Make the shards of one file without ever having all of it in memory: look at all of its rows, then go through them again. Raises
    `BadSample`."""
    (entry,), (label,) = task.entries, task.labels
    scratch = context.scratch / f"{task.number}.source"
    try:
        local = local_file(context.source, entry, scratch)
        keys: set[str] = set()
        long: set[str] = set()
        schema = None
        with local.open() as file:
            for rows in _rows(context, entry, label, file):
                schema = schema or rows.table.schema
                long |= long_texts(rows.table)
                _add_keys(rows, keys)
        if schema is None:
            raise BadSample("it has no rows")
        schema = one_schema([schema])
        with _Shards(context, task, schema, scalar_columns(schema, long, RESERVED)) as shards, local.open() as file:
            for rows in _rows(context, entry, label, file):
                shards.add(_File(entry.path, local.etag, local.digest, ()), rows.fitted(schema))
            local.check()
            return TableDone(task, tuple(shards.finish()), ())
    finally:
        scratch.unlink(missing_ok=True)


def _rows(context: TableContext, entry: Entry, label: str | None, file: Any) -> Iterator[Rows]:
    """The rows of a file, piece by piece. Raises `BadSample`."""
    first = 0
    for table in read_tables(entry.path, file, text=context.text):
        yield rows_of(entry.path, first, table, context.columns, label=label, splits=context.splits)
        first += len(table)


def _add_keys(rows: Rows, keys: set[str]) -> None:
    """Keep in mind the keys of rows. Raises `BadSample` for one that is there already; those that name file and row never are."""
    if rows.named:
        twice = {key for key, count in Counter(rows.keys).items() if count > 1 or key in keys}
        if twice:
            raise BadSample(f"{len(twice)} of its keys come twice, {min(twice)!r} for one")
        keys.update(rows.keys)


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
    pieces = list(_rows(context, entry, label, pa.BufferReader(data)))
    if not pieces:
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
            shard = _Shard(self._stack.enter_context(parquet.Writer(path, schema=self._schema, **self._context.writing)), path)
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
        index_ref = self._objects.put(index, suffix=".idx")
        row = ShardRow(split, "parquet", ref, index_ref, shard.rows, size, tokens=shard.writer.tokens)
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
