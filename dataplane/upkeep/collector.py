"""Collection of garbage: delete the objects that nothing names. Safe beside writers and readers; `design/004-gc.md` says why."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

from dataplane import journal
from dataplane.errors import CommitConflict, InvalidArgument, NotFound, StoreError, StoreUnavailable
from dataplane.lake import Lake
from dataplane.log import Entry, Log
from dataplane.process import Process
from dataplane.refs import Digest, digest_of_path
from dataplane.store import Store
from dataplane.sweeps import LEASE_SECONDS, StoreClock, Sweep, announcements, sweep_body
from dataplane.upkeep.litter import find_litter, remove_litter
from dataplane.upkeep.survey import Marks, Survey
from dataplane.upkeep.trim import trim
from dataplane.upkeep.unfinished import abort_unfinished

__all__ = ["GRACE_SECONDS", "JOURNAL_DAYS", "GcReport", "gc"]

GRACE_SECONDS: Final = 24 * 3600.0
JOURNAL_DAYS: Final = 7.0
_BATCH: Final = 1000  # objects that are announced and deleted together: what S3 deletes in one request
_AT_ONCE: Final = 16
_COARSE: Final = timedelta(seconds=1)  # some stores tell times in whole seconds

_ended: Final[set[str]] = set()  # collections of this process that are over, though the store may not have taken their saying so

Progress = Callable[[str, int], None]


@dataclass(slots=True)
class GcReport:
    """What a collection has removed, or would remove.

    `objects` and `bytes`: what nothing names. `kept_objects` are those that something does. `young_objects` and `young_bytes` are garbage,
    but not for long enough. `held`: expired versions (`photos@3`) whose objects stay, and for whom. `journals`: those of dead writers;
    `litter`: left-over temporary files, probes and empty folders. `uploads` and `upload_bytes`: uploads in parts that nobody ended;
    `uploads_unknown`: why there may be more of them, where the store would not tell or would not let them go.
    """

    dry_run: bool
    objects: int = 0
    bytes: int = 0
    kept_objects: int = 0
    young_objects: int = 0
    young_bytes: int = 0
    journals: int = 0
    litter: int = 0
    uploads: int = 0
    upload_bytes: int = 0
    uploads_unknown: str | None = None
    held: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document of `dataplane gc --json`."""
        return {
            "dry_run": self.dry_run,
            "objects": self.objects,
            "bytes": self.bytes,
            "kept_objects": self.kept_objects,
            "young_objects": self.young_objects,
            "young_bytes": self.young_bytes,
            "journals": self.journals,
            "litter": self.litter,
            "uploads": self.uploads,
            "upload_bytes": self.upload_bytes,
            "uploads_unknown": self.uploads_unknown,
            "held": dict(self.held),
        }


def gc(
    lake: Lake,
    *,
    dry_run: bool = False,
    grace_seconds: float = GRACE_SECONDS,
    journal_days: float = JOURNAL_DAYS,
    progress: Progress = lambda stage, count: None,
) -> GcReport:
    """Delete the objects that no version, run, model, tag or journal names, if they are older than the grace; and abort uploads in parts to
    which nothing was added for that long.

    Safe at any time beside any number of readers and writers, as long as no writer needs more than the grace from its first object to its
    commit without a journal (an ingest has one). Objects of an expired version stay for the grace too. Journals of dead writers, from which
    a new run of the same work would go on, are removed after `journal_days`. With `grace_seconds=0` nobody else may be at work.

    Killed at any moment it leaves a valid lake, and the next call finishes the work. `dry_run` writes nothing. `progress` hears what is
    being done, and how many objects it has come to. Raises `CorruptObject` where something that may name objects cannot be read: then
    nothing was deleted; and `CommitConflict` where another collection is at work.
    """
    if grace_seconds < 0 or journal_days < 0:
        raise InvalidArgument(f"a grace of {grace_seconds} s and {journal_days} days for journals; neither can be negative")
    now = datetime.now(UTC) if dry_run else StoreClock(lake.store).now()
    report = GcReport(dry_run)
    retired = _journals(lake.store, now, timedelta(days=journal_days), dry_run=dry_run)
    report.journals = len(retired)
    marks = Marks()
    progress("reading what is named", 0)
    survey = Survey(lake, now=now, grace_seconds=grace_seconds, visit=marks.add, ignored=frozenset(retired) if dry_run else frozenset())
    survey.look()
    report.held = survey.held
    age = _Age(now, grace_seconds)
    collection = _Collection(lake, survey, marks, age, report=report, progress=progress)
    if dry_run:
        for ref in collection.find():
            report.objects, report.bytes = report.objects + 1, report.bytes + ref.size
    else:
        collection.delete(collection.find())
    litter = find_litter(lake.store, now)
    report.litter = len(litter)
    if not dry_run:
        remove_litter(lake.store, litter)
    progress("looking for unfinished uploads", 0)
    unfinished = abort_unfinished(lake.store, age.old, dry_run=dry_run)
    report.uploads, report.upload_bytes, report.uploads_unknown = unfinished.count, unfinished.bytes, unfinished.unknown
    return report


@dataclass(frozen=True, slots=True)
class _Age:
    now: datetime
    grace_seconds: float

    def old(self, modified: datetime) -> bool:
        """What is of that time may go. Without a grace, every one."""
        return not self.grace_seconds or modified + _COARSE < self.now - timedelta(seconds=self.grace_seconds)


