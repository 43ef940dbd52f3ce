"""A writer's journal: what a running write has finished, and that it is alive.

It lies in `writers/WRITER/` as a commit log with one writer. Finished shards survive the writer: the next run of the same work
takes them over instead of doing them again, and `gc` honours what a live journal names.
"""

from __future__ import annotations

import io
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final

import pyarrow as pa
from blake3 import blake3

from dataplane.errors import CommitConflict, CorruptObject, NotFound, StoreError
from dataplane.log import Entry, Log
from dataplane.process import Process, started
from dataplane.refs import Digest, ref_to_json
from dataplane.schema import Field
from dataplane.shards import ShardRow
from dataplane.store import Store
from dataplane.sweeps import StoreClock

__all__ = ["Finished", "Journal", "Leftover", "claim", "leftovers", "read", "remove", "retire", "stale", "writers"]

_logger = logging.getLogger("dataplane")

BEAT_SECONDS: Final = 30.0
DEAD_AFTER: Final = timedelta(minutes=10)

_open: Final[set[str]] = set()  # journals that this process is writing: on a full disk one ends without being able to say so


@dataclass(frozen=True, slots=True)
class Finished:
    """A shard in the lake, with the metadata of its samples (columns of `manifest.METADATA` but `shard`), and what its fields are.

    `task` names the work that made it, where that makes `of` shards: it is done only when all of them are finished.
    """

    shard: ShardRow
    metadata: Any
    fields: tuple[Field, ...] = ()
    task: str = ""
    of: int = 1


class Journal:
    """The journal of this process's write to `dataset`. Use it in a `with` block: leaving it stops the heartbeat and says so.

    `about` says which work it is, so that only the same work is taken over by a later run. `finish` removes the journal, once what it
    names is committed. Not thread-safe but for the heartbeat.
    """

    def __init__(self, store: Store, dataset: str, *, about: Mapping[str, Any] | None = None) -> None:
        self.store = store
        self.id = f"{dataset}-{uuid.uuid4().hex[:16]}"
        self._log = Log(store, f"writers/{self.id}")
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._finished = False
        self._beating = threading.Thread(target=self._beat, name="dataplane-heartbeat", daemon=True)
        begin = {
            "type": "begin",
            "dataset": dataset,
            "about": dict(about or {}),
            **Process.own().to_json(),
        }
        _open.add(self.id)  # before others see it
        try:
            self._append(begin)
        except BaseException:
            _open.discard(self.id)
            raise

    def __enter__(self) -> Journal:
        self._beating.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._beating.join()
        _open.discard(self.id)
        if not self._finished:  # the process may live on: say that nobody works on this any more
            with suppress(StoreError, CommitConflict):
                self._append({"type": "end"})

    def add(self, finished: Finished) -> None:
        """Record a finished shard. Once this returns, its work need not be done again."""
        path = f"writers/{self.id}/{finished.shard.index.hex}.arrow"
        sink = io.BytesIO()
        with pa.ipc.new_file(sink, finished.metadata.schema) as writer:
            writer.write_table(finished.metadata)
        self.store.put(path, sink.getvalue())
        digest = blake3(sink.getvalue()).hexdigest()
        self._append(
            {
                "type": "shard",
                "shard": finished.shard.to_json(),
                "metadata": path,
                "blake3": digest,
                "fields": {field.name: field.to_json() for field in finished.fields},
                "task": finished.task,
                "of": finished.of,
            }
        )

    def hold(self, objects: Iterable[Digest]) -> None:
        """Record objects that this write will name when it commits: `gc` leaves them alone. No later run takes them over."""
        self._append({"type": "objects", "objects": [ref_to_json(ref) for ref in objects]})

    def finish(self) -> None:
        """Remove the journal: what it names is committed, or not wanted any more."""
        self._stop.set()
        if self._beating.is_alive():  # a beat under way would leave an entry behind
            self._beating.join()
        self._finished = True
        _open.discard(self.id)
        remove(self.store, self.id)

    def _append(self, body: Mapping[str, Any]) -> None:
        def make(tip: Entry | None) -> Mapping[str, Any]:
            if (tip is None) != (body["type"] == "begin"):
                raise NotFound("no beginning")
            return body

        try:
            with self._lock:
                self._log.append(make)
                self.store.head(self._log.path(1))  # where it is gone, a beat that was under way may have left later entries
        except NotFound as error:
            raise CommitConflict(
                f"the journal {self.store.url}/writers/{self.id} of this write was removed: for {DEAD_AFTER} nothing was heard of it, so "
                "another run took over what it had finished; run the same command again"
            ) from error

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            # DEAD_AFTER has room for many missed beats; on a full disk, or where the journal is gone, the main thread says so
            with suppress(StoreError, CommitConflict):
                self._append({"type": "beat"})


