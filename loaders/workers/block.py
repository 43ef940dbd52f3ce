"""Memory that two processes share and nobody else can find: it has no name, so it is gone when both are, whatever ended them."""

from __future__ import annotations

import mmap
import os
from multiprocessing import reduction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["Block"]

_STEP: Final = 1 << 20  # bytes: it grows by at least this


class Block:
    """A piece of memory that grows. One process makes it and passes it to a process that it starts; the two take turns, which is all there
    is of locking. The other one looks again whenever it hears of another `size`."""

    def __init__(self, fd: int | None = None) -> None:
        self._fd = os.memfd_create("dataplane-map") if fd is None else fd
        self._memory: npt.NDArray[np.uint8] = np.empty(0, np.uint8)

    def __reduce__(self) -> tuple[Any, ...]:  # on the way to a process that is being started
        return _received, (reduction.DupFd(self._fd),)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._memory)

    def reserve(self, size: int) -> None:
        """Have at least `size` bytes. What was in it stays; arrays of before show the old part of it. Raises
        `MemoryError`."""
        if size > self.size:
            size += -size % _STEP
            try:
                os.ftruncate(self._fd, size)
            except OSError as error:
                raise MemoryError(f"a worker process needs {size:,} bytes of shared memory: {error}") from error
            self.look(size)

    def look(self, size: int) -> None:
        """See all of it, where the other process has made it `size` bytes. Raises `MemoryError`."""
        if size != self.size:
            try:
                memory = mmap.mmap(self._fd, size)
            except OSError as error:
                raise MemoryError(f"a worker process cannot have {size:,} bytes of shared memory: {error}") from error
            self._memory = np.frombuffer(memory, np.uint8)  # it is unmapped with the last array on it

    def array(self, offset: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The array at `offset`."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return self._memory[offset : offset + size].view(dtype).reshape(shape)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        self._memory = np.empty(0, np.uint8)


def _received(passed: Any) -> Block:
    return Block(passed.detach())
