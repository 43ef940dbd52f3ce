"""A store in a folder, with durable writes: a put that returned survives power loss.

The order of a put is: write the file, fsync it, link it under its name, fsync the folder, and fsync the parent of every folder
that may be new. Bytes are written to an unnamed file (O_TMPFILE) where the file system has them, so that a killed writer leaves
nothing behind; elsewhere to a file below `.tmp`.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dataplane.errors import (
    AlreadyExists,
    CorruptObject,
    DataplaneError,
    NotFound,
    PermissionDenied,
    SourceChanged,
    StorageFull,
    StoreError,
)
from dataplane.ranges import bounds, resolve_option
from dataplane.refs import Digest, ObjectRef
from dataplane.store.draft import LocalDraft
from dataplane.store.paths import check_path
from dataplane.store.protocol import CHUNK_BYTES, MAX_CONCURRENCY
from dataplane.store.result import BufferResult

if TYPE_CHECKING:
    from obspec import Attributes, GetOptions, GetResult, ListResult, ObjectMeta, PutMode, PutResult
    from typing_extensions import Buffer

__all__ = ["LocalStore", "fsync_directory", "preadv_full", "translated"]

_TEMPORARY = ".tmp"
_NO_TMPFILE = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}


@contextmanager
def translated(path: str | Path) -> Iterator[None]:
    """Turns an OSError of the block into this project's error about `path`."""
    try:
        yield
    except DataplaneError:
        raise
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFound(f"{path}: no such object") from error
    except PermissionError as error:
        raise PermissionDenied(f"{path}: {error.strerror}; check the owner and the mode of the folder") from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StorageFull(f"{path}: {error.strerror}; free some space and run the same command again") from error
        raise StoreError(f"{path}: {error.strerror or error}") from error


