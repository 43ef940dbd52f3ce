"""One task: read the sources of a shard, look at them, write the shard, and put it and its index into the lake."""

from __future__ import annotations

import resource
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from blake3 import blake3

from dataplane.errors import BadSample, InvalidArgument
from dataplane.formats.parquet_values import size_of
from dataplane.group import CLASS_FIELD, Group
from dataplane.ingest.options import Bad, Pictures
from dataplane.ingest.plan import Task, Todo
from dataplane.ingest.source import Entry, Source
from dataplane.journal import Finished
from dataplane.manifest import METADATA
from dataplane.objects import Objects
from dataplane.prep.options import PictureOptions
from dataplane.prep.sample import FileKind, check_start, prepare, start_bytes
from dataplane.prep.stored import Stored
from dataplane.store import Store
from dataplane.store.local import translated

__all__ = ["CLASS_ID", "COLUMNS", "RESERVED", "Context", "Done", "do_task"]

CLASS_ID: Final = "class_id"
"""The column that a journal's metadata has beside those of the manifest: the class id that lies in the shard, -1 where there is none."""

_TICK_SECONDS: Final = 0.2
_REUSED_BYTES: Final = 31 << 20
_LOOKED_AT: Final = 16  # files between two looks at whether they come from memory
_one_at_a_time = threading.Lock()  # two tasks that read from memory would fight for the interpreter; finishing a shard may go on beside
COLUMNS: Final = pa.schema([*(column for column in METADATA if column.name != "shard"), pa.field(CLASS_ID, pa.int32(), nullable=False)])
RESERVED: Final = (*COLUMNS.names, "shard", "split")
"""Names that no further column of the metadata may have."""

Tick = Callable[[int, int], None]
"""Hears of samples done and bytes read since it was last called."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every task of an ingest needs. It is sent once to each worker process. `writing`: what the writers of the formats are given."""

    source: Source
    store: Store
    class_ids: dict[str, int]
    kind: FileKind
    decode: bool
    max_pixels: int
    pictures: PictureOptions
    writing: Mapping[str, Mapping[str, Any]]
    scratch: Path

    @property
    def light(self) -> bool:
        """What is done to files holds the interpreter for little of the time: `recode` lets go of it, decoding and encoding here do not."""
        return not self.decode and self.kind != "arrays" and not (self.kind == "pictures" and self.pictures.encodes)

    @property
    def looks(self) -> bool:
        """Files are only looked at on their way."""
        return self.light and not (self.kind == "pictures" and self.pictures.changes)

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
    pictures: Pictures


@dataclass(slots=True)
class _Gathered:
    rows: list[dict[str, Any]] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    same: int = 0
    renamed: int = 0
    pictures: Pictures = field(default_factory=Pictures)

    def done(self, task: Task, finished: Finished | None) -> Done:
        return Done(task.number, finished, tuple(self.bad), self.same, self.renamed, self.pictures)


