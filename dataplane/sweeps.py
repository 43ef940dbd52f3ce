"""What writers know of the collection of garbage (`dataplane.upkeep.collector`): which objects are being deleted right now.

The collector announces each batch of deletions in the log `gc/log` before it looks for the last time whether an object is wanted. A writer
looks at that log after it has put an object. So one of the two always sees the other; `design/004-gc.md` has the argument.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from dataplane.canonical import canonical_json
from dataplane.errors import NotFound
from dataplane.log import Entry, Log
from dataplane.process import Process
from dataplane.refs import Digest
from dataplane.store import Store

if TYPE_CHECKING:
    from obspec import ObjectMeta

__all__ = ["KEPT_SECONDS", "LEASE_SECONDS", "YOUNG_SECONDS", "Keeper", "StoreClock", "Sweep", "Watch", "announcements", "sweep_body"]

LEASE_SECONDS: Final = 600.0
"""How long an announcement holds at most: a collector that dies on another machine blocks the writing of just what it has announced."""

YOUNG_SECONDS: Final = 300.0
"""An object older than this is written anew when a writer reuses it, so that no collector takes it for garbage."""

KEPT_SECONDS: Final = 30 * 24 * 3600.0
"""Announcements younger than this are all there; of older ones, those that a search for the newest passes by (`upkeep/trim.py`)."""

_SETTLE_SECONDS: Final = 2.0  # a request of a process that was killed may still be under way
_REMEMBERED: Final = 10_000  # objects, before those of long ago are forgotten
_NAME_CHARACTERS: Final = 16  # of a digest, in an announcement: a chance match only makes a writer wait


def announcements(store: Store) -> Log:
    """The log in which collectors announce what they delete."""
    return Log(store, "gc/log")


def sweep_body(owner: str, hexes: list[str], *, lasting: bool = False) -> dict[str, Any]:
    """The announcement of a batch of deletions. `lasting`: it holds for all of `LEASE_SECONDS`, even where this process is gone before."""
    process = replace(Process.own(), started="") if lasting else Process.own()  # of which nobody can tell that it is gone
    return {"type": "sweep", "owner": owner, "process": process.to_json(), "objects": sorted(_short(name) for name in hexes)}


def _short(name: str) -> str:
    return name[:_NAME_CHARACTERS]


@dataclass(slots=True)
class Sweep:
    """The newest announcement as one process sees it. `since` is when it was made, on its monotonic clock; never earlier than it was."""

    number: int
    owner: str
    names: frozenset[str]
    process: Process | None
    since: float
    died: float | None = None

    @classmethod
    def of(cls, entry: Entry | None, age_seconds: float = 0.0) -> Sweep:
        """What an entry of the log announces that was made at most so long ago."""
        body: Mapping[str, Any] = entry.body if entry else {}
        process = Process.from_json(body["process"]) if "process" in body else None
        number = entry.number if entry else 0
        return cls(number, body.get("owner", ""), frozenset(body.get("objects", ())), process, time.monotonic() - age_seconds)

    def over(self) -> bool:
        """Nothing that it announces will be deleted any more. (A newer announcement says so too.)"""
        now = time.monotonic()
        if not self.names or now - self.since > LEASE_SECONDS:
            return True
        if self.died is None and self.process is not None and self.process.gone():
            self.died = now
        return self.died is not None and now - self.died > _SETTLE_SECONDS

    def threatens(self, name: str) -> bool:
        """An object of this digest may be about to be deleted."""
        return _short(name) in self.names and not self.over()


class Watch:
    """Looks at the announcements for one writer. Thread-safe, and may be pickled."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._log = announcements(store)
        self._clock = StoreClock(store)
        self._last: Sweep | None = None
        self._looked = time.time()

    def __reduce__(self) -> tuple[type[Watch], tuple[Store]]:
        return Watch, (self.store,)

    def newest(self) -> Sweep:
        """The newest announcement: one request where nothing is new."""
        now = time.time()  # the wall's: it goes on while a machine sleeps
        if abs(now - self._looked) > KEPT_SECONDS / 2:
            self._log = announcements(self.store)  # what came right after the newest one known may be gone: search from the start
        self._looked = now
        number = self._log.newest()
        last = self._last
        if last is None or last.number != number:
            self._last = last = self._read(number)
        return last

    def _read(self, number: int) -> Sweep:
        entry = self._log.read(number) if number else None
        if entry is None or not entry.body.get("objects"):
            return Sweep.of(entry)
        written = self.store.head(self._log.path(number))["last_modified"]
        return Sweep.of(entry, max(0.0, (self._clock.now() - written).total_seconds()))

    def known(self) -> Sweep:
        """The newest announcement as of some moment before now."""
        return self._last or self.newest()

    def passed(self, name: str, since: Sweep) -> Sweep | None:
        """None where no collector can have deleted the object of this digest after `since`; else the newest announcement, none of which is
        about to: then look whether the object is there. Waits while one may be."""
        sweep = self.newest()
        waited, pause = False, 0.05
        while sweep.threatens(name):
            waited = True
            time.sleep(pause)
            pause = min(2.0, pause * 1.5)
            sweep = self.newest()
        return sweep if waited or sweep.number != since.number else None


