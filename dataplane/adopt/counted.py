"""Objects that count what is read of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from dataplane.objects import Objects
from dataplane.refs import ObjectRef
from dataplane.store import Store

__all__ = ["CountedObjects"]


class CountedObjects(Objects):
    """Objects, and how many `bytes_read` their ranges have cost: with what lies between neighbours that shared a request. Thread-safe."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.bytes_read = 0
        self._lock = threading.Lock()

    def ranges(self, ref: ObjectRef, *, starts: Sequence[int], lengths: Sequence[int]) -> Sequence[memoryview]:
        pieces = super().ranges(ref, starts=starts, lengths=lengths)
        self.count(sum(memoryview(answer).nbytes for answer in {id(piece.obj): piece.obj for piece in pieces}.values()))
        return pieces

    def count(self, read: int) -> None:
        """Count bytes that were read in another way."""
        with self._lock:
            self.bytes_read += read
