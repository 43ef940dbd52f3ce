"""Memory that is used again: fresh pages cost as much as what is written to them."""

from __future__ import annotations

import threading
from functools import cache
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Final

import numpy as np

__all__ = ["keep_freed_memory", "scratch"]

_KEPT_BYTES: Final = 30 << 20  # the largest block that glibc learns from has 32 MiB
_SCRATCH_BYTES: Final = 8 << 20  # more than that is not kept
_own = threading.local()


@cache
def keep_freed_memory() -> None:
    """Have the C library keep what is freed, up to 64 MB, and hand it out again. It gives memory at the top of its heap back otherwise, and
    has to fault it in anew for each batch of samples, which takes as long as reading them. A larger block that is freed teaches it (glibc
    adapts its thresholds to that); nobody touches this one, so it costs nothing."""
    np.empty(_KEPT_BYTES, np.uint8)


def scratch(size: int) -> memoryview:
    """Memory of this thread for `size` bytes, to read into: valid until the thread asks again. It begins a page, which makes a copy out of
    the page cache a third faster."""
    memory: mmap | None = getattr(_own, "memory", None)
    if memory is None or len(memory) < size:
        memory = mmap(-1, max(1, size), flags=MAP_PRIVATE | MAP_ANONYMOUS)  # a forked child has its own
        if size <= _SCRATCH_BYTES:
            _own.memory = memory
    return memoryview(memory)[:size]
