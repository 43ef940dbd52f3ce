"""The index of a hot tier in SQLite: entries, reserved room, the limit, counters.

WAL with synchronous=FULL, so it survives `kill -9` and power loss. It is derived data all the same: a complete file in the directory is
trustworthy without it, so an index that is damaged or gone is made anew and reconciled with the directory. Every connection
reconciles before its first use.

Processes that use the index hold the marker file's lock shared, and one that makes it anew holds it exclusively: so nobody
goes on writing into an index that is no longer the one in the directory.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from dataplane.errors import FormatTooNew
from tiering.layout import BLOCK_BYTES, FORMAT, Layout, local
from tiering.locks import lock_exclusive, lock_shared, unlock
from tiering.policy import Entry

__all__ = ["Index", "Transaction"]

_log = logging.getLogger("tiering")
_BUSY_SECONDS: Final = 60.0
_CHECKPOINT_PAGES: Final = 32
_DAMAGE: Final = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",
    f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
    f"journal_size_limit = {_CHECKPOINT_PAGES * BLOCK_BYTES}",
    "temp_store = MEMORY",
)
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS entries (
        key TEXT PRIMARY KEY, size INTEGER NOT NULL, used INTEGER NOT NULL, arriving INTEGER NOT NULL) WITHOUT ROWID""",
)


class _Damaged(sqlite3.DatabaseError):
    """SQLite's own check found the index damaged."""


class Transaction:
    """The index between BEGIN IMMEDIATE and COMMIT: nobody else changes it, in this process or another."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def limit(self) -> int:
        """The limit in bytes; 0 before one was set."""
        row = self._db.execute("SELECT value FROM meta WHERE name = 'limit_bytes'").fetchone()
        return int(row[0]) if row else 0

    def set_limit(self, limit_bytes: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('limit_bytes', ?)", (limit_bytes,))

    def charged(self) -> int:
        """What all entries, arriving ones included, count towards the limit; see `layout.charge`."""
        row = self._db.execute(f"SELECT COALESCE(SUM((size + {2 * BLOCK_BYTES - 1}) / {BLOCK_BYTES}), 0) FROM entries").fetchone()
        return int(row[0]) * BLOCK_BYTES

    def payload(self) -> tuple[int, int]:
        """Complete objects, and the bytes of all, arriving ones included."""
        row = self._db.execute("SELECT COUNT(*) - COALESCE(SUM(arriving), 0), COALESCE(SUM(size), 0) FROM entries").fetchone()
        return int(row[0]), int(row[1])

    def entries(self) -> list[Entry]:
        """The complete objects."""
        return [Entry(*row) for row in self._db.execute("SELECT key, size, used FROM entries WHERE NOT arriving")]

    def arriving(self) -> list[Entry]:
        """The objects that have room reserved and are not complete."""
        return [Entry(*row) for row in self._db.execute("SELECT key, size, used FROM entries WHERE arriving")]

    def put(self, entry: Entry, *, arriving: bool) -> None:
        self._db.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", (entry.key, entry.size, entry.used, int(arriving)))

    def remove(self, key: str) -> None:
        self._db.execute("DELETE FROM entries WHERE key = ?", (key,))

    def touch(self, used: Mapping[str, int]) -> None:
        """Record when objects were last read."""
        self._db.executemany("UPDATE entries SET used = MAX(used, ?) WHERE key = ?", [(when, key) for key, when in used.items()])

    def count(self, deltas: Mapping[str, int]) -> None:
        """Add to the counters that all processes share."""
        self._db.executemany(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value", list(deltas.items())
        )

    def counters(self) -> dict[str, int]:
        return {str(name): int(value) for name, value in self._db.execute("SELECT name, value FROM counters")}


class Index:
    """The index of one directory, for one process. Thread-safe: transactions of a process follow one another.

    `reconcile` is called in the first transaction of every connection.
    """

    def __init__(self, layout: Layout, *, reconcile: Callable[[Transaction], None]) -> None:
        self._layout = layout
        self._reconcile = reconcile
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._inode = -1
        self._guard: int | None = None
        self._closed = False

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction: committed at the end of the block, rolled back where it raises. Raises `Unusable` where there is no using
        the index: a read-only or full disk, damage (made good by the next transaction), a lock held for a minute."""
        with self._lock, local():
            guard = self._guarded()
            lock_shared(guard)
            try:
                db = self._current(guard)
                with self._watched(db), _committed(db):
                    yield Transaction(db)
            finally:
                unlock(guard)
                if self._closed:
                    self._give_back()

    def close(self) -> None:
        """Give the connection back. A transaction after this, of a read that is under way, opens another and gives it back at its end."""
        with self._lock:
            self._closed = True
            self._give_back()

    def _give_back(self) -> None:
        self._disconnect()
        if self._guard is not None:
            os.close(self._guard)
            self._guard = None

    def abandon(self) -> None:
        """In a forked child: forget what belongs to the parent. SQLite forbids even closing its connection here, so it is leaked."""
        if self._db is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._db))
            self._db = None
        if self._guard is not None:
            os.close(self._guard)
            self._guard = None

    def _guarded(self) -> int:
        if self._guard is None:
            self._guard = os.open(self._layout.marker, os.O_RDONLY)
        return self._guard

    def _current(self, guard: int) -> sqlite3.Connection:
        """The connection to the index that is in the directory now."""
        if self._db is None or self._inode != _inode(self._layout):
            self._disconnect()
            self._db = self._opened(guard)
            self._inode = _inode(self._layout)
        return self._db

    def _opened(self, guard: int) -> sqlite3.Connection:
        with suppress(sqlite3.DatabaseError):
            if self._layout.database.exists():
                return self._connect()
        lock_exclusive(guard)  # from here on nobody else uses the index
        try:
            return self._connect() if self._layout.database.exists() else self._anew()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            _log.warning("%s is damaged (%s); it is made anew from the files of the directory", self._layout.database, error)
            return self._anew()
        finally:
            lock_shared(guard)

    def _anew(self) -> sqlite3.Connection:
        for path in self._layout.database_files():
            path.unlink(missing_ok=True)
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        """A connection to an index that is sound, complete and reconciled."""
        db = sqlite3.connect(self._layout.database, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _configure(db, str(self._layout.database))
            with _committed(db):
                for table in _SCHEMA:
                    db.execute(table)
                self._reconcile(Transaction(db))
        except BaseException:
            db.close()
            raise
        return db

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    @contextmanager
    def _watched(self, db: sqlite3.Connection) -> Iterator[None]:
        """Drops a connection that met damage, so that the next transaction makes the index anew."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                self._disconnect()
            raise


@contextmanager
def _committed(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _configure(db: sqlite3.Connection, name: str) -> None:
    found = int(db.execute("PRAGMA user_version").fetchone()[0])
    if found > FORMAT:
        raise FormatTooNew(f"{name} has format {found}; this release knows {FORMAT}; upgrade, or name another folder")
    for pragma in _PRAGMAS:
        db.execute(f"PRAGMA {pragma}")
    if (verdict := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise _Damaged(verdict)
    if found < FORMAT:
        db.execute(f"PRAGMA user_version = {FORMAT}")


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return isinstance(error, _Damaged) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def _inode(layout: Layout) -> int:
    try:
        return os.stat(layout.database).st_ino
    except FileNotFoundError:
        return -1