def do_task(context: Context, task: Task, tick: Tick) -> Done:
    """Make one shard. Raises `StoreError` where the lake or the whole source fails; what is wrong with one file is in `Done.bad`."""
    gathered = _Gathered()
    folder = context.scratch / f"{task.number}"
    with translated(folder):
        folder.mkdir(exist_ok=True)
    with translated(folder), Group(folder, options=context.writing, store=context.store) as group:
        ticker = _Ticker(tick)
        with closing(_outcomes(context, task.todo)) as outcomes:
            for todo, outcome in outcomes:
                _take(context, group, gathered, todo, outcome)
                ticker.one(todo.wanted.entry.size)
        ticker.flush()
        if not gathered.rows:
            return gathered.done(task, None)
        shard = group.finish(Objects(context.store), task.split)
    finished = Finished(shard, pa.Table.from_pylist(gathered.rows, schema=COLUMNS), group.fields)
    return gathered.done(task, finished)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A file that was read: its bytes, its etag, and their BLAKE3."""

    data: bytes
    etag: str
    digest: bytes


Outcome = _Loaded | BadSample


def _outcomes(context: Context, todo: Sequence[Todo]) -> Generator[tuple[Todo, Outcome], None, None]:
    """Files in order, with what was read of them. Those that lie in memory and are only looked at are read one by one; for others, and from
    the first ones on that have to be waited for, threads read ahead."""
    _reuse_memory()
    done = 0
    if context.source.bunch > 1 and context.looks:
        with _one_at_a_time:
            for found in _at_once(context, todo):
                yield found
                done += 1
    if done < len(todo):
        yield from _read_ahead(context, todo[done:])


def _at_once(context: Context, todo: Sequence[Todo]) -> Iterator[tuple[Todo, Outcome]]:
    """The files up to some that had to be fetched from a disk, most of them, read one by one: threads would take longer to pass them on."""
    for start in range(0, len(todo), _LOOKED_AT):
        some, before = todo[start : start + _LOOKED_AT], _fetched()
        for item in some:
            yield item, _read(context, item.wanted.entry)
        if 2 * (_fetched() - before) > sum(item.wanted.entry.size for item in some):
            return


def _fetched() -> int:
    """Bytes that this thread had to have fetched from disks so far. (The time would say less: threads wait for each other too.)"""
    return 512 * resource.getrusage(resource.RUSAGE_THREAD).ru_inblock


@cache
def _reuse_memory() -> None:
    """Once a process: glibc gives back to the system what is larger than the largest block that was given back so far. Files would get
    new pages each time."""
    bytes(_REUSED_BYTES)


def _read_ahead(context: Context, todo: Sequence[Todo]) -> Iterator[tuple[Todo, Outcome]]:
    """Files in order, read by a few threads, a few files at a time where they are near."""
    source = context.source

    def read_bunch(bunch: Sequence[Todo]) -> list[tuple[Todo, Outcome]]:
        return [(item, _read(context, item.wanted.entry)) for item in bunch]

    with ThreadPoolExecutor(source.readers, thread_name_prefix="dataplane-read") as pool:
        waiting: deque[Future[list[tuple[Todo, Outcome]]]] = deque()
        try:
            for start in range(0, len(todo), source.bunch):
                waiting.append(pool.submit(read_bunch, todo[start : start + source.bunch]))
                if len(waiting) > 2 * source.readers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read(context: Context, entry: Entry) -> Outcome:
    try:
        first = start_bytes(context.kind, entry.size)
        if first is not None:
            check_start(context.kind, context.source.read(entry, first)[0])
        data, etag = context.source.read(entry)
    except BadSample as error:
        return error
    return _Loaded(data, etag, blake3(data).digest())


def _take(context: Context, group: Group, gathered: _Gathered, todo: Todo, outcome: Outcome) -> None:
    """Append one sample, or say why not."""
    wanted = todo.wanted
    if isinstance(outcome, BadSample):
        gathered.bad.append(Bad(wanted.entry.path, str(outcome)))
        return
    if outcome.digest == todo.known:
        gathered.same += 1
        return
    class_id = -1 if wanted.label is None else context.class_ids[wanted.label]
    try:
        prepared = prepare(
            context.kind,
            wanted.entry.path,
            outcome.data,
            decode=context.decode,
            max_pixels=context.max_pixels,
            pictures=context.pictures,
        )
        fields = prepared.fields if class_id < 0 else {**prepared.fields, CLASS_FIELD: str(class_id).encode()}
        group.add(wanted.key, fields, prepared.images)
    except (BadSample, InvalidArgument) as error:
        gathered.bad.append(Bad(wanted.entry.path, str(error), outcome.etag))
        return
    gathered.renamed += prepared.renamed
    if prepared.stored is not None:
        gathered.pictures += _told(prepared.stored, len(outcome.data))
    width, height = prepared.size
    row = {
        "row": len(gathered.rows),
        "key": wanted.key,
        "label": wanted.label,
        "width": width,
        "height": height,
        "bytes": sum(map(size_of, fields.values())),
        "source": wanted.entry.path,
        "source_etag": outcome.etag,
        "source_blake3": outcome.digest,
        CLASS_ID: class_id,
    }
    gathered.rows.append(row)


def _told(made: Stored, size: int) -> Pictures:
    """What was done to one picture of `size` bytes."""
    changed = made.indexed or made.encoded
    left = {made.left: 1} if made.left else {}
    return Pictures(made.indexed, made.encoded, left, *((size, len(made.data)) if changed else ()))


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
