"""Files in the address space of the process, without an open file for each: a window touches hundreds, and often a thousand may be open."""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from functools import cache
from typing import Any, Final

from dataplane.errors import CorruptObject
from dataplane.objects import REMEDY
from dataplane.store.local import translated

__all__ = ["Identity", "Mapped", "identity", "mapped"]

Identity = tuple[int, int, int]
"""What a file is known by: device, inode, and when it was written."""

_FAILED: Final = ctypes.c_void_p(-1).value
_ABOUT_BYTES: Final = 256  # more than the C library says of a file system
_DISKS: Final = frozenset(
    {
        0xEF53,  # ext2 to ext4
        0x58465342,  # XFS
        0x9123683E,  # Btrfs
        0x2FC12FC1,  # ZFS
        0xF2F52010,  # F2FS
        0xCA451A4E,  # bcachefs
        0x01021994,  # tmpfs
        0x794C7630,  # overlayfs, of containers
    }
)
"""The file systems of this machine's own disks and memory, as statfs(2) calls them."""


class Mapped:
    """The bytes of a file, at `address` for as long as somebody holds this; also once it was removed, or another one has its name.

    They are to be touched only once they were read and found right: a page that cannot be read at all ends the process.
    """

    def __init__(self, address: int, size: int, identity: Identity) -> None:
        self.address = address
        self.identity = identity
        weakref.finalize(self, _libc().munmap, address, size).atexit = False


def mapped(path: str, size: int) -> Mapped | None:
    """A file of `size` bytes, mapped; None where the system maps no more, or it is not on a disk of this machine: what lies on a network
    may be lost while it is mapped, by another machine that removes it or a connection that breaks. Raises `NotFound`, `CorruptObject`,
    `StoreError`."""
    with translated(path), open(path, "rb") as file:
        found = os.fstat(file.fileno()).st_size
        if found != size:
            raise CorruptObject(f"{path} is damaged: it has {found} bytes instead of {size}; {REMEDY}")
        if not _is_on_disk(file.fileno()):
            return None
        address = _libc().mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file.fileno(), 0)
        return None if address == _FAILED else Mapped(int(address), size, identity(file.fileno()))


def identity(fd: int) -> Identity:
    """Of an open file."""
    about = os.fstat(fd)
    return about.st_dev, about.st_ino, about.st_mtime_ns


def _is_on_disk(fd: int) -> bool:
    about = (ctypes.c_long * (_ABOUT_BYTES // ctypes.sizeof(ctypes.c_long)))()
    return _libc().fstatfs(fd, about) == 0 and about[0] in _DISKS


@cache
def _libc() -> Any:
    """The C library: Python's own mapping keeps a file open."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.fstatfs.argtypes = [ctypes.c_int, ctypes.c_void_p]
    return library