class _Collection:
    def __init__(self, lake: Lake, survey: Survey, marks: Marks, age: _Age, *, report: GcReport, progress: Progress) -> None:
        self.lake = lake
        self.survey = survey
        self.marks = marks
        self.age = age
        self.report = report
        self.progress = progress
        self.owner = uuid.uuid4().hex
        self.unanswered: list[Digest] = []  # nobody knows whether these were deleted, or will be

    def find(self) -> Iterator[Digest]:
        """The objects that nothing names and that are old. Counts the others."""
        seen = 0
        for chunk in self.lake.store.list("objects"):
            for meta in chunk:
                seen += 1
                ref = digest_of_path(meta["path"], meta["size"])
                if ref is None:  # somebody else's file
                    continue
                if ref in self.marks:
                    self.report.kept_objects += 1
                elif self.age.old(meta["last_modified"]):
                    yield ref
                else:
                    self.report.young_objects += 1
                    self.report.young_bytes += meta["size"]
            self.progress("looking for what is not", seen)

    def delete(self, garbage: Iterator[Digest]) -> None:
        """Announce, look again, and delete, batch by batch."""
        log = announcements(self.lake.store)
        trim(log, self.age.now)
        batch = list(islice(garbage, _BATCH))
        if not batch:
            log.append(lambda tip: self._end_of_dead(log, tip))
            return
        try:
            while batch:
                self._batch(log, batch)
                self.progress("deleting", self.report.objects)
                batch = list(islice(garbage, _BATCH))
        finally:
            if not self.unanswered:
                _ended.add(self.owner)
            with suppress(StoreError, CommitConflict):  # writers wait for the end of the lease then, and only for these objects
                log.append(self._end)
                _ended.discard(self.owner)

    def _batch(self, log: Log, batch: list[Digest]) -> None:
        began = time.monotonic()
        log.append(lambda tip: self._announce(log, tip, batch))
        self.survey.look()
        doomed = list(self._still_old(ref for ref in batch if ref not in self.marks))
        if time.monotonic() - began > LEASE_SECONDS / 2:
            raise StoreUnavailable(f"{self.lake.url} answers too slowly to collect garbage safely; run the same command again later")
        try:
            self.lake.store.delete([ref.path for ref in doomed])
        except StoreUnavailable:
            self.unanswered = doomed
            raise
        self.report.objects += len(doomed)
        self.report.bytes += sum(ref.size for ref in doomed)
        self.report.kept_objects += sum(ref in self.marks for ref in batch)

    def _still_old(self, refs: Iterable[Digest]) -> Iterator[Digest]:
        """Those that are there and that no writer has put anew since they were listed."""

        def old(ref: Digest) -> bool:
            try:
                return self.age.old(self.lake.store.head(ref.path)["last_modified"])
            except NotFound:
                return False

        wanted = list(refs)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dataplane-gc") as pool:
            yield from (ref for ref, is_old in zip(wanted, pool.map(old, wanted), strict=True) if is_old)

    def _announce(self, log: Log, tip: Entry | None, batch: list[Digest]) -> dict[str, Any]:
        """The next announcement. Of two collectors, writers would see only the later."""
        if tip is not None and tip.body.get("owner") != self.owner and not self._over(log, tip):
            process = Process.from_json(tip.body["process"])
            raise CommitConflict(
                f"another collection is at work in {self.lake.url} (process {process.pid} on {process.host}, since "
                f"{tip.created:%H:%M:%S} UTC); run this again when it is done, or {LEASE_SECONDS / 60:.0f} minutes after it was cut off"
            )
        return sweep_body(self.owner, [ref.hex for ref in batch])

    def _over(self, log: Log, tip: Entry) -> bool:
        sweep = Sweep.of(tip)
        if not sweep.names or sweep.owner in _ended:
            return True
        written = self.lake.store.head(log.path(tip.number))["last_modified"]
        if self.age.now - written > timedelta(seconds=LEASE_SECONDS):
            return True
        if sweep.process is None or not sweep.process.gone():
            return False
        while not sweep.over():  # as writers do: what is announced next frees those that wait
            time.sleep(0.05)
        return True

    def _end_of_dead(self, log: Log, tip: Entry | None) -> dict[str, Any] | None:
        """The end of what a killed collector had announced, so that no writer waits for it."""
        dead = tip is not None and tip.body["type"] == "sweep" and self._over(log, tip)
        return {"type": "end", "owner": self.owner} if dead else None

    def _end(self, tip: Entry | None) -> dict[str, Any] | None:
        """That it is over, or that what the store gave no answer about is in danger for as long as an announcement holds."""
        if tip is None or tip.body.get("owner") != self.owner:
            return None
        if self.unanswered:
            return sweep_body(self.owner, [ref.hex for ref in self.unanswered], lasting=True)
        return {"type": "end", "owner": self.owner}


def _journals(store: Store, now: datetime, keep: timedelta, *, dry_run: bool) -> list[str]:
    """Remove the journals of writers that are long dead; their ids."""
    done = journal.stale if dry_run else journal.retire
    return [writer for writer in journal.writers(store) if done(store, writer, now=now, keep=keep)]
