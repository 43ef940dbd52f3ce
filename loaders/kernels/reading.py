"""Ranges of a file read to where they stay and checked, in one compiled call: while it lasts, other threads have the interpreter."""

from __future__ import annotations

from typing import Any

import numpy as np

from dataplane.crc import crc32c_of
from dataplane.jit import compiled
from loaders.kernels.memory import pread

__all__ = ["read_checked"]


@compiled
def read_checked(files: Any, starts: Any, sizes: Any, crcs: Any, to: Any, good: Any) -> None:  # noqa: PLR0917  (compiled functions take positions)
    """Where `good[i]` (bool), read `sizes[i]` bytes from `starts[i]` of the open file `files[i]` (int32) to the address `to[i]` (int64, as
    those before). It stays good where they are all there and have the CRC-32C `crcs[i]` (-1: nobody knows it). Each range is checked while
    it is in the processor's cache."""
    for i in range(len(good)):
        done = 0
        while good[i] and done < sizes[i]:
            n = pread(files[i], to[i] + done, np.uint64(sizes[i] - done), starts[i] + done)
            good[i] = n > 0  # an error, or the end: reading it in another way tells which
            done += n
        if good[i] and crcs[i] >= 0:
            good[i] = crc32c_of(to[i], sizes[i]) == crcs[i]
