"""The space of a hot tier: room is reserved before bytes come, made by evicting, and given back when they do not come.

What holds at any instant, for all processes together: complete files, reserved room and the index stay within the limit. So room
counts from its reservation until the bytes are off the disk, and each step is ordered such that a `kill -9` after it leaves more
counted than there is, never less:

    reserve    row (arriving)      -> bytes
    complete   fsync, rename       -> row (complete)
    cancel     empty the file      -> drop the row -> unlink
    evict      empty the file, unlink -> drop the row

Names below `objects/` are given only to verified, durable files, and taken away only inside a transaction of the index.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tiering.index import Index, Transaction
from tiering.keys import is_key
from tiering.layout import Layout, Unusable, charge, local
from tiering.locks import claim, names, unlock_and_close, vacant
from tiering.policy import Entry, eviction_order
from tiering.stats import Counters, HotStats, known

__all__ = ["Directory"]

_log: Final = logging.getLogger("tiering")


class Directory:
    """One hot tier's directory, for one process. Thread-safe. Methods raise `Unusable` where the disk or the index fails.

    `limit_bytes` is recorded and enforced at once; None keeps the recorded one. `last_read` gives when this process last read which
    objects, for the choice of what to evict.
    """

    def __init__(self, root: Path, *, limit_bytes: int | None, counters: Counters, last_read: Callable[[], Mapping[str, int]]) -> None:
        self.layout = Layout(root)
        self._limit_bytes = limit_bytes
        self._counters = counters
        self._last_read = last_read
        self._index = Index(self.layout, reconcile=self._reconcile)
        self._made = False

    def prepare(self) -> None:
        """Make the directory if need be, and reconcile it. Raises `FormatTooNew`, `InvalidArgument` (see `Layout.make`)."""
        with self._transaction():
            pass

    def has(self, key: str, size: int | None) -> bool:
        """Whether a complete file, of that size if one is given, is there."""
        with local(), suppress(FileNotFoundError):
            return size in {None, os.stat(self.layout.objects / key).st_size}
        return False

    # ------------------------------------------------------------------ on the way in

    def claim(self, key: str, *, wait: bool) -> int | None:
        """The right to bring `key` in, as the open file to write; see `locks.claim`. Give it back with `release`."""
        with local():
            return claim(self.layout.partial / key, wait=wait)

    def release(self, key: str, fd: int) -> None:
        """Give a claim back, complete or not."""
        path = self.layout.partial / key
        with local():
            try:
                if names(path, fd):
                    path.unlink()
            finally:
                unlock_and_close(fd)

    def reserve(self, key: str, fd: int, size: int, *, evict: bool) -> bool:
        """Room for a claimed object, made by evicting others if `evict` says so. False where it does not fit."""
        with local():
            os.ftruncate(fd, 0)  # what a killed process left in it
        with self._transaction() as tx:
            if not self._evict(tx, key) or not self._make_room(tx, charge(size), evict=evict):
                return False
            tx.put(Entry(key, size, time.time_ns()), arriving=True)
        with local():
            os.ftruncate(fd, size)  # so that the file itself says what is reserved, should the index get lost
        return True

    def complete(self, key: str, size: int) -> None:
        """Give a claimed, verified and durable file its name."""
        with local():
            os.rename(self.layout.partial / key, self.layout.objects / key)
        try:
            with self._transaction() as tx:
                tx.put(Entry(key, size, time.time_ns()), arriving=False)
        except Unusable as error:  # the file can be read, and counts as arriving until an index is reconciled
            _log.warning("%s: %s is complete, but could not be recorded (%s)", self.layout.root, key, error)

    def cancel(self, key: str, fd: int) -> None:
        """Give the room of a claimed object back."""
        with local():
            os.ftruncate(fd, 0)
        with self._transaction() as tx:
            tx.remove(key)

    # ------------------------------------------------------------------ on the way out

    def evict(self, key: str) -> bool:
        """Drop an object. False where somebody is reading it."""
        with self._transaction() as tx:
            return self._evict(tx, key)

    def flush(self, deltas: Mapping[str, int]) -> None:
        """Record the last reads and counters of this process for all."""
        with self._transaction() as tx:
            tx.touch(self._last_read())
            tx.count(deltas)

    def stats(self) -> HotStats:
        """What is there now, with the counters of all processes as far as they were flushed."""
        with self._transaction() as tx:
            objects, payload = tx.payload()
            index_bytes = sum(path.stat().st_size for path in self.layout.database_files() if path.exists())
            return HotStats(bytes=payload, limit_bytes=tx.limit(), index_bytes=index_bytes, objects=objects, **known(tx.counters()))

    def close(self) -> None:
        self._index.close()

    def abandon(self) -> None:
        """In a forked child: forget what belongs to the parent."""
        self._index.abandon()

    # ------------------------------------------------------------------ inside a transaction

    @contextmanager
    def _transaction(self) -> Iterator[Transaction]:
        if not self._made:
            with local():
                self.layout.make()
            self._made = True
        with self._index.transaction() as tx:
            yield tx

    def _missing(self, tx: Transaction, need_bytes: int) -> int:
        """How many bytes have to go before `need_bytes` more fit."""
        return tx.charged() + self.layout.index_bytes() + need_bytes - tx.limit()

    def _make_room(self, tx: Transaction, need_bytes: int, *, evict: bool) -> bool:
        """Whether `need_bytes` more fit, after evicting what is needed. Nothing is evicted in vain."""
        if self._missing(tx, need_bytes) > 0:
            self._reclaim(tx)
        missing = self._missing(tx, need_bytes)
        if missing <= 0:
            return True
        if not evict or sum(charge(entry.size) for entry in tx.entries()) < missing:
            return False
        return self._evict_some(tx, missing)

    def _evict_some(self, tx: Transaction, missing_bytes: int) -> bool:
        tx.touch(self._last_read())
        for entry in eviction_order(tx.entries()):
            if missing_bytes <= 0:
                break
            if self._evict(tx, entry.key):
                missing_bytes -= charge(entry.size)
                self._counters.add("evictions")
        return missing_bytes <= 0

    def _evict(self, tx: Transaction, key: str) -> bool:
        """Drop an object, unless somebody is reading it. Emptied first, so that files still open elsewhere hold no space."""
        if not _empty_and_unlink(self.layout.objects / key):
            return False
        tx.remove(key)
        return True

    def _reclaim(self, tx: Transaction) -> None:
        """Settle the reservations of dead processes: the file's lock is free."""
        for entry in tx.arriving():
            if not _empty_and_unlink(self.layout.partial / entry.key):
                continue
            if self.has(entry.key, entry.size):  # killed between rename and commit, or about to commit: equally complete
                tx.put(entry, arriving=False)
            else:
                self._evict(tx, entry.key)

    def _reconcile(self, tx: Transaction) -> None:
        """Make the index say what the directory holds."""
        self._reclaim(tx)
        rows = {entry.key: entry for entry in tx.entries()}
        arriving = {entry.key for entry in tx.arriving()}
        found = _files(self.layout.objects)
        for key in rows.keys() - found.keys():
            tx.remove(key)
        for key, stat in found.items():
            if stat.st_size == 0 or (key in rows and rows[key].size != stat.st_size):  # an eviction that was killed
                self._evict(tx, key)
            elif key not in rows and key not in arriving:
                tx.put(Entry(key, stat.st_size, stat.st_mtime_ns), arriving=False)
        for key, stat in _files(self.layout.partial).items():
            if key not in arriving and not _empty_and_unlink(self.layout.partial / key):
                tx.put(Entry(key, stat.st_size, stat.st_mtime_ns), arriving=True)
        if self._limit_bytes is not None:
            tx.set_limit(self._limit_bytes)
            self._evict_some(tx, self._missing(tx, 0))


def _empty_and_unlink(path: Path) -> bool:
    """Remove a file that nobody uses. False where somebody does; True where there is none."""
    try:
        with vacant(path) as fd:
            if fd is None:
                return False
            os.ftruncate(fd, 0)
            os.unlink(path)
    except FileNotFoundError:
        pass
    return True


def _files(folder: Path) -> dict[str, os.stat_result]:
    """The files of a hot tier in one of its folders."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_key(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    found[entry.name] = entry.stat()
    return found
