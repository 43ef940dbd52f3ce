"""The commit log: numbered files that are only ever created, never overwritten.

Datasets, runs, models, tags and writer journals all keep their history this way; the store's put-if-absent is the only
coordination. Numbers start at 1 and have no gaps, so the newest is found by galloping, without a listing.
"""

from __future__ import annotations

import json
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from blake3 import blake3

from dataplane.canonical import canonical_json
from dataplane.errors import AlreadyExists, CommitConflict, CorruptObject, FormatTooNew, NotFound, StoreUnavailable
from dataplane.store import Store

__all__ = ["Entry", "Log"]

_FORMAT = 1
_NAME = re.compile(r"(\d{20})\.json")
_TRIES = 8  # of one put whose outcome is unknown
_RETRY_AFTER = 30.0  # seconds that a server is granted, whatever it asks for
_AT_ONCE = 16  # requests
_AHEAD = 256  # entries that are read before somebody asks for them
_CONFLICTS = 1000  # commits of others that came first, before giving up
_jitter = random.SystemRandom()  # without a state: pauses must not move a training script's numbers, nor be those of a forked neighbour


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit: its number, the id that tells it from all others, when it was made, and what it says."""

    number: int
    id: str
    created: datetime
    body: Mapping[str, Any]


class Log:
    """The log below `prefix` of a store. Thread-safe; any number of processes may append at once."""

    def __init__(self, store: Store, prefix: str) -> None:
        self.store = store
        self.prefix = prefix
        self._known = 0  # a lower bound of the newest number: logs only grow

    def path(self, number: int) -> str:
        """Where entry `number` lies."""
        return f"{self.prefix}/{number:020d}.json"

    def newest(self) -> int:
        """The highest number, 0 for an empty log. O(log of the entries since the last call) requests."""
        low, step = self._known, 1
        while self._has(low + step):
            low, step = low + step, step * 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            if self._has(middle):
                low = middle
            else:
                high = middle
        self._known = max(self._known, low)
        return low

    def read(self, number: int) -> Entry:
        """Entry `number`. Raises `NotFound`, `CorruptObject` or `FormatTooNew`."""
        raw = bytes(memoryview(self.store.get(self.path(number)).buffer()))
        return _decode(raw, number, where=f"{self.store.url}/{self.path(number)}")

    def read_many(self, numbers: Sequence[int]) -> Iterator[Entry]:
        """These entries, in the order asked for, several requests at a time. Raises what `read` does."""
        if len(numbers) < 2:
            yield from map(self.read, numbers)
            return
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dataplane-log") as pool:
            for start in range(0, len(numbers), _AHEAD):
                yield from pool.map(self.read, numbers[start : start + _AHEAD])

    def last(self) -> Entry | None:
        """The newest entry, or None."""
        number = self.newest()
        return self.read(number) if number else None

    def __iter__(self) -> Iterator[Entry]:
        for number in range(1, self.newest() + 1):
            yield self.read(number)

    def missing(self) -> list[int]:
        """Numbers without an entry before one that is there: lost, since entries are made in order. Costs a listing."""
        names = (meta["path"].rsplit("/", 1)[-1] for chunk in self.store.list(self.prefix) for meta in chunk)
        there = {int(match[1]) for match in map(_NAME.fullmatch, names) if match}
        # An entry may have come while the listing was under way.
        return [number for number in range(1, max(there, default=0)) if number not in there and not self._has(number)]

    def append(self, make: Callable[[Entry | None], Mapping[str, Any] | None]) -> Entry | None:
        """Commit what `make(newest entry)` returns, as the next number.

        When another commit comes first, `make` is called again with it: there it rebases, raises `CommitConflict`, or returns
        None for "nothing left to commit", which `append` then returns. A put whose acknowledgement was lost is recognised by
        the commit's id when the entry is read back, so it is neither lost nor doubled.
        """
        commit_id = uuid.uuid4().hex
        for _ in range(_CONFLICTS):
            tip = self.last()
            body = make(tip)
            if body is None:
                return None
            number = tip.number + 1 if tip else 1
            entry = self._create(number, commit_id, body)
            if entry is not None:
                return entry
        raise CommitConflict(
            f"{self.store.url}/{self.prefix}: {_CONFLICTS} other commits came first; try again when fewer writers are at work"
        )

    def _create(self, number: int, commit_id: str, body: Mapping[str, Any]) -> Entry | None:
        """Put entry `number`; None when the number went to somebody else."""
        raw = _encode(commit_id, body)
        for attempt in range(_TRIES - 1):
            try:
                return self._try_create(number, commit_id, raw)
            except StoreUnavailable as error:
                # The put may have happened. Trying the same number with the same id settles it either way.
                pause = _jitter.uniform(0.5, 1.0) * min(4.0, 0.05 * 2**attempt)
                time.sleep(max(pause, min(_RETRY_AFTER, error.retry_after or 0.0)))
        return self._try_create(number, commit_id, raw)

    def _try_create(self, number: int, commit_id: str, raw: bytes) -> Entry | None:
        try:
            self.store.put(self.path(number), raw, mode="create")
        except AlreadyExists:
            found = self.read(number)
            return found if found.id == commit_id else None
        return _decode(raw, number, where=f"{self.store.url}/{self.path(number)}")

    def _has(self, number: int) -> bool:
        try:
            self.store.head(self.path(number))
        except NotFound:
            return False
        return True


def _encode(commit_id: str, body: Mapping[str, Any]) -> bytes:
    commit = {"format": _FORMAT, "id": commit_id, "created": datetime.now(UTC).isoformat(), "body": body}
    return canonical_json({"blake3": blake3(canonical_json(commit)).hexdigest(), "commit": commit})


def _decode(raw: bytes, number: int, *, where: str) -> Entry:
    try:
        document = json.loads(raw)
        commit = document["commit"]
        # The digest comes first, so that a damaged format number is damage. This envelope is the same in every format.
        if canonical_json(document) != raw or blake3(canonical_json(commit)).hexdigest() != document["blake3"]:
            raise ValueError("its digest does not match")
        if commit["format"] > _FORMAT:
            raise FormatTooNew(f"{where} has format {commit['format']}; this release reads up to {_FORMAT}: upgrade dataplane")
        return Entry(number, commit["id"], datetime.fromisoformat(commit["created"]), commit["body"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, FormatTooNew):
            raise
        before = f"the commits before it are not affected: name one, as in NAME@{number - 1}, or " if number > 1 else ""
        raise CorruptObject(f"{where} is damaged ({error}); {before}put the file back from a copy of the lake") from error
