"""Ranges of a folder's files read and checked together: one compiled call for all of them, without the interpreter's lock.

Between the decoding of two pictures, Python's code and data fall out of the processor's caches, and the lock has to be had again for
every call: work that is done for some samples at once takes a quarter of the time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import numpy as np
import numpy.typing as npt

from dataplane.crc import HARDWARE
from dataplane.errors import DataplaneError
from dataplane.formats.index import Placed
from dataplane.refs import Digest
from dataplane.store import Store
from dataplane.store.local import LocalStore
from loaders.kernels.reading import read_checked

__all__ = ["Together", "pieces"]

_LINE: Final = 64  # bytes: no two ranges share a line of the caches
_MOST: Final = 16  # ranges' worth of scratch memory, for whoever works on some at once
_MOST_BYTES: Final = 1 << 20  # what a core keeps for itself, as a rule


def pieces(spans: Sequence[int]) -> list[slice]:
    """Consecutive spans, of these sizes in bytes, that are read together: as many as stay in the caches until they are used, or one."""
    found, start, size = [], 0, 0
    for n, span in enumerate(spans):
        if n > start and (size + span > _MOST_BYTES or n - start == _MOST):
            found.append(slice(start, n))
            start, size = n, 0
        size += span
    return [*found, slice(start, len(spans))] if spans else found


class Together:
    """Reads ranges of the objects of a folder into a scratch of its own. Not thread-safe."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._room(0)

    @classmethod
    def of(cls, store: Store) -> Together | None:
        """For a store that is a folder, on a processor that can check them."""
        return cls(store) if HARDWARE and isinstance(store, LocalStore) else None

    def read(self, asked: Sequence[tuple[Digest, Placed]]) -> list[npt.NDArray[np.uint8] | None]:
        """The bytes at each place of an object, until the next call; None where they are not there, or not what their CRC says: reading
        them in another way tells why."""
        places = [place for _, place in asked]
        at, end = [], 0
        for place in places:
            at.append(end)
            end += -(-place.size // _LINE) * _LINE
        if end > self._scratch.size:
            self._room(end)
        crcs = [-1 if place.crc32c is None else place.crc32c for place in places]
        numbers = [[place.offset for place in places], [place.size for place in places], crcs, [self._address + start for start in at]]
        table = np.array(numbers, np.int64)
        opened: dict[Digest, int] = {}
        try:
            for ref in dict.fromkeys(ref for ref, _ in asked):
                with suppress(DataplaneError):
                    opened[ref] = self._store.descriptor(ref)
            files = np.array([opened.get(ref, -1) for ref, _ in asked], np.int32)
            good = files >= 0
            read_checked(files, table[0], table[1], table[2], table[3], good)
        finally:
            for fd in opened.values():
                os.close(fd)
        return [
            self._scratch[start : start + place.size] if whole else None
            for place, start, whole in zip(places, at, good.tolist(), strict=True)
        ]

    def _room(self, size: int) -> None:
        self._scratch: npt.NDArray[np.uint8] = np.empty(max(size, _MOST_BYTES), np.uint8)
        self._address = self._scratch.ctypes.data