def fsync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class LocalStore:
    """The store of `file://` URLs and plain paths. The folder is made by the first put."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self._prefix = os.path.join(self.root, "")
        self._durable: set[Path] = set()  # folders whose whole chain of names was fsynced by this process
        self._above: Path | None = None  # the nearest folder above the root that was there before the first put
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"LocalStore({str(self.root)!r})"

    def __reduce__(self) -> tuple[type[LocalStore], tuple[str]]:
        return LocalStore, (str(self.root),)

    @property
    def url(self) -> str:
        return str(self.root)

    # ------------------------------------------------------------------ reading

    def get(self, path: str, *, options: GetOptions | None = None) -> GetResult:
        file = self._file(path)
        with translated(file), open(file, "rb") as stream:
            meta = _meta(path, os.fstat(stream.fileno()))
            span = resolve_option(options.get("range") if options else None, meta["size"])
            stream.seek(span.start)
            return BufferResult(stream.read(len(span)), meta, span.start)

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> Buffer:
        return self.get_ranges(path, starts=[start], ends=None if end is None else [end], lengths=None if length is None else [length])[0]

    def get_ranges(
        self, path: str, *, starts: Sequence[int], ends: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> Sequence[Buffer]:
        spans = bounds(starts, ends, lengths)
        return list(self.pieces(path, starts=[start for start, _ in spans], lengths=[end - start for start, end in spans]))

    def pieces(self, path: str, *, starts: Sequence[int], lengths: Sequence[int]) -> Iterator[bytes]:
        """What `get_ranges` gives, each read when it is asked for: then its bytes are still in the processor's cache, and only one piece
        is in memory where the caller lets go of them. The file is opened at the first and closed before the last is handed over."""
        if not starts:
            return
        file = self._name(path)
        with translated(file):
            fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)  # making a file object takes nearly twice as long
            try:
                for start, length in zip(starts[:-1], lengths[:-1], strict=True):
                    yield _pread(fd, start, length)  # which nothing here refers to: memory that was just freed serves the next one
                last = [_pread(fd, starts[-1], lengths[-1])]
            finally:
                os.close(fd)
        yield last.pop()

    def get_ranges_matching(self, path: str, *, starts: Sequence[int], lengths: Sequence[int], etag: str) -> Sequence[Buffer]:
        spans = bounds(starts, None, lengths)
        file = self._name(path)
        with translated(file), open(file, "rb", buffering=0) as stream:
            pieces = [_pread(stream.fileno(), start, end - start) for start, end in spans]
            now = _etag(os.fstat(stream.fileno()))  # after reading: a write in place before or meanwhile has changed it
        if now != etag:
            raise SourceChanged(f"{file} has changed: its etag is {now}, {etag} was expected")
        return pieces

    def head(self, path: str) -> ObjectMeta:
        file = self._file(path)
        with translated(file):
            found = os.stat(file)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(file)
            return _meta(path, found)

    def list(self, prefix: str | None = None, *, offset: str | None = None) -> Iterator[Sequence[ObjectMeta]]:
        top = self.root / check_path(prefix.rstrip("/")) if prefix else self.root
        for folder, subfolders, names in os.walk(top, onerror=_unless_gone):
            subfolders.sort()
            if Path(folder) == self.root and _TEMPORARY in subfolders:
                subfolders.remove(_TEMPORARY)
            chunk = []
            for name in sorted(names):
                file = Path(folder, name)
                path = file.relative_to(self.root).as_posix()
                if offset is None or path > offset:
                    try:
                        chunk.append(_meta(path, file.stat()))
                    except FileNotFoundError:  # removed since the folder was read
                        continue
            if chunk:
                yield chunk

    def list_with_delimiter(self, prefix: str | None = None) -> ListResult[Sequence[ObjectMeta]]:
        top = self.root / check_path(prefix.rstrip("/")) if prefix else self.root
        base = f"{prefix.rstrip('/')}/" if prefix else ""
        with translated(top):
            found = sorted(os.scandir(top), key=lambda item: item.name) if top.is_dir() else []
            return {
                "common_prefixes": [base + item.name for item in found if item.is_dir() and item.name != _TEMPORARY],
                "objects": [_meta(base + item.name, item.stat()) for item in found if item.is_file()],
            }

    def local_path(self, ref: ObjectRef) -> Path | None:
        if not isinstance(ref, Digest):
            return None
        file = self._file(ref.path)
        return file if file.is_file() else None

    def read_into(self, ref: ObjectRef, *, start: int, buffer: Any) -> None:
        if not isinstance(ref, Digest):
            raise NotFound(f"{ref}: not an object of {self.root}")
        file = self._name(ref.path)
        with translated(file):
            fd = os.open(file, os.O_RDONLY)  # making a file object takes nearly twice as long
            try:
                preadv_full(fd, buffer, start, name=file)
            finally:
                os.close(fd)

    def descriptor(self, ref: Digest) -> int:
        """An open file, to read an object from; the caller closes it."""
        file = self._name(ref.path)
        with translated(file):
            return os.open(file, os.O_RDONLY | os.O_CLOEXEC)

    # ------------------------------------------------------------------ writing

    def put(
        self,
        path: str,
        file: IO[bytes] | Path | bytes | Buffer | Iterator[Buffer] | Iterable[Buffer],
        *,
        attributes: Attributes | None = None,
        tags: dict[str, str] | None = None,
        mode: PutMode | None = None,
        use_multipart: bool | None = None,
        chunk_size: int = CHUNK_BYTES,
        max_concurrency: int = MAX_CONCURRENCY,
    ) -> PutResult:
        target = self._file(path)
        with translated(target):
            above = self._find_above()
            os.makedirs(target.parent, exist_ok=True)
            if mode == "create":
                self._create(target, file, chunk_size, above)
            else:
                self._overwrite(target, file, chunk_size)
            self._make_durable(target.parent, above)
            return {"e_tag": _etag(os.stat(target)), "version": None}

    def draft(self) -> LocalDraft:
        with translated(self.root):
            publish, guard = partial(self._publish, self._find_above()), partial(translated, self.root)
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                return LocalDraft(_unnamed(self.root), guard=guard, publish=publish, remove=_nothing)
            except OSError as error:
                if error.errno not in _NO_TMPFILE:
                    raise
            named = self.root / _TEMPORARY / uuid.uuid4().hex
            named.parent.mkdir(exist_ok=True)
            fd = os.open(named, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
            return LocalDraft(fd, guard=guard, publish=publish, remove=partial(named.unlink, missing_ok=True))

    def _publish(self, above: Path, fd: int, path: str) -> None:
        target = self._file(path)
        with translated(target):
            os.makedirs(target.parent, exist_ok=True)
            try:
                os.fsync(fd)
                _link(f"/proc/self/fd/{fd}", target)
            finally:  # where the name is taken too: its writer may have been killed before its own
                self._make_durable(target.parent, above)

    def delete(self, paths: str | Sequence[str]) -> None:
        for path in [paths] if isinstance(paths, str) else paths:
            file = self._file(path)
            with translated(file), suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
                file.unlink()

    def _create(self, target: Path, source: Any, chunk_bytes: int, above: Path) -> None:
        if target.exists():  # spares writing the bytes; the link below is what decides
            self._make_durable(target.parent, above)
            raise AlreadyExists(f"{target} exists already")
        try:
            fd = os.open(target.parent, os.O_TMPFILE | os.O_RDWR, 0o666)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
            self._create_named(target, source, chunk_bytes)
            return
        try:
            _write(fd, source, chunk_bytes)
            os.fsync(fd)
            _link(f"/proc/self/fd/{fd}", target)
        finally:
            os.close(fd)

    def _create_named(self, target: Path, source: Any, chunk_bytes: int) -> None:
        with self._temporary(source, chunk_bytes) as temporary:
            _link(temporary, target)

    def _overwrite(self, target: Path, source: Any, chunk_bytes: int) -> None:
        with self._temporary(source, chunk_bytes) as temporary:
            os.replace(temporary, target)

    @contextmanager
    def _temporary(self, source: Any, chunk_bytes: int) -> Iterator[Path]:
        folder = self.root / _TEMPORARY
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / uuid.uuid4().hex
        try:
            fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            try:
                _write(fd, source, chunk_bytes)
                os.fsync(fd)
            finally:
                os.close(fd)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _find_above(self) -> Path:
        with self._lock:
            if self._above is None:
                self._above = next(folder for folder in self.root.parents if folder.is_dir())
            return self._above

    def _make_durable(self, folder: Path, above: Path) -> None:
        """fsync the folder, and once per process the names of the folders that lead to it, up to `above`: another process may
        have made them a moment ago and not have come to its own fsync."""
        fsync_directory(folder)
        while folder != above:
            with self._lock:
                known = folder in self._durable
            if known:
                return
            fsync_directory(folder.parent)
            with self._lock:
                self._durable.add(folder)
            folder = folder.parent

    def _name(self, path: str) -> str:
        """What `_file` gives, as text: making a `Path` takes as long as opening it."""
        return f"{self._prefix}{check_path(path)}"

    def _file(self, path: str) -> Path:
        return self.root / check_path(path)


def preadv_full(fd: int, buffer: Any, start: int, *, name: str) -> None:
    """Fill `buffer` from `start` of an open file, across short reads. Raises `CorruptObject` where the file ends before."""
    view = memoryview(buffer).cast("B")
    done = 0
    while done < len(view):
        n = os.preadv(fd, [view[done:]], start + done)
        if n == 0:
            raise CorruptObject(f"{name} ends at byte {start + done}; {len(view) - done} more bytes were expected")
        done += n


def _pread(fd: int, start: int, length: int) -> bytes:
    """Bytes from `start` on, across short reads (Linux gives 2 GiB at once at most); fewer where the file ends before."""
    piece = os.pread(fd, length, start)
    if len(piece) == length:
        return piece
    pieces, done = [piece], len(piece)
    while done < length and pieces[-1]:
        pieces.append(os.pread(fd, length - done, start + done))
        done += len(pieces[-1])
    return b"".join(pieces)


def _write(fd: int, source: Any, chunk_bytes: int) -> None:
    for piece in _pieces(source, chunk_bytes):
        view = memoryview(piece).cast("B")
        while view:  # a disk that is nearly full takes a part, and only then says so
            view = view[os.write(fd, view) :]


def _pieces(source: Any, chunk_bytes: int) -> Iterator[Any]:
    if isinstance(source, Path):
        with open(source, "rb") as stream:
            yield from iter(lambda: stream.read(chunk_bytes), b"")
    elif hasattr(source, "read"):
        yield from iter(lambda: source.read(chunk_bytes), b"")
    else:
        try:
            yield memoryview(source)
        except TypeError:
            yield from source


def _unnamed(folder: Path) -> int:
    """A new file without a name, written past the page cache where the file system takes that."""
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(folder, flags | os.O_DIRECT, 0o666)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(folder, flags, 0o666)


def _nothing() -> None:
    """An unnamed file is gone when it is closed."""


def _link(source: str | Path, target: Path) -> None:
    """Give a file its name, unless the name is taken. A folder descriptor makes Python call linkat, which can follow /proc/self/fd."""
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.link(source, target.name, dst_dir_fd=folder, follow_symlinks=True)
    except FileExistsError as error:
        raise AlreadyExists(f"{target} exists already") from error
    finally:
        os.close(folder)


def _unless_gone(error: OSError) -> None:
    """A folder that went away since it was listed, or never was, holds nothing; of any other the caller must not believe so."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        with translated(error.filename):
            raise error


def _etag(found: os.stat_result) -> str:
    return f'"{found.st_mtime_ns:x}-{found.st_size:x}"'


def _meta(path: str, found: os.stat_result) -> ObjectMeta:
    return {
        "path": path,
        "last_modified": datetime.fromtimestamp(found.st_mtime, UTC),
        "size": found.st_size,
        "e_tag": _etag(found),
        "version": None,
    }
