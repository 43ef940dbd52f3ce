"""The open files of complete objects, for one process.

Opening a file for every read costs about 5 µs, which is most of what a hot read of 100 KB costs beyond the copy; locking and unlocking an
open file costs 1. So files stay open between reads, up to a number. A reader has an open file to itself, with the shared lock, and puts
it back afterwards; concurrent readers of one object use several. So no count of readers is kept, and a read takes no lock of Python's.

Between reads nothing is locked, and another process may evict the object. It empties the file first, so an open file holds no space,
and a read of it comes back short; that is how a reader learns that it has to look again.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tiering.locks import lock_shared, try_shared, unlock, unlock_and_close

__all__ = ["Handle", "Handles"]


@dataclass(slots=True, eq=False)
class Handle:
    """An open file, the list it lies in while idle, and what was read through it. `last_read`: monotonic clock, nanoseconds."""

    key: str
    fd: int
    home: list[Handle]
    size: int
    last_read: int
    hits: int = 0
    hit_bytes: int = 0


class Handles:
    """Open files below `folder`; idle ones are closed, least recently read first, while there are more than `max_open`. Thread-safe.

    A handle belongs to whoever got it until he calls `release` or `discard`.
    """

    def __init__(self, folder: Path, *, max_open: int) -> None:
        self._folder = str(folder)
        self._max_open = max_open
        self._idle: dict[str, list[Handle]] = {}  # whoever takes a handle out of its list owns it; that is atomic
        self._lock = threading.Lock()  # guards what follows
        self._all: set[Handle] = set()
        self._closed = False
        self._last_read: dict[str, int] = {}  # of handles that were closed
        self._last_taken = 0
        self._hits = self._hit_bytes = 0  # of handles that were closed, less what was taken

    def acquire(self, key: str) -> Handle | None:
        """A file that is open already and can be locked at once. Its object may have been evicted since it was opened."""
        idle = self._idle.get(key)
        if not idle:
            return None
        try:
            handle = idle.pop()
        except IndexError:  # another thread was faster
            return None
        if not try_shared(handle.fd):
            self._close(handle)
            return None
        handle.last_read = time.monotonic_ns()
        return handle

    def open(self, key: str, *, size: int | None) -> Handle | None:
        """A freshly opened complete object, or None where there is no such file, or (with `size`) one of another size.

        Waits while another process has the file to itself: it puts it in place, or evicts it.
        """
        path = f"{self._folder}/{key}"
        while True:
            try:
                fd = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                return None
            handle = Handle(key, fd, self._idle.setdefault(key, []), size=0, last_read=time.monotonic_ns())
            with self._lock:
                self._all.add(handle)
            good = linked = False
            try:
                lock_shared(fd)
                stat = os.fstat(fd)
                handle.size = stat.st_size
                linked = stat.st_nlink > 0
                good = linked and stat.st_size > 0 and size in {None, stat.st_size}
            finally:
                if not good:
                    self._close(handle)
            if good:
                self._trim()
                return handle
            if linked:
                return None

    def release(self, handle: Handle, *, hit_bytes: int = 0) -> None:
        """Put a handle back, after a hit of so many bytes if it was one."""
        if hit_bytes:
            handle.hits += 1
            handle.hit_bytes += hit_bytes
        unlock(handle.fd)
        handle.home.append(handle)
        if self._closed:
            self._close_idle(handle)

    def discard(self, handle: Handle) -> None:
        """Close a handle whose object was evicted or is bad."""
        self._close(handle)

    def take_last_read(self) -> dict[str, int]:
        """When each key was last asked for, in nanoseconds since 1970, of those asked for since the last call."""
        with self._lock:
            monotonic, self._last_read = self._last_read, {}
            for handle in self._all:
                if handle.last_read > self._last_taken:
                    monotonic[handle.key] = max(handle.last_read, monotonic.get(handle.key, 0))
            self._last_taken = time.monotonic_ns()
            since_1970 = time.time_ns() - self._last_taken
        return {key: when + since_1970 for key, when in monotonic.items()}

    def hits(self) -> tuple[int, int]:
        """Hits so far, and the bytes they served."""
        with self._lock:
            return (
                self._hits + sum(handle.hits for handle in self._all),
                self._hit_bytes + sum(handle.hit_bytes for handle in self._all),
            )

    def close(self) -> None:
        """Close all files; those that have an owner, when they come back."""
        self._closed = True
        for handle in list(self._all):
            self._close_idle(handle)

    def abandon(self) -> None:
        """In a forked child: close the parent's files, and leave its locks alone."""
        for handle in self._all:
            os.close(handle.fd)
        self._all.clear()
        self._idle.clear()

    def _trim(self) -> None:
        with self._lock:
            surplus = len(self._all) - self._max_open
            oldest = sorted(self._all, key=lambda handle: handle.last_read) if surplus > 0 else []
        for handle in oldest:
            if surplus <= 0:
                break
            surplus -= self._close_idle(handle)

    def _close_idle(self, handle: Handle) -> bool:
        """Close a handle, unless it has an owner."""
        with suppress(ValueError):
            handle.home.remove(handle)
            self._close(handle)
            return True
        return False

    def _close(self, handle: Handle) -> None:
        with self._lock:
            self._all.discard(handle)
            self._last_read[handle.key] = max(handle.last_read, self._last_read.get(handle.key, 0))
            self._hits += handle.hits
            self._hit_bytes += handle.hit_bytes
        unlock_and_close(handle.fd)
