"""Who names which objects: versions, runs, models, and the journals of writers at work.

One walk serves the collection of garbage, which must not miss anything, and the account of bytes. What cannot be read raises, since whoever
believes that it names nothing deletes what it names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from dataplane import journal
from dataplane.errors import CorruptObject
from dataplane.intervals import Numbers
from dataplane.lake import Lake
from dataplane.log import Entry, Log
from dataplane.manifest import open_table, read_shards
from dataplane.refs import Digest, ref_from_json, referenced
from dataplane.upkeep.users import versions_named

__all__ = ["Marks", "Names", "Owner", "Survey", "objects_of", "part_tables"]

_FILE = re.compile(r"(.+)/(\d{20})\.json")
_NAMED: Final = ("blake3", "suffix", "index_blake3")  # columns of a table of shards
_INDEX: Final = ".idx"
_ROWS: Final = 1 << 14
_KEPT_FOR: Final = {"tag": "keep_tagged", "run": "keep_used", "model": "keep_used"}


@dataclass(frozen=True, slots=True)
class Owner:
    """What names objects: `kind` is "datasets", "runs", "models" or "writers"."""

    kind: str
    name: str


Names = tuple[str, Sequence[bytes]]
"""Objects of one suffix, by their digests: 32 bytes each."""

Visit = Callable[[Owner, Iterable[Names]], None]


class Marks:
    """A set of objects: some 100 bytes for each."""

    def __init__(self) -> None:
        self._of: dict[str, set[bytes]] = {}

    def add(self, _: Owner, found: Iterable[Names]) -> None:
        """Put objects into the set. A `Visit`."""
        for suffix, names in found:
            self._of.setdefault(suffix, set()).update(names)

    def __contains__(self, ref: Digest) -> bool:
        return bytes.fromhex(ref.hex) in self._of.get(ref.suffix, ())

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))


def objects_of(data: Any, *, where: str) -> Iterator[Names]:
    """The objects of the lake that a table of shards needs: those of shards that nothing is wanted of are not. In columns, some thousand
    shards at a time: a version has a million. Raises `CorruptObject` or `FormatTooNew`, naming `where`."""
    live = read_shards(data, where=where).live
    file = open_table(pa.BufferReader(pa.py_buffer(data)), where=where)
    columns = [name for name in (*_NAMED, "beside") if name in file.schema_arrow.names]  # the first tables have nothing beside
    at = 0
    try:
        for batch in file.iter_batches(_ROWS, columns=columns, use_threads=False):
            rows = batch.filter(pa.array(live[at : at + len(batch)] > 0))
            at += len(batch)
            yield from _names(*(rows.column(name) for name in _NAMED))
            if "beside" in columns:
                beside = pc.list_flatten(rows.column("beside"))
                yield from _names(*(pc.struct_field(beside, name) for name in _NAMED))
    except (pa.ArrowException, OSError) as error:
        raise CorruptObject(f"{where} is not a table of shards: {error}") from error


def _names(blake3: Any, suffixes: Any, indexes: Any) -> Iterator[Names]:
    """What columns of shards name. Adopted objects have no digest."""
    for suffix in pc.unique(suffixes).drop_null().to_pylist():
        mine = pc.and_kleene(pc.equal(suffixes, suffix), pc.is_valid(blake3))
        yield suffix, blake3.filter(mine).to_pylist()
    yield _INDEX, indexes.to_pylist()


def _named(body: Any) -> Iterator[Names]:
    """The objects that a commit names itself."""
    return ((ref.suffix, (bytes.fromhex(ref.hex),)) for ref in referenced(body))


def part_tables(body: Mapping[str, Any]) -> Iterator[Digest]:
    """The tables of shards that a commit names."""
    for part in body.get("parts", ()):
        ref = ref_from_json(part["shards"])
        if isinstance(ref, Digest):
            yield ref


@dataclass(slots=True)
class _Gone:
    """An expired version: what it names, and the commit that expired it, made at `since` by the store's clock."""

    entry: Entry
    by: Entry
    since: datetime


@dataclass(slots=True)
class _Datasets:
    seen: set[str] = field(default_factory=set)
    gone: dict[str, dict[int, _Gone]] = field(default_factory=dict)