@dataclass(frozen=True, slots=True)
class Leftover:
    """The journal of a writer that died before it committed."""

    id: str
    finished: tuple[Finished, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


def leftovers(store: Store, dataset: str) -> list[Leftover]:
    """Journals of dead writers to `dataset`: of this machine's processes that are gone, and of silent ones elsewhere."""
    found = []
    clock = StoreClock(store)
    for writer in writers(store):
        if not writer.startswith(f"{dataset}-"):  # another dataset's, most of the time; what it says decides
            continue
        entries = _entries(Log(store, f"writers/{writer}"))
        if not entries or entries[0].body.get("dataset") != dataset or _retired(entries) or _alive(store, writer, entries, clock.now):
            continue
        shards = [_read(store, entry.body) for entry in entries if entry.body["type"] == "shard"]
        found.append(Leftover(writer, tuple(shard for shard in shards if shard), entries[0].body.get("about", {})))
    return found


def writers(store: Store) -> list[str]:
    """The ids of all writers that have a journal."""
    return [prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in store.list_with_delimiter("writers")["common_prefixes"]]


def read(store: Store, writer: str, *, after: int = 0) -> list[Entry]:
    """What a journal says, from behind entry `after` on; nothing where it is being removed. Raises `CorruptObject` where one of a writer at
    work is damaged."""
    log = Log(store, f"writers/{writer}")
    entries: list[Entry] = []
    try:
        entries.extend(log.read_many(range(after + 1, log.newest() + 1)))
    except NotFound:
        pass
    except CorruptObject:
        known = _entries(log)
        if known and _alive(store, writer, known, _local_time):
            raise
    return [] if _retired(entries) else entries


def claim(store: Store, writer: str) -> bool:
    """Take over what a dead writer had finished: `gc` honours its journal for some days more. False where `gc` was faster. Look whether the
    objects are there after this, not before."""
    return _add(Log(store, f"writers/{writer}"), lambda tip: not _retired([tip]), "claimed")


def retire(store: Store, writer: str, *, now: datetime, keep: timedelta) -> bool:
    """Remove the journal of a writer that is dead, where nothing has been added to it for so long. Nobody takes over from it then."""
    log = Log(store, f"writers/{writer}")
    judged = log.newest()
    if not stale(store, writer, now=now, keep=keep):
        return False
    entries = _entries(log)
    # Whoever claims it writes this number too, and one of the two finds it taken.
    if entries and not _retired(entries) and not _add(log, lambda tip: tip.number == judged, "retired"):
        return False
    remove(store, writer)
    return True


def stale(store: Store, writer: str, *, now: datetime, keep: timedelta) -> bool:
    """A journal of a writer that is dead, or what is left of one, to which nothing has been added for so long."""
    times = [meta["last_modified"] for chunk in store.list(f"writers/{writer}") for meta in chunk]
    if not times or now - max(times) < keep:
        return False
    entries = _entries(Log(store, f"writers/{writer}"))
    return not entries or _retired(entries) or not _alive(store, writer, entries, lambda: now)


def _add(log: Log, fits: Callable[[Entry], bool], kind: str) -> bool:
    """Write an entry behind the newest one, if that fits; whether it did. Not where the journal is being removed."""
    try:
        return log.append(lambda tip: {"type": kind} if tip and fits(tip) else None) is not None
    except NotFound:
        return False


def _retired(entries: Sequence[Entry]) -> bool:
    return bool(entries) and entries[-1].body["type"] == "retired"


def _entries(log: Log) -> list[Entry]:
    """The entries up to the first gap: one appears while a journal is being removed, and stays when that is killed. A damaged one ends
    them too: what it and later ones say is just done again."""
    entries: list[Entry] = []
    try:
        entries.extend(log)
    except NotFound:
        pass
    except CorruptObject as error:
        _logger.warning("a writer's journal: %s; what it says from there on is done again", error)
    return entries


def remove(store: Store, writer: str) -> None:
    """Delete a journal. Its first entry goes last: without it the rest reads as no journal at all."""
    first = Log(store, f"writers/{writer}").path(1)
    store.delete([meta["path"] for chunk in store.list(f"writers/{writer}") for meta in chunk if meta["path"] != first])
    store.delete(first)


def _read(store: Store, body: Mapping[str, Any]) -> Finished | None:
    """A finished shard; None when somebody is removing the journal at this moment, or where its metadata are damaged."""
    try:
        data = memoryview(store.get(body["metadata"]).buffer())
    except NotFound:
        return None
    if "blake3" in body and blake3(data).hexdigest() != body["blake3"]:  # the first journals had none
        _logger.warning("%s/%s is damaged; the shard it belongs to is made again", store.url, body["metadata"])
        return None
    fields = tuple(Field(name, spec["kind"], spec.get("type")) for name, spec in sorted(body.get("fields", {}).items()))
    table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
    return Finished(ShardRow.from_json(body["shard"]), table, fields, body.get("task", ""), body.get("of", 1))


def _alive(store: Store, writer: str, entries: Sequence[Entry], now: Callable[[], datetime]) -> bool:
    """Whether a journal's writer is at work. `now` gives the store's time: clocks of machines differ."""
    begin, last = entries[0].body, next(entry for entry in reversed(entries) if entry.body["type"] != "claimed")
    if begin["type"] != "begin" or last.body["type"] == "end":
        return False
    process = Process.from_json(begin)
    if process.here():
        running = bool(process.started) and started(process.pid) == process.started
        return running and (process.pid != os.getpid() or writer in _open)
    try:
        written = store.head(Log(store, f"writers/{writer}").path(last.number))["last_modified"]
    except NotFound:  # it is being removed
        return False
    return now() - written < DEAD_AFTER


def _local_time() -> datetime:
    return datetime.now(UTC)
