"""Pure planning: which files become which samples, which of them the dataset has already, and how the rest is cut into shards.

Nothing here touches a store or a file, and equal arguments give equal plans.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dataplane.errors import BadSample
from dataplane.ingest.labels import Labels
from dataplane.ingest.options import Bad
from dataplane.ingest.source import Entry
from dataplane.ingest.splits import Splits, key_hash
from dataplane.prep.image import EXTENSIONS
from dataplane.schema import Schema

__all__ = ["Difference", "Task", "Todo", "Wanted", "assign_classes", "compare", "describe", "gone", "in_order", "key_of", "tasks"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that should be a sample, and what is known of the sample without reading it."""

    entry: Entry
    key: str
    label: str | None
    split: str


@dataclass(frozen=True, slots=True)
class Todo:
    """A sample to be made. `known` is the BLAKE3 of the source that the dataset has under this key with the same label and split."""

    wanted: Wanted
    known: bytes | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """The samples of one shard, in order."""

    number: int
    split: str
    todo: tuple[Todo, ...]

    @property
    def samples(self) -> int:
        """How many there are to make."""
        return len(self.todo)

    @property
    def bytes(self) -> int:
        """The bytes of their sources."""
        return sum(item.wanted.entry.size for item in self.todo)


@dataclass(frozen=True, slots=True)
class Difference:
    """What the dataset lacks: `todo`; `bad` are files that were bad before and have not changed since."""

    todo: tuple[Todo, ...]
    bad: tuple[Bad, ...]


def key_of(path: str) -> str:
    """The key of a file: its path below the source's root, without the last extension."""
    return posixpath.splitext(path)[0]


def describe(entries: Iterable[Entry], labels: Labels | None, splits: Splits) -> tuple[list[Wanted], list[Bad]]:
    """The samples that files (sorted by path) should become, and the files that cannot, by their paths alone.

    Of several files with one key the first that is named like a picture has it, so that a `1.json` keeps no `1.png` out.
    """
    wanted: dict[str, Wanted] = {}
    bad = []
    for entry in entries:
        key = key_of(entry.path)
        try:
            sample = Wanted(entry, key, labels(entry.path, key) if labels else None, splits.of(entry.path, key))
        except BadSample as error:
            bad.append(Bad(entry.path, str(error)))
            continue
        first = wanted.setdefault(key, sample)
        if first is not sample:
            if _like_a_picture(entry.path) and not _like_a_picture(first.entry.path):
                wanted[key], first, sample = sample, sample, first
            bad.append(Bad(sample.entry.path, f"two files with one key: {first.entry.path} has it"))
    return list(wanted.values()), bad


def _like_a_picture(path: str) -> bool:
    return posixpath.splitext(path)[1][1:].lower() in EXTENSIONS


def assign_classes(schema: Schema, wanted: Iterable[Wanted]) -> tuple[str, ...]:
    """The classes of the schema, and behind them the new ones: first those of files that are named like pictures, so that a folder
    without any does not take a class id from one that has."""
    pictures: set[str] = set()
    others: set[str] = set()
    for sample in wanted:
        if sample.label is not None:
            (pictures if _like_a_picture(sample.entry.path) else others).add(sample.label)
    return schema.merged((), pictures).merged((), others).classes


def compare(wanted: Sequence[Wanted], present: pa.Table, bad_before: Mapping[str, Bad]) -> Difference:
    """What is to be done, given the samples that the dataset has (columns key, label, split, source_etag and source_blake3)."""
    if not len(present) and not bad_before:  # a new dataset
        return Difference(tuple(map(Todo, wanted)), ())
    at = pc.index_in(pa.array([w.key for w in wanted], pa.string()), value_set=present.column("key").combine_chunks())

    def equal(column: str, values: Iterable[str]) -> pa.Array:
        found = pc.fill_null(present.column(column).take(at), "").combine_chunks()
        return pc.and_(pc.equal(found, pa.array(list(values), pa.string())), pc.is_valid(at))

    alike = pc.and_(equal("label", (w.label or "" for w in wanted)), equal("split", (w.split for w in wanted)))
    same = pc.and_(alike, equal("source_etag", (w.entry.etag for w in wanted))).to_pylist()
    known = pc.if_else(alike, present.column("source_blake3").take(at).combine_chunks(), None)
    todo, bad = [], []
    for i, sample in enumerate(wanted):
        if same[i]:
            continue
        before = bad_before.get(sample.entry.path)
        if before is not None and before.etag == sample.entry.etag:
            bad.append(before)
        else:
            todo.append(Todo(sample, known[i].as_py()))
    return Difference(tuple(todo), tuple(bad))


def gone(present: pa.Table, wanted: Iterable[Wanted], unlisted: Iterable[str], unread: Iterable[str]) -> dict[str, bytes]:
    """The samples whose source went away, by key, with the BLAKE3 of that source. Gone is what no listed file has the key of, and what is
    neither among the files that could not be sampled nor below a folder that could not be read."""
    keys_there, bad = {sample.key for sample in wanted}, set(unlisted)
    closed = tuple(f"{folder}/" if folder else "" for folder in unread)
    columns = (present.column(name).to_pylist() for name in ("key", "source", "source_blake3"))
    return {
        key: digest
        for key, source, digest in zip(*columns, strict=True)
        if key not in keys_there and source not in bad and not source.startswith(closed)
    }


def in_order(todo: Iterable[Todo], order: str) -> list[Todo]:
    """Sorted as the samples shall lie in the shards: by the hash of the key, or by the path of the source."""
    by: dict[str, Callable[[Todo], tuple[int, str]]] = {
        "hash": lambda item: (key_hash(item.wanted.key), item.wanted.key),
        "source": lambda item: (0, item.wanted.entry.path),
    }
    return sorted(todo, key=by[order])


def tasks(todo: Sequence[Todo], splits: Sequence[str], *, shard_bytes: int) -> list[Task]:
    """Ordered samples cut into shards of one split each: as few as keep within `shard_bytes` of source, and of about equal size. A
    single file that is larger has a shard to itself."""
    cut: list[Task] = []
    for split in splits:
        mine = [item for item in todo if item.wanted.split == split]
        total = sum(item.wanted.entry.size for item in mine)
        enough = total / max(1, -(-total // shard_bytes))
        shard: list[Todo] = []
        filled = 0
        for item in mine:
            size = item.wanted.entry.size
            if shard and (filled >= enough or filled + size > shard_bytes):
                cut.append(Task(len(cut), split, tuple(shard)))
                shard, filled = [], 0
            shard.append(item)
            filled += size
        if shard:
            cut.append(Task(len(cut), split, tuple(shard)))
    return cut
