"""Bytes put aside on the local disk: what is read in pieces now and then, and is too much to keep in memory."""

from __future__ import annotations

import io
import os
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["Aside"]


class Aside:
    """An unnamed file in the system's temporary folder (`TMPDIR`): it goes with the last one who can read of it, however a process ends.
    Thread-safe; what lies there can be read in a forked process too. Raises `OSError` where there is no room."""

    def __init__(self) -> None:
        self._file = _Unnamed()
        self._end = 0
        self._lock = threading.Lock()

    def put(self, data: Any) -> Callable[[], io.RawIOBase]:
        """Put bytes there. What is returned opens them, as a file of their own, any number of times."""
        rest = memoryview(data).cast("B")
        with self._lock:
            start, self._end = self._end, self._end + len(rest)
            end = self._end
        while len(rest):
            rest = rest[os.pwrite(self._file.descriptor, rest, end - len(rest)) :]
        return partial(_Piece, self._file, start, end)


class _Unnamed:
    """A file without a name, closed when nobody has it any more."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            self.descriptor = os.dup(file.fileno())

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class _Piece(io.RawIOBase):
    """A file's bytes [start, end), with a position of its own."""

    def __init__(self, file: _Unnamed, start: int, end: int) -> None:
        self._file = file
        self._start, self._end = start, end
        self._at = start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: self._start, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at - self._start

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._file.descriptor, [memoryview(buffer)[: max(0, self._end - self._at)]], self._at)
        self._at += count
        return count
