"""Memory of batches, used again once nobody holds a view of it: fresh pages for every batch would cost a page fault each 4 KiB."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BufferPool"]


class _Lease:
    """Owns one piece of memory while arrays on it live: numpy keeps it as the base of every view."""

    __slots__ = ("__array_interface__", "_memory", "_pool")

    def __init__(self, pool: BufferPool, memory: npt.NDArray[Any]) -> None:
        self._pool = pool
        self._memory = memory
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        self._pool._give_back(self._memory)


class BufferPool:
    """Hands out arrays; the memory of one comes back when its last view has died, whichever thread drops it.

    `keep` is how many idle pieces of one shape stay allocated. Thread-safe.
    """

    def __init__(self, *, keep: int) -> None:
        self._keep = keep
        self._idle: dict[tuple[tuple[int, ...], str], list[npt.NDArray[Any]]] = {}
        self._lock = threading.RLock()  # a collection inside `take` may run `__del__` on this very thread

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array with unspecified contents."""
        key = (shape, np.dtype(dtype).str)
        with self._lock:
            idle = self._idle.get(key)
            memory = idle.pop() if idle else None
        return np.asarray(_Lease(self, np.empty(shape, dtype) if memory is None else memory))

    def _give_back(self, memory: npt.NDArray[Any]) -> None:
        with self._lock:
            idle = self._idle.setdefault((memory.shape, memory.dtype.str), [])
            if len(idle) < self._keep:
                idle.append(memory)
