"""Scratch folders: where shards are written before they go into the lake.

A folder belongs to the process that holds its lock, so a later run can tell what a killed one left behind, and removes just that.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dataplane.store.local import translated

__all__ = ["scratch"]

_PREFIX: Final = "dataplane-ingest-"


@contextmanager
def scratch() -> Iterator[Path]:
    """A private folder below the system's temporary folder (`TMPDIR`), removed at the end. Folders of processes that are gone go too."""
    parent = Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    path, lock = _make(parent)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _make(parent: Path) -> tuple[Path, int]:
    while True:
        with translated(parent):
            path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = _lock(path, fcntl.LOCK_EX)
        if lock is not None:
            return path, lock


def _lock(path: Path, how: int) -> int | None:
    """A descriptor that holds the lock of a folder; None where another process holds it, or has removed the folder meanwhile."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, how)
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return fd
    except OSError:
        pass
    os.close(fd)
    return None


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*"):
        try:
            found = path.lstat()
        except FileNotFoundError:  # another run has just removed it
            continue
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            continue
        lock = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
