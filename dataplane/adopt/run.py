"""An adoption from beginning to end: list, scan what is new or has changed, commit."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final

from dataplane.adopt.commit import Edit, State, edit, new_parts
from dataplane.adopt.look import Looked, look, nothing_of
from dataplane.adopt.options import AdoptOptions, AdoptResult, Progress
from dataplane.adopt.source import Found, Listing, find
from dataplane.catalog import Change, Version, check_name
from dataplane.errors import BadSources, CommitConflict, InvalidArgument, NotALake, redact
from dataplane.ingest.badlist import from_commit, to_commit
from dataplane.ingest.labels import one_group
from dataplane.ingest.options import Bad
from dataplane.journal import Journal
from dataplane.lake import Lake
from dataplane.parts import merged, split_counts
from dataplane.refs import Digest
from dataplane.schema import Field, Schema
from dataplane.store import open_store
from dataplane.store.local import LocalStore

__all__ = ["adopt"]

Watch = Callable[[Progress], None]

_WORKERS: Final = 32
_LOCAL_WORKERS: Final = 8
_TOLD_SECONDS: Final = 300.0  # a scan that takes longer keeps a journal
_SELECTING: Final = frozenset({"expire", "split", "where"})  # operations that say nothing of objects
_BACK: Final = 100  # commits that are looked at to find the last adoption


def adopt(
    lake: Lake | str,
    source: str | os.PathLike[str],
    name: str,
    *,
    options: AdoptOptions = AdoptOptions(),  # noqa: B008  (frozen)
    watch: Watch = lambda _: None,
) -> AdoptResult:
    """Make tars, Parquet files or Zarr arrays shards of the dataset `name` where they lie: nothing is copied, and nothing is written there.

    `source` is a file, a folder, the URL of either, or a pattern: `s3://bucket/photos-{000..127}.tar`, `data/**/*.parquet`. The lake is
    made if it is missing. Objects that the newest version has already, unchanged, are not looked at again; changed ones replace their
    shards. Where something changes, one new version is committed; what is bad is listed in it and in the result. `watch` hears of
    progress, in the calling thread.

    Raises `BadSources` when there is nothing to make a first version of, or with `strict` when anything is bad; `InvalidArgument` for a
    source of mixed formats; `NotFound`, and the other errors of the stores.
    """
    began = time.monotonic()
    check_name(name)
    splits = _Splits(options)
    store = lake.store if isinstance(lake, Lake) else open_store(lake)
    listing = find(os.fspath(source), apart=store.url, told=lambda count: watch(Progress("listing", count)))
    made, lake = (False, lake) if isinstance(lake, Lake) else _open_or_make(lake)
    job = _Job(lake, redact(os.fspath(source)), name, options, splits, listing, watch)
    version, change, bad, looked, committed = _work(job)
    return AdoptResult(
        lake.url,
        name,
        version.number,
        committed,
        version.splits,
        bad,
        added=change.added,
        replaced=change.replaced,
        kept=change.kept,
        ignored=listing.ignored + sum(item.ignored for item in looked),
        bytes_read=sum(item.bytes_read for item in looked),
        notes=tuple(_notes(change, looked)),
        seconds=time.monotonic() - began,
        lake_made=made,
    )


def _open_or_make(url: str) -> tuple[bool, Lake]:
    try:
        return False, Lake(url)
    except NotALake:
        return True, Lake.init(url)


class _Splits:
    """Which split each object is in."""

    def __init__(self, options: AdoptOptions) -> None:
        self._name = options.split
        self._group = one_group(options.split_from, name="split", option="--split-from ") if options.split_from else None

    def of(self, url: str) -> str | None:
        """The split of an object; None where its URL does not match the pattern."""
        return self._group(url) if self._group else self._name


@dataclass(frozen=True, slots=True)
class _Job:
    lake: Lake
    source: str
    name: str
    options: AdoptOptions
    splits: _Splits
    listing: Listing
    watch: Watch


def _work(job: _Job) -> tuple[Version, Edit, tuple[Bad, ...], list[Looked], bool]:
    with ExitStack() as stack:
        return _adopted(job, _Holder(job, stack))


def _adopted(job: _Job, holder: _Holder) -> tuple[Version, Edit, tuple[Bad, ...], list[Looked], bool]:
    catalog = job.lake.catalog
    state = State(job.lake, catalog.newest(job.name))
    asked = _asked(job.lake, state.version)
    before = {} if asked is None or state.version is None else from_commit(job.lake.objects, state.version.bad)
    asked_same = asked is not None and asked.get("settings") == job.options.settings()
    same_source = asked is not None and asked.get("source") == job.source
    todo, kept = [], []
    for found in job.listing.found:
        if asked_same and state.has(found.ref):
            kept.append(found)
        elif not (asked_same and found.url not in state.at and found.url in before and before[found.url].etag == found.etag is not None):
            todo.append(found)
    looked = []
    for item in _look_at(job, todo):
        looked.append(item)
        holder.add(item)
    anew = asked is not None and not asked_same
    bad: tuple[Bad, ...] = ()
    change = Edit()

    def make(newest: Version | None) -> Change | None:
        nonlocal state, change, bad
        if (newest.number if newest else 0) != state.number:
            state = State(job.lake, newest)
            lost = sum(not state.has(found.ref) for found in kept)
            if lost:
                raise CommitConflict(
                    f"{lost:,} objects that {job.name} had when this began are out of it by now, or it was removed; run the same command "
                    "again, which looks at them"
                )
        change = edit(state, looked, anew=anew)
        bad = _all_bad(job, before, looked, change, same=same_source)
        if bad and job.options.strict:
            raise BadSources(f"{len(bad)} of what {job.source} holds are bad, and --strict allows none; nothing was committed", bad)
        return None if change.nothing else _change(job, state, change, bad)

    job.watch(Progress("committing", len(looked), len(todo)))
    version = catalog.commit(job.name, make)
    newest = version or state.version
    if newest is None:
        raise BadSources(f"nothing in {job.source} can be adopted; nothing was committed", bad)
    holder.finish()
    return newest, replace(change, kept=change.kept + len(kept)), bad, looked, version is not None


class _Holder:
    """Sees to it that indexes stay until the commit, however long the scan takes: one that takes a while keeps a journal of them."""

    def __init__(self, job: _Job, stack: ExitStack) -> None:
        self._job = job
        self._stack = stack
        self._journal: Journal | None = None
        self._refs: list[Digest] = []
        self._told = time.monotonic()

    def add(self, item: Looked) -> None:
        """An object was looked at."""
        if item.shard is not None:
            self._refs.append(item.shard.row.index)
        if self._refs and time.monotonic() - self._told > _TOLD_SECONDS:
            if self._journal is None:
                self._journal = self._stack.enter_context(Journal(self._job.lake.store, self._job.name, about={"adopt": self._job.source}))
            self._journal.hold(self._refs)
            self._refs, self._told = [], time.monotonic()

    def finish(self) -> None:
        """All of it is committed."""
        if self._journal is not None:
            self._journal.finish()


def _asked(lake: Lake, version: Version | None) -> Mapping[str, Any] | None:
    """What the last adoption asked for, where nothing but selections of its samples came after it: then what is unchanged needs no second
    look. Else None."""
    if version is None:
        return None
    log = lake.catalog.log(version.name)
    operation, parameters = version.lineage["operation"], version.lineage["parameters"]
    for number in range(version.number - 1, max(0, version.number - _BACK), -1):
        if operation not in _SELECTING:
            break
        body = log.read(number).body
        operation, parameters = body["operation"], body["parameters"]
    return parameters if operation == "adopt" else None


def _look_at(job: _Job, todo: Sequence[Found]) -> Iterator[Looked]:
    """Scan objects side by side, in order. Raises `InvalidArgument` where they are of several formats."""
    local = all(isinstance(found.store, LocalStore) for found in todo)
    workers = job.options.workers or (min(_LOCAL_WORKERS, 2 * (os.cpu_count() or 1)) if local else _WORKERS)
    formats: dict[str, str] = {}
    done = samples = read = 0
    with ThreadPoolExecutor(min(workers, max(1, len(todo))), thread_name_prefix="dataplane-adopt") as pool:
        waiting: deque[Future[Looked]] = deque()
        try:
            coming = iter(todo)
            job.watch(Progress("scanning", 0, len(todo)))
            while True:
                while len(waiting) < 2 * workers and (found := next(coming, None)) is not None:
                    waiting.append(pool.submit(_one, job, found))
                if not waiting:
                    return
                item = waiting.popleft().result()
                if item.format and item.shard:
                    formats.setdefault(item.format, item.found.url)
                if len(formats) > 1:
                    told = " and ".join(f"{name} ({url})" for name, url in sorted(formats.items()))
                    raise InvalidArgument(f"{job.source} mixes formats: {told}; take one at a time: --format {min(formats)}")
                done, read = done + 1, read + item.bytes_read
                samples += item.shard.row.samples if item.shard else 0
                job.watch(Progress("scanning", done, len(todo), samples, read))
                yield item
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _one(job: _Job, found: Found) -> Looked:
    split = job.splits.of(found.url)
    if split is None:
        return Looked(found, bad=[nothing_of(found, "no split: its URL does not match the pattern of --split-from")])
    try:
        check_name(split, "split")
    except InvalidArgument as error:
        return Looked(found, bad=[nothing_of(found, str(error))])
    return look(found, split, job.options, job.lake.objects)


def _all_bad(job: _Job, before: dict[str, Bad], looked: Sequence[Looked], change: Edit, *, same: bool) -> tuple[Bad, ...]:
    """What is bad now: found this time, and found earlier in objects that were not looked at again. `same`: earlier was the same source;
    what that has no more is forgotten."""
    urls = {item.found.url for item in looked}
    there = {found.url for found in job.listing.found}
    bad = {source: item for source, item in before.items() if not _of(source, urls) and (not same or _of(source, there))}
    found = (one for item in looked for one in item.bad)
    for one in (*job.listing.bad, *found, *change.bad):
        bad.setdefault(one.source, one)
    return tuple(bad[source] for source in sorted(bad))


def _of(source: str, urls: set[str]) -> bool:
    """An entry of the list, `URL` or `URL: MEMBER`, is about one of these objects."""
    at = source.find(": ")
    while at >= 0:
        if source[:at] in urls:
            return True
        at = source.find(": ", at + 1)
    return source in urls


def _change(job: _Job, state: State, change: Edit, bad: Sequence[Bad]) -> Change:
    objects = job.lake.objects
    parts = new_parts(objects, state, change)
    schema = (state.version.schema if state.version else Schema()).merged(_fields(change), ())
    parameters = {"source": job.source, "settings": job.options.settings()}
    stored = tuple(merged(objects, [part for part, _ in parts]))
    return Change("adopt", parameters, schema, stored, split_counts(parts), to_commit(objects, bad))


def _fields(change: Edit) -> list[Field]:
    return sorted({field for shard in change.shards for field in shard.fields}, key=lambda field: field.name)


def _notes(change: Edit, looked: Sequence[Looked]) -> Iterator[str]:
    packed = [item for item in looked if item.compression and item.shard]
    if packed:
        kinds = ", ".join(sorted({item.compression or "" for item in packed}))
        yield (
            f"{len(packed):,} of the tars are compressed ({kinds}): they were read whole, and reading a sample decompresses all that "
            "stands before it in its tar, so its time grows with its position, where a plain tar takes one request; read them in order, "
            "or write them anew as plain tars or ingest what they hold"
        )
    unmarked = sum(item.found.etag is None for item in looked if item.shard)
    if unmarked:
        yield (
            f"{unmarked:,} objects have no ETag, because their server gives none: a change that keeps their size is not noticed; adopt "
            "with --verify, and every read is checked against a checksum"
        )
    if change.replaced:
        yield f"{change.replaced:,} objects were adopted before and have changed, or were asked for otherwise: their shards are replaced"
    if change.masked:
        yield (
            f"{change.masked:,} samples have keys of samples that came before, and stay out; where they are different samples, "
            "adopt with --prefix, which puts the URL of its object before each key"
        )
    unlabelled = sum(item.unlabelled for item in looked)
    if unlabelled:
        yield f"{unlabelled:,} samples have no label: the field is missing there, or holds no short text"
