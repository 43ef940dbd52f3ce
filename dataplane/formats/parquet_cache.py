"""What was read of Parquet files is kept for a while, so that the rows beside a row cost nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

__all__ = ["Cache"]

K = TypeVar("K", bound=Hashable)


class Cache:
    """Decoded columns and other pieces of files (any objects stand for those), up to `limit_bytes`, the least recently used first to go;
    but what came last is kept whatever its size. 0 keeps nothing. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self.clear()

    def clear(self) -> None:
        """Forget everything, and who holds the lock: for a process that was forked off."""
        self._held: OrderedDict[tuple[object, Hashable], Any] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, file: object, wanted: Sequence[K]) -> dict[K, Any]:
        with self._lock:
            found = {piece: self._held[file, piece] for piece in wanted if (file, piece) in self._held}
            for piece in found:
                self._held.move_to_end((file, piece))
            return found

    def put(self, file: object, pieces: Mapping[K, Any]) -> None:
        """Keep pieces, each of which tells its `nbytes`."""
        if not self._limit:
            return
        with self._lock:
            for piece, data in pieces.items():
                if (file, piece) not in self._held:
                    self._bytes += data.nbytes
                    self._held[file, piece] = data
            while self._bytes > self._limit and len(self._held) > len(pieces):
                self._bytes -= self._held.popitem(last=False)[1].nbytes
