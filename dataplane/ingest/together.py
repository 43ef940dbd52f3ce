"""Many small files of one folder read by one compiled call, each to its place in one buffer: opening, looking and closing from Python
takes longer than the bytes of a small file, and holds the interpreter that others wait for.

The functions of the system are called by their C signatures: those of Linux on machines of 64 bits, with any C library that has them.
`statx` has the same layout on every machine; `stat` has not.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import types

from dataplane.jit import compiled

__all__ = ["ODD", "SUPPORTED", "read_together"]

ODD: Final = -1
"""Instead of the time of a change: this file was not read, or has changed since it was listed. Reading it by itself tells why."""

_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO would block
_openat = types.ExternalFunction("openat", types.int32(types.int32, types.uintp, types.int32))
_read = types.ExternalFunction("read", types.intp(types.int32, types.uintp, types.uintp))
_close = types.ExternalFunction("close", types.int32(types.int32))
_statx = types.ExternalFunction("statx", types.int32(types.int32, types.uintp, types.int32, types.uint32, types.uintp))
SUPPORTED: Final = all(hasattr(ctypes.CDLL(None), name) for name in ("openat", "read", "close", "statx"))
"""Whether the C library has them all (glibc from 2.28 on, musl from 1.2.5). To call one that is not there would end the process."""

_EMPTY_PATH: Final = 0x1000  # AT_EMPTY_PATH: of the descriptor itself
_BASIC: Final = 0x7FF  # STATX_BASIC_STATS
_STATX_BYTES: Final = 256
_MODE, _SIZE, _SECONDS, _NANOSECONDS = 28 // 2, 40 // 8, 112 // 8, 120 // 4  # where they are in it, by their own size
_KIND: Final = 0o170000
_REGULAR: Final = 0o100000


def read_together(
    folder: int, names: bytes, sizes: npt.NDArray[np.int64], buffer: npt.NDArray[np.uint8], at: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Read files whole. `folder` is a descriptor of the folder that their names are relative to; `names` are those names, each ended by a
    zero byte; file `i` is to have `sizes[i]` bytes, and they go to `buffer[at[i]:]`. Releases the GIL; thread-safe.

    Gives when each file was last changed, in nanoseconds; ODD for one that is not as expected, and then its place may hold anything. A file
    of no bytes is ODD: the kernel's own (of `/proc`) say so, and hold some. All are where this is not SUPPORTED.
    """
    changed = np.full(len(sizes), ODD, np.int64)
    if SUPPORTED:
        _read_all(folder, np.frombuffer(names, np.uint8), sizes, buffer, at, changed)
    return changed


@compiled
def _read_all(  # noqa: PLR0917  (compiled functions take positions)
    folder: int, names: Any, sizes: Any, buffer: Any, at: Any, changed: Any
) -> None:
    status = np.empty(_STATX_BYTES // 8, np.int64)
    name = 0
    for i in range(len(sizes)):
        fd = -1
        if sizes[i]:
            fd = _openat(folder, names.ctypes.data + name, _FLAGS)
        while names[name]:
            name += 1
        if fd >= 0:
            before = _changed(fd, sizes[i], names.ctypes.data + name, status)
            if before != ODD and 0 <= at[i] <= len(buffer) - sizes[i] and _fill(fd, buffer.ctypes.data + at[i], sizes[i]):
                after = _changed(fd, sizes[i], names.ctypes.data + name, status)
                changed[i] = before if before == after else ODD
            _close(fd)
        name += 1


@compiled
def _changed(fd: int, size: int, empty: int, status: Any) -> int:
    """When a file was changed; ODD where it is not a file of `size` bytes. `empty` is the address of a zero byte."""
    if _statx(np.int32(fd), empty, np.int32(_EMPTY_PATH), np.uint32(_BASIC), status.ctypes.data) != 0:
        return ODD
    if status.view(np.uint16)[_MODE] & _KIND != _REGULAR or status[_SIZE] != size:
        return ODD
    return int(status[_SECONDS] * 1_000_000_000 + status.view(np.uint32)[_NANOSECONDS])


@compiled
def _fill(fd: int, to: int, size: int) -> bool:
    done = 0
    while done < size:
        n = _read(np.int32(fd), to + done, size - done)
        if n <= 0:
            return False
        done += n
    return True