class Survey:
    """Walks a lake. `look` may be called again: it then reads only what is new, and visits what has come to be named.

    `now` is the store's time when the survey began. A version that was expired less than `grace_seconds` before is still taken to name its
    objects, for those who read it or make a clone of it; so is one that a tag, run or model names, unless it was expired regardless.
    `ignored` are journals of writers that name nothing any more.
    """

    def __init__(
        self, lake: Lake, *, now: datetime, grace_seconds: float, visit: Visit, per_owner: bool = False, ignored: Container[str] = ()
    ) -> None:
        self.lake = lake
        self.held: dict[str, str] = {}  # expired versions whose objects stay, and for whom
        self._now = now
        self._grace = timedelta(seconds=grace_seconds)
        self._visit = visit
        self._per_owner = per_owner
        self._ignored = ignored
        self._tables: set[tuple[Owner | None, Digest]] = set()
        self._datasets = _Datasets()
        self._read: dict[str, int] = {}  # entries of each log that were visited
        self._named: dict[tuple[str, int], set[tuple[str, str, str]]] = {}  # version → kind and name of who names it, and its commit's id

    def look(self) -> None:
        """Visit everything that is named. Raises `CorruptObject` where something cannot be read."""
        self._journals()  # first: when one is gone by now, what it named is in a log
        for kind in ("runs", "models"):
            for prefix, files in self._logs(kind).items():
                self._run_or_model(kind, prefix, files)
        logs = self._logs("datasets")
        for prefix, files in logs.items():
            _, name, what, *_ = prefix.split("/")
            if what == "tags":
                self._tag(name, Log(self.lake.store, prefix), max(files))
        for prefix, files in logs.items():
            _, name, what, *_ = prefix.split("/")
            if what == "log":
                self._dataset(name, prefix, files)
        self._hold()

    # ------------------------------------------------------------------ logs

    def _logs(self, kind: str) -> dict[str, dict[int, datetime]]:
        """The entries of all logs below a folder, with the times they were written. Raises `CorruptObject` where one is missing."""
        found: dict[str, dict[int, datetime]] = {}
        for chunk in self.lake.store.list(kind):
            for meta in chunk:
                match = _FILE.fullmatch(meta["path"])
                if match and match[1].count("/") in (2, 3):
                    found.setdefault(match[1], {})[int(match[2])] = meta["last_modified"]
        for prefix, files in found.items():
            lost = Numbers.of(files).missing(max(files))
            if lost:
                raise CorruptObject(
                    f"{self.lake.url}/{prefix} lacks commit {lost}, and there are commits behind it; what those name is not known, so "
                    "nothing was deleted: put it back with dataplane verify --repair COPY"
                )
        return found

    def _entries(self, prefix: str, files: Mapping[int, datetime]) -> list[Entry]:
        """The entries that were not visited yet, oldest first."""
        log, read = Log(self.lake.store, prefix), self._read.get(prefix, 0)
        new = [number for number in sorted(files) if number > read]
        self._read[prefix] = max(files)
        return list(log.read_many(new))

    def _run_or_model(self, kind: str, prefix: str, files: Mapping[int, datetime]) -> None:
        owner = Owner(kind, prefix.split("/")[1])
        for entry in self._entries(prefix, files):
            self._visit(owner, _named(entry.body))
            for name, number, commit in versions_named(entry.body):
                self._named.setdefault((name, number), set()).add((kind[:-1], owner.name, commit))

    def _tag(self, name: str, log: Log, newest: int) -> None:
        tag = log.prefix.rsplit("/", 1)[-1]
        if self._read.get(log.prefix) != newest:
            number = int(log.read(newest).body["version"])
            self._read[log.prefix] = newest
            self._named.setdefault((name, number), set()).add(("tag", tag, ""))

    def _dataset(self, name: str, prefix: str, files: Mapping[int, datetime]) -> None:
        first = name not in self._datasets.seen
        entries = self._entries(prefix, files)
        if not entries:
            return
        self._datasets.seen.add(name)
        gone = _expired_by(entries) if first else {}
        for entry in entries:
            by = gone.get(entry.number)
            if by is None or self._now - files[by.number] < self._grace:
                self._version(name, entry)
            else:
                self._datasets.gone.setdefault(name, {})[entry.number] = _Gone(entry, by, files[by.number])

    def _hold(self) -> None:
        """Visit the expired versions that somebody names."""
        for (name, number), users in self._named.items():
            gone = self._datasets.gone.get(name, {}).get(number)
            users = {user for user in users if gone and _holds(user, gone)}
            if gone and users:
                self.held[f"{name}@{number}"] = ", ".join(sorted(f"{kind} {who}" for kind, who, _ in users))
                self._version(name, gone.entry)
                del self._datasets.gone[name][number]

    def _version(self, name: str, entry: Entry) -> None:
        owner = Owner("datasets", name)
        self._visit(owner, _named(entry.body))
        for table in part_tables(entry.body):
            key = (owner if self._per_owner else None, table)
            if key not in self._tables:
                self._tables.add(key)
                self._visit(owner, objects_of(self.lake.objects.get(table), where=self.lake.objects.where(table)))

    # ------------------------------------------------------------------ journals

    def _journals(self) -> None:
        for writer in journal.writers(self.lake.store):
            if writer in self._ignored:
                continue
            key = f"writers/{writer}"
            entries = journal.read(self.lake.store, writer, after=self._read.get(key, 0))
            if entries:
                self._read[key] = entries[-1].number
                self._visit(Owner("writers", writer), (names for entry in entries for names in _named(entry.body)))


def _holds(user: tuple[str, str, str], gone: _Gone) -> bool:
    """Whether somebody who names an expired version keeps its objects."""
    kind, _, commit = user
    return commit in {"", gone.entry.id} and gone.by.body.get("parameters", {}).get(_KEPT_FOR[kind], True) is not False


def _expired_by(entries: Iterable[Entry]) -> dict[int, Entry]:
    """For each version that is gone the commit that says so first."""
    found: dict[int, Entry] = {}
    known = Numbers()
    for entry in entries:
        now = Numbers.upto(entry.number) if entry.body.get("removed") else Numbers.from_json(entry.body.get("expired", ()))
        if now != known:
            found.update(dict.fromkeys(now.minus(known), entry))
            known = now
    return found
