"""One task: read the sources of a shard, look at them, write the shard, and put it and its index into the lake."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from blake3 import blake3

from dataplane.errors import BadSample, InvalidArgument
from dataplane.formats.parquet_values import size_of
from dataplane.group import CLASS_FIELD, Group
from dataplane.ingest.options import Bad
from dataplane.ingest.plan import Task, Todo, Wanted
from dataplane.ingest.source import Source
from dataplane.journal import Finished
from dataplane.manifest import METADATA
from dataplane.objects import Objects
from dataplane.prep.sample import FileKind, Prepared, check_start, prepare, start_bytes
from dataplane.store import Store
from dataplane.store.local import translated

__all__ = ["CLASS_ID", "COLUMNS", "RESERVED", "Context", "Done", "do_task"]

CLASS_ID: Final = "class_id"
"""The column that a journal's metadata has beside those of the manifest: the class id that lies in the shard, -1 where there is none."""

_TICK_SECONDS: Final = 0.2
_REUSED_BYTES: Final = 31 << 20
COLUMNS: Final = pa.schema([*(column for column in METADATA if column.name != "shard"), pa.field(CLASS_ID, pa.int32(), nullable=False)])
RESERVED: Final = (*COLUMNS.names, "shard", "split")
"""Names that no further column of the metadata may have."""

Tick = Callable[[int, int], None]
"""Hears of samples done and bytes read since it was last called."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every task of an ingest needs. It is sent once to each worker process."""

    source: Source
    store: Store
    class_ids: dict[str, int]
    kind: FileKind
    decode: bool
    max_pixels: int
    scratch: Path

    def do(self, task: Task, tick: Tick) -> Done:
        """Make one shard. Raises `StoreError` where the lake or the whole source fails; what is wrong with one file is in `Done.bad`."""
        return do_task(self, task, tick)


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a task. `finished` is None where no sample was left to write; `same` samples are in the dataset with equal bytes."""

    task: int
    finished: Finished | None
    bad: tuple[Bad, ...]
    same: int
    renamed: int


@dataclass(slots=True)
class _Gathered:
    rows: list[dict[str, Any]] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    same: int = 0
    renamed: int = 0


def do_task(context: Context, task: Task, tick: Tick) -> Done:
    """Make one shard. Raises `StoreError` where the lake or the whole source fails; what is wrong with one file is in `Done.bad`."""
    gathered = _Gathered()
    folder = context.scratch / f"{task.number}"
    with translated(folder):
        folder.mkdir(exist_ok=True)
    with translated(folder), Group(folder, store=context.store) as group:
        ticker = _Ticker(tick)
        for todo, outcome in _read_ahead(context, task):
            _take(context, group, gathered, todo, outcome)
            ticker.one(todo.wanted.entry.size)
        ticker.flush()
        if not gathered.rows:
            return Done(task.number, None, tuple(gathered.bad), gathered.same, gathered.renamed)
        shard = group.finish(Objects(context.store), task.split)
    finished = Finished(shard, pa.Table.from_pylist(gathered.rows, schema=COLUMNS), group.fields)
    return Done(task.number, finished, tuple(gathered.bad), gathered.same, gathered.renamed)


@dataclass(frozen=True, slots=True)
class _Read:
    """A file that was read: its bytes, its etag, and their BLAKE3."""

    data: bytes
    etag: str
    digest: bytes


Outcome = _Read | BadSample


def _read_ahead(context: Context, task: Task) -> Iterator[tuple[Todo, Outcome]]:
    """The files of a task in order, read by a few threads some files ahead, a few at a time where they are near."""
    source = context.source
    bunches = [task.todo[i : i + source.bunch] for i in range(0, len(task.todo), source.bunch)]

    def read(wanted: Wanted) -> Outcome:
        try:
            first = start_bytes(context.kind, wanted.entry.size)
            if first is not None:
                check_start(context.kind, source.read(wanted.entry, first)[0])
            data, etag = source.read(wanted.entry)
            return _Read(data, etag, blake3(data).digest())
        except BadSample as error:
            return error

    def read_bunch(bunch: Sequence[Todo]) -> list[tuple[Todo, Outcome]]:
        return [(todo, read(todo.wanted)) for todo in bunch]

    bytes(_REUSED_BYTES)  # glibc's limit becomes that of the largest block that was given back: files do not get new pages each time
    with ThreadPoolExecutor(source.readers, thread_name_prefix="dataplane-read") as pool:
        waiting: deque[Future[list[tuple[Todo, Outcome]]]] = deque()
        try:
            for bunch in bunches:
                waiting.append(pool.submit(read_bunch, bunch))
                if len(waiting) > 2 * source.readers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _take(context: Context, group: Group, gathered: _Gathered, todo: Todo, outcome: Outcome) -> None:
    """Append one sample, or say why not."""
    wanted = todo.wanted
    if isinstance(outcome, BadSample):
        gathered.bad.append(Bad(wanted.entry.path, str(outcome)))
        return
    data, etag, digest = outcome.data, outcome.etag, outcome.digest
    if digest == todo.known:
        gathered.same += 1
        return
    class_id = -1 if wanted.label is None else context.class_ids[wanted.label]
    try:
        prepared = prepare(context.kind, wanted.entry.path, data, decode=context.decode, max_pixels=context.max_pixels)
        fields = {**prepared.fields, **({CLASS_FIELD: str(class_id).encode()} if class_id >= 0 else {})}
        group.add(wanted.key, fields, prepared.images)
    except (BadSample, InvalidArgument) as error:
        gathered.bad.append(Bad(wanted.entry.path, str(error), etag))
        return
    gathered.renamed += prepared.renamed
    size = sum(map(size_of, fields.values()))
    gathered.rows.append(_row(wanted, prepared, row=len(gathered.rows), size=size, etag=etag, digest=digest, class_id=class_id))


def _row(wanted: Wanted, prepared: Prepared, *, row: int, size: int, etag: str, digest: bytes, class_id: int) -> dict[str, Any]:
    width, height = prepared.size
    return {
        "row": row,
        "key": wanted.key,
        "label": wanted.label,
        "width": width,
        "height": height,
        "bytes": size,
        "source": wanted.entry.path,
        "source_etag": etag,
        "source_blake3": digest,
        CLASS_ID: class_id,
    }


class _Ticker:
    """Passes progress on, but not for every sample."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick
        self._samples = self._bytes = 0
        self._last = time.monotonic()

    def one(self, size: int) -> None:
        self._samples += 1
        self._bytes += size
        if time.monotonic() - self._last >= _TICK_SECONDS:
            self.flush()

    def flush(self) -> None:
        self._tick(self._samples, self._bytes)
        self._samples = self._bytes = 0
        self._last = time.monotonic()