class Keeper:
    """Sees to it that objects which this process puts or reuses are there until a commit names them. Thread-safe, and may be pickled."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._watch = Watch(store)
        self._clock = StoreClock(store)
        self._room = _REMEMBERED
        self._put: dict[Digest, float] = {}  # when this process last put them, on its monotonic clock

    def __reduce__(self) -> tuple[type[Keeper], tuple[Store]]:
        return Keeper, (self.store,)

    def put(self, ref: Digest, put: Callable[[], object]) -> None:
        """Call `put`, which leaves the object there and young; again where a collector took it away at that moment."""
        since = self._watch.known()
        doubtful = since.threatens(ref.hex)  # it may be over by the time the put is done, and the object gone
        put()
        while (sweep := self._watch.passed(ref.hex, since)) is not None or doubtful:
            since, doubtful = sweep or since, False
            try:
                self.store.head(ref.path)
            except NotFound:
                put()
        self.note(ref)

    def wait(self, ref: Digest) -> None:
        """Return when no collector that is at work now is about to delete the object."""
        self._watch.passed(ref.hex, self._watch.known())

    def young(self, meta: ObjectMeta) -> bool:
        """The object is far from the age at which a collector takes it, if nobody names it."""
        return self._clock.young(meta["last_modified"], YOUNG_SECONDS)

    def note(self, ref: Digest) -> None:
        """The object is there, and young."""
        now = time.monotonic()
        self._put[ref] = now
        if len(self._put) > self._room:
            self._put = {known: at for known, at in self._put.copy().items() if now - at < YOUNG_SECONDS}
            self._room = max(_REMEMBERED, 2 * len(self._put))

    def recent(self, ref: Digest) -> bool:
        """This process put it, or made sure of it, a moment ago."""
        return time.monotonic() - self._put.get(ref, -math.inf) < YOUNG_SECONDS


class StoreClock:
    """The time as a store has it, by which the ages of its objects are told. May be pickled."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._offset: float | None = None  # of the store's clock to this process's monotonic one

    def __reduce__(self) -> tuple[type[StoreClock], tuple[Store]]:
        return StoreClock, (self.store,)

    def now(self) -> datetime:
        """The store's time: never later than it is, at most a second and a request earlier. Writes a probe the first time."""
        if self._offset is None:
            self._offset = _probe(self.store)
        return datetime.fromtimestamp(time.monotonic() + self._offset, UTC)

    def young(self, modified: datetime, seconds: float) -> bool:
        """Less than so many seconds have passed since."""
        return self.now() - modified < timedelta(seconds=seconds)


def _probe(store: Store) -> float:
    path = f"writers/.probe-{uuid.uuid4().hex}"
    try:
        store.put(path, canonical_json({"type": "clock"}))
        written = time.monotonic()
        return store.head(path)["last_modified"].timestamp() - written
    finally:
        store.delete(path)
