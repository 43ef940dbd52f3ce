"""Memory of batches, used again once nobody holds a view of it: fresh pages for every batch would cost a page fault each 4 KiB."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Allocate", "BufferPool"]

Allocate: TypeAlias = Callable[[tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]]
"""Makes an array of this shape and dtype with unspecified contents: `numpy.empty`, or what gives pinned memory."""

_UNSORTED: Final = 32  # pieces that may come back between two that are taken; more are let go of


class _Return(weakref.ref["_Lease"]):
    """Brings memory back when its lease has died. What is called then is no Python code: a signal that is handled there would be lost, and
    a lock that is taken there could be held by the very thread that drops the lease."""

    __slots__ = ("memory",)

    memory: npt.NDArray[Any]


class _Lease:
    """Owns one piece of memory while arrays on it live: numpy keeps it as the base of every view."""

    __slots__ = ("__array_interface__", "__weakref__", "_return")

    def __init__(self, memory: npt.NDArray[Any], returned: deque[_Return]) -> None:
        self.__array_interface__ = memory.__array_interface__
        self._return = _Return(self, returned.append)
        self._return.memory = memory


class BufferPool:
    """Hands out arrays; the memory of one comes back when its last view has died, whichever thread drops it.

    `keep` is how many idle pieces of one shape stay allocated, and times `fields` of all shapes: then those that came back longest ago
    are let go of. Thread-safe, and without locks.
    """

    def __init__(self, *, keep: int, fields: int = 1) -> None:
        self.keep = keep
        self._fields = fields
        self.allocate_with(np.empty)

    def allocate_with(self, allocate: Allocate, *, again: bool = True) -> None:
        """From now on, hand out memory that comes from there, and none that is older. Without `again` each piece is handed out once, for
        an allocator that keeps what comes back by itself."""
        self._allocate = allocate
        self._idle: dict[tuple[tuple[int, ...], str], list[npt.NDArray[Any]]] = {}
        self._returned: deque[_Return] = deque(maxlen=_UNSORTED if again else 0)

    def take(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array with unspecified contents."""
        dtype = np.dtype(dtype)
        self._sort()
        idle = self._idle.get((shape, dtype.str))
        try:
            memory = idle.pop() if idle else self._allocate(shape, dtype)
        except IndexError:  # another thread was faster
            memory = self._allocate(shape, dtype)
        return np.asarray(_Lease(memory, self._returned))

    def _sort(self) -> None:
        """Put what has come back where it is looked for, unless there is enough of it."""
        while self._returned:
            try:
                memory = self._returned.popleft().memory
            except IndexError:
                return
            shape = memory.shape, memory.dtype.str
            idle = self._idle.pop(shape, None) or []  # to the end; where two threads do this at once, some memory is let go of
            if len(idle) < self.keep:
                idle.append(memory)
            self._idle[shape] = idle
            self._forget()

    def _forget(self) -> None:
        """Let go of what has lain idle for longest, as far as it is too much."""
        with suppress(RuntimeError):  # another thread has changed what is looked through, and comes here too
            for shape in list(self._idle):
                if sum(map(len, self._idle.values())) <= self.keep * self._fields:
                    return
                self._idle.pop(shape, None)
