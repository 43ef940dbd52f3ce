"""Sources: where the files of an ingest lie. A folder of this machine, or anything that `open_store` opens.

A source lists every file once, says which ones it could not even list, and reads one at a time. Nothing is ever written into it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from dataplane.errors import BadSample, InvalidArgument, NotFound, PermissionDenied, StoreError, StoreUnavailable
from dataplane.ingest.options import Bad
from dataplane.store import Store, open_store, split_url
from dataplane.store.local import translated

__all__ = ["Entry", "FolderSource", "Listing", "Source", "StoreSource", "Together", "open_source"]

_IGNORED: Final = {"thumbs.db", "desktop.ini"}
_TELL_EVERY: Final = 1000
_CHANGED: Final = "it changed while it was read; run the command again"

Inode = tuple[int, int]
Etags = list[str | None]  # a source has a method of the name `list`


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a source. `path` is its path below the source's root as reports show it: bytes that are not UTF-8 are written `\\xff`.
    `name` is what the source itself calls it. `etag` changes when the file does."""

    path: str
    name: str
    size: int
    etag: str


@dataclass(slots=True)
class Listing:
    """What a source holds. `unread` are folders whose content is unknown: nothing can be said to have gone from them."""

    entries: list[Entry] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    ignored: int = 0


class Source(Protocol):
    """Where files lie. It may be pickled, and used in a spawned process; reading is thread-safe."""

    @property
    def url(self) -> str:
        """The root, without credentials: for reports, and to tell sources apart."""
        ...

    @property
    def readers(self) -> int:
        """How many reads at once make sense for one process."""
        ...

    @property
    def bunch(self) -> int:
        """How many files one reader takes at a time: more than one where passing a file on takes about as long as reading it."""
        ...

    def list(self, found: Callable[[int], None]) -> Listing:
        """Every file, sorted by path. `found` hears now and then how many there are so far."""
        ...

    def read(self, entry: Entry, limit: int | None = None) -> tuple[bytes, str]:
        """The bytes of a file (the first `limit`), and the etag of just these bytes. Raises `BadSample` where they cannot be had, and
        `StoreUnavailable` where the whole source is out of reach."""
        ...


@runtime_checkable
class Together(Protocol):
    """A source that reads many small files at once for less than it takes to read them one by one."""

    def read_together(self, entries: Sequence[Entry], buffer: npt.NDArray[np.uint8], at: npt.NDArray[np.int64]) -> list[str | None]:
        """Read files to `buffer[at[i] : at[i] + size]`, by the sizes that they are listed with. The etag of the bytes of each; None where
        they could not be had like this: `read` says why. Lets go of the interpreter."""
        ...


def open_source(url: str, *, apart: Sequence[str]) -> Source:
    """The source at `url`: a folder, a file, a `file://` URL, or the URL of a store or an object. `apart` are folders, files or URLs that
    may lie inside but are no part of it: the lake, a file of labels. Raises `NotFound` or `InvalidArgument` where nothing is there."""
    if "://" in url and not url.lower().startswith("file://"):
        one = _one_object(url)
        if one is not None:
            return one
        store = open_store(url)
        inside = tuple(other[len(store.url) :].strip("/") for other in apart if f"{other}/".startswith(f"{store.url}/"))
        if "" in inside:
            raise InvalidArgument(f"{store.url} is the lake itself; give the place that holds the data")
        return StoreSource(store, inside)
    root = Path(unquote(urlsplit(url).path) if "://" in url else url).absolute()
    with translated(root):
        if not root.exists():
            raise NotFound(f"{root} does not exist; give the folder that holds the data, or a URL such as s3://bucket/prefix")
    if root.is_file():
        return FolderSource(str(root.parent), frozenset(), only=root.name)
    skip = frozenset(_inode(Path(other)) for other in apart if "://" not in other and Path(other).exists())
    real = root.resolve()
    if any(_inode(folder) in skip for folder in (real, *real.parents)):
        raise InvalidArgument(f"{root} lies inside the lake; give the folder that holds the data")
    return FolderSource(str(root), skip)


