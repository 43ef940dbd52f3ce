"""flock(2) on the files of a hot tier: what keeps threads and processes apart.

A lock belongs to the open file, so two opens in one process exclude each other as two processes do, and the kernel drops it when
its holder dies. Every lock is released by name before its file is closed: a forked child may hold a copy of the descriptor.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["claim", "lock_exclusive", "lock_shared", "names", "try_exclusive", "try_shared", "unlock", "unlock_and_close", "vacant"]


def try_shared(fd: int) -> bool:
    """Take a shared lock, if that needs no waiting."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_exclusive(fd: int) -> bool:
    """Take the exclusive lock, if that needs no waiting."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_shared(fd: int) -> None:
    """Wait for a shared lock."""
    fcntl.flock(fd, fcntl.LOCK_SH)


def lock_exclusive(fd: int) -> None:
    """Wait for the exclusive lock."""
    fcntl.flock(fd, fcntl.LOCK_EX)


def unlock(fd: int) -> None:
    """Give the lock up."""
    fcntl.flock(fd, fcntl.LOCK_UN)


def unlock_and_close(fd: int) -> None:
    """Give the lock up, then the descriptor."""
    try:
        unlock(fd)
    finally:
        os.close(fd)


def names(path: Path, fd: int) -> bool:
    """Whether `path` is (still) the name of the open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def claim(path: Path, *, wait: bool) -> int | None:
    """The open file `path`, made if need be, with its exclusive lock: the caller alone fetches what it stands for.

    None where somebody else had it: with `wait`, he has finished by now, and the caller looks again at what there is.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    owned = False
    try:
        if wait:
            lock_exclusive(fd)
        elif not try_exclusive(fd):
            return None
        owned = names(path, fd)
        return fd if owned else None
    finally:
        if not owned:
            unlock_and_close(fd)


@contextmanager
def vacant(path: Path) -> Iterator[int | None]:
    """The open file `path` with its exclusive lock, or None where somebody uses it. Raises `FileNotFoundError`."""
    fd = os.open(path, os.O_RDWR)
    try:
        yield fd if try_exclusive(fd) and names(path, fd) else None
    finally:
        unlock_and_close(fd)
