"""A file of a source as a file of this machine, to be read more than once without ever being in memory as a whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow as pa
from blake3 import blake3

from dataplane.errors import BadSample, InvalidArgument, NotFound, StoreError, StoreUnavailable
from dataplane.ingest.source import Entry, FolderSource, Source, StoreSource
from dataplane.store import Store
from dataplane.store.local import translated

__all__ = ["LocalFile", "local_file"]

_PIECE_BYTES: Final = 8 << 20
_CHANGED: Final = "it changed while it was read; run the command again"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """Where a file lies, the etag and the BLAKE3 of its bytes, and when it was changed, in nanoseconds."""

    path: str
    etag: str
    digest: bytes
    changed: int

    def open(self) -> Any:
        """The file, for Arrow to read from. Raises `BadSample`."""
        return _read(lambda: pa.OSFile(self.path))

    def check(self) -> None:
        """Raise `BadSample` where it has changed since."""
        if _read(lambda: os.stat(self.path)).st_mtime_ns != self.changed:
            raise BadSample(_CHANGED)


def local_file(source: Source, entry: Entry, scratch: Path) -> LocalFile:
    """The file itself where it is one of this machine, else a copy at `scratch`. Either way it has been read once, in pieces. Raises
    `BadSample` where its bytes cannot be had, `StoreUnavailable` where the whole source is out of reach."""
    digest = blake3()
    if isinstance(source, FolderSource):
        path = os.path.join(source.root, entry.name)
        found = _read(lambda: os.stat(path))
        if not stat.S_ISREG(found.st_mode):
            raise BadSample(_CHANGED)
        for piece in _pieces_of(path):
            digest.update(piece)
        local = LocalFile(path, source.etag(found), digest.digest(), found.st_mtime_ns)
        local.check()
        return local
    assert isinstance(source, StoreSource)
    store, before = source.store, _read(lambda: source.store.head(entry.name))
    with translated(scratch), scratch.open("wb") as copy:
        for start in range(0, entry.size, _PIECE_BYTES):
            piece = _read(partial(_range, store, entry.name, start, min(entry.size, start + _PIECE_BYTES)))
            digest.update(piece)
            copy.write(piece)
        after = _read(lambda: store.head(entry.name))
        if copy.tell() != entry.size or (before["e_tag"], before["size"]) != (after["e_tag"], after["size"]):
            raise BadSample(_CHANGED)
    return LocalFile(str(scratch), entry.etag, digest.digest(), scratch.stat().st_mtime_ns)


def _pieces_of(path: str) -> Iterator[bytes]:
    with _read(lambda: open(path, "rb")) as file:
        while piece := _read(lambda: file.read(_PIECE_BYTES)):
            yield piece


def _range(store: Store, path: str, start: int, end: int) -> bytes:
    return bytes(memoryview(store.get_range(path, start=start, end=end)))


def _read(read: Callable[[], T]) -> T:
    """What a source gives. Raises `BadSample` where it is this file that cannot be had."""
    try:
        return read()
    except StoreUnavailable:
        raise
    except (FileNotFoundError, NotFound) as error:
        raise BadSample("it vanished while the ingest was running") from error
    except (OSError, StoreError, InvalidArgument) as error:
        raise BadSample(f"it cannot be read: {error}") from error