def _one_object(url: str) -> Source | None:
    """The source that is one object, where a URL is that of an object."""
    root, path = split_url(url)
    if not path or path.endswith("/") or root.endswith(":/"):
        return None
    store = open_store(root)
    try:
        store.head(path)
    except (NotFound, PermissionDenied, InvalidArgument):
        return None
    return StoreSource(store, (), only=path)


def _inode(path: Path) -> Inode:
    status = path.stat()
    return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder of this machine. Symbolic links are followed; files and folders whose names start with a dot are not part of it.

    The etag of a file is made of the root, its size and its modification time: as with rsync, a file that changes without changing
    either is not noticed.
    """

    root: str
    skip: frozenset[Inode]
    only: str | None = None  # the one file that is meant

    @property
    def url(self) -> str:
        return _shown(self.root if self.only is None else os.path.join(self.root, self.only))

    @property
    def readers(self) -> int:
        return 4

    @property
    def bunch(self) -> int:
        return 4

    def list(self, found: Callable[[int], None]) -> Listing:
        listing = Listing()
        for entry in _Walk(self, listing):
            listing.entries.append(entry)
            if len(listing.entries) % _TELL_EVERY == 0:
                found(len(listing.entries))
        listing.entries.sort(key=lambda entry: entry.path)
        return listing

    def read(self, entry: Entry, limit: int | None = None) -> tuple[bytes, str]:
        try:
            fd = os.open(os.path.join(self.root, entry.name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would block
            try:
                before = os.fstat(fd)
                if not stat.S_ISREG(before.st_mode):
                    raise BadSample(_kind(before.st_mode))
                data = _read(fd, before.st_size) if limit is None else os.read(fd, limit)
                after = os.fstat(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise BadSample(_reason(error)) from error
        etag = self.etag(before)
        if (after.st_mtime_ns, after.st_size) != (before.st_mtime_ns, before.st_size) or (limit is None and len(data) != before.st_size):
            raise BadSample(_CHANGED)
        return data, etag

    def read_together(self, entries: Sequence[Entry], buffer: npt.NDArray[np.uint8], at: npt.NDArray[np.int64]) -> Etags:
        from dataplane.ingest.together import ODD, read_together  # loads numba

        try:
            folder = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return [None] * len(entries)
        try:
            names = b"".join(os.fsencode(entry.name) + b"\0" for entry in entries)
            changed = read_together(folder, names, np.array([entry.size for entry in entries], np.int64), buffer, at).tolist()
        finally:
            os.close(folder)
        return [None if time == ODD else self._etag(time, entry.size) for entry, time in zip(entries, changed, strict=True)]

    def etag(self, found: os.stat_result) -> str:
        """The fingerprint of a file. The root is part of it, since files of different trees may well have equal sizes and times."""
        return self._etag(found.st_mtime_ns, found.st_size)

    def _etag(self, changed: int, size: int) -> str:
        return f"{_tag(self.root)}-{changed:x}-{size:x}"


@lru_cache(maxsize=16)
def _tag(root: str) -> str:
    return blake3(os.fsencode(root)).hexdigest(4)


def _read(fd: int, size: int) -> bytes:
    """All of a file that had `size` bytes a moment ago; where it has changed, not as many. Linux gives 2 GiB at once at most."""
    data = os.read(fd, size + 1)
    while 0 < len(data) < size and (more := os.read(fd, size - len(data))):
        data += more
    return data


class _Walk:
    """The files below a folder source, folder by folder. What cannot be listed goes into the listing."""

    def __init__(self, source: FolderSource, listing: Listing) -> None:
        self.source = source
        self.listing = listing

    def __iter__(self) -> Iterator[Entry]:
        with translated(self.source.root):
            top = os.stat(self.source.root)
        waiting: list[tuple[str, frozenset[Inode]]] = [("", frozenset({(top.st_dev, top.st_ino)}))]
        while waiting:
            folder, above = waiting.pop()
            try:
                with os.scandir(os.path.join(self.source.root, folder)) as found:
                    items = sorted((item for item in found if self.source.only in {None, item.name}), key=lambda item: item.name)
            except OSError as error:
                self._bad(folder, _reason(error))
                self.listing.unread.append(_shown(folder))
                continue
            for item in items:
                name = f"{folder}/{item.name}" if folder else item.name
                if _hidden(item.name):
                    self.listing.ignored += 1
                    continue
                try:
                    status = item.stat()
                except OSError as error:
                    dangling = item.is_symlink() and error.errno == errno.ENOENT
                    self._bad(name, "a symbolic link to nothing" if dangling else _reason(error))
                    self.listing.unread.append(_shown(name))  # it may be a folder
                    continue
                inode = (status.st_dev, status.st_ino)
                if inode in self.source.skip:
                    self.listing.ignored += 1
                elif stat.S_ISDIR(status.st_mode):
                    if inode in above:
                        self._bad(name, "a symbolic link back to a folder that holds it: a loop")
                    else:
                        waiting.append((name, above | {inode}))
                elif stat.S_ISREG(status.st_mode):
                    yield Entry(_shown(name), name, status.st_size, self.source.etag(status))
                else:
                    self._bad(name, _kind(status.st_mode))

    def _bad(self, name: str, reason: str) -> None:
        self.listing.bad.append(Bad(_shown(name) or ".", reason))


@dataclass(frozen=True, slots=True)
class StoreSource:
    """The objects below a store's root. Hidden names are ignored as in a folder, and what lies at or below the paths `skip`."""

    store: Store
    skip: tuple[str, ...]
    only: str | None = None  # the one object that is meant

    @property
    def url(self) -> str:
        return self.store.url if self.only is None else f"{self.store.url}/{self.only}"

    @property
    def readers(self) -> int:
        return 16

    @property
    def bunch(self) -> int:
        return 1

    def list(self, found: Callable[[int], None]) -> Listing:
        listing = Listing()
        for chunk in self.store.list() if self.only is None else [[self.store.head(self.only)]]:
            for meta in chunk:
                path = meta["path"]
                outside = any(f"{path}/".startswith(f"{other}/") for other in self.skip)
                if outside or path.endswith("/") or any(_hidden(part) for part in path.split("/")):
                    listing.ignored += 1
                else:
                    listing.entries.append(Entry(_shown(self._below(path)), path, meta["size"], _store_etag(meta["e_tag"], meta["size"])))
            found(len(listing.entries))
        listing.entries.sort(key=lambda entry: entry.path)
        return listing

    def _below(self, path: str) -> str:
        return path if self.only is None else path.rpartition("/")[2]

    def read(self, entry: Entry, limit: int | None = None) -> tuple[bytes, str]:
        try:
            if limit is not None:
                return bytes(memoryview(self.store.get_range(entry.name, start=0, end=min(limit, entry.size)))), entry.etag
            got = self.store.get(entry.name)
            data = bytes(memoryview(got.buffer()))
        except StoreUnavailable:
            raise
        except NotFound as error:
            raise BadSample("it vanished while the ingest was running") from error
        except (StoreError, InvalidArgument) as error:
            raise BadSample(f"it cannot be read: {error}") from error
        return data, _store_etag(got.meta["e_tag"], len(data))


def _store_etag(etag: str | None, size: int) -> str:
    return f"{(etag or '').strip(chr(34))}-{size:x}"


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _IGNORED


def _shown(name: str) -> str:
    """A file name as text: what is not UTF-8 in it becomes `\\xff` escapes."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def _kind(mode: int) -> str:
    for test, word in ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder")):
        if test(mode):
            return f"{word}, not a file"
    return "a device, not a file"


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "a symbolic link that leads to itself: a loop"
    if error.errno == errno.ENOENT:
        return "it vanished while the ingest was running"
    return f"it cannot be read: {error.strerror or error}"
