"""An object of a local store under way: written once, into the file that becomes the object.

Blocks go to the disk past the page cache where the file system takes that (`O_DIRECT`), and are hashed, on a thread of their own: whoever
fills the next block meanwhile has only copied. Nothing has a name before all of it is durable.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from blake3 import blake3

__all__ = ["LocalDraft"]

_BLOCK_BYTES: Final = 2 << 20
_BLOCKS: Final = 4
_ALIGNED_BYTES: Final = 4096  # what direct writes are a multiple of, whatever the disk's own sectors are


class LocalDraft:
    """The `Draft` of a folder.

    `fd` is an open, empty file, which this closes; `publish` gives it a name, durably; `remove` is called at the end, to take away what
    name it has had so far. `guard` turns the errors of the system into those of the store.
    """

    def __init__(
        self,
        fd: int,
        *,
        guard: Callable[[], AbstractContextManager[None]],
        publish: Callable[[int, str], None],
        remove: Callable[[], None],
    ) -> None:
        self.fd = fd
        self.size = 0
        self.path = Path(f"/proc/self/fd/{fd}")
        self._guard = guard
        self._publish = publish
        self._remove = remove
        self._hasher = blake3()
        self._spare = _blocks()
        self._filling = self._spare.pop()
        self._filled = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dataplane-draft")
        self._under_way: deque[Future[memoryview]] = deque()

    def write(self, data: Any) -> None:
        if type(data) is bytes and (end := self._filled + len(data)) < _BLOCK_BYTES:  # most of the time, and then this is all
            self._filling[self._filled : end] = data
            self._filled = end
            self.size += len(data)
            return
        view = memoryview(data).cast("B")
        self.size += len(view)
        while len(view):
            room = min(len(view), _BLOCK_BYTES - self._filled)
            self._filling[self._filled : self._filled + room] = view[:room]
            self._filled += room
            view = view[room:]
            if self._filled == _BLOCK_BYTES:
                self._flush()

    def finish(self) -> str:
        if self._filled:
            self._flush()
        while self._under_way:
            self._first()
        with self._guard():
            os.ftruncate(self.fd, self.size)
        return self._hasher.hexdigest()

    def publish(self, path: str) -> None:
        self._publish(self.fd, path)

    def close(self) -> None:
        if self.fd >= 0:
            self._thread.shutdown(cancel_futures=True)
            os.close(self.fd)
            self.fd = -1
            self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _flush(self) -> None:
        self._under_way.append(self._thread.submit(self._store, self._filling, self._filled))
        self._filling = self._spare.pop() if self._spare else self._first()
        self._filled = 0

    def _first(self) -> memoryview:
        """The block that is under way for the longest time, once it is written. One that could not be stays: nothing succeeds then."""
        with self._guard():
            block = self._under_way[0].result()
        self._under_way.popleft()
        return block

    def _store(self, block: memoryview, filled: int) -> memoryview:
        self._hasher.update(block[:filled])
        end = -(-filled // _ALIGNED_BYTES) * _ALIGNED_BYTES
        block[filled:end] = bytes(end - filled)
        view = block[:end]
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except OSError as error:
                flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
                if error.errno != errno.EINVAL or not flags & os.O_DIRECT:
                    raise
                fcntl.fcntl(self.fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)  # the file system asks for more than it says
        return block


def _blocks() -> list[memoryview]:
    """Memory to fill, in large pages where the system has them: a page costs as much as a quarter of what is copied into it."""
    memory = mmap.mmap(-1, _BLOCKS * _BLOCK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    whole = memoryview(memory)
    return [whole[start : start + _BLOCK_BYTES] for start in range(0, len(whole), _BLOCK_BYTES)]
