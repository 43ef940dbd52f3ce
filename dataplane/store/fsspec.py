"""Stores through fsspec, for every URL that obstore does not serve, and for s3fs with `s3+fsspec://`.

Such a store can always be a source. A lake it can be on S3 alone, where the server decides who creates an object: what fsspec does for
`mode="create"` elsewhere is to look and then to write, and of two writers that look at once both believe they won.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from blake3 import blake3

from dataplane.errors import (
    AlreadyExists,
    DataplaneError,
    MissingExtra,
    NotFound,
    PermissionDenied,
    SourceChanged,
    StoreError,
    StoreUnavailable,
    redact,
)
from dataplane.ranges import Span, clip, resolve, resolve_option
from dataplane.store.paths import check_path
from dataplane.store.protocol import CHUNK_BYTES, MAX_CONCURRENCY
from dataplane.store.result import BufferResult

if TYPE_CHECKING:
    from obspec import Attributes, GetOptions, GetResult, ListResult, ObjectMeta, PutMode, PutResult
    from typing_extensions import Buffer

__all__ = ["FsspecStore", "own_errors"]

_EXCLUSIVE = {"s3", "s3a"}  # protocols whose create is one conditional request
_PASSING = {errno.EREMOTEIO, errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT}  # s3fs has the first two for 5xx and throttling


class FsspecStore:
    """A store over any fsspec file system. `options` are the file system's own."""

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self._url = url
        self._options = dict(options or {})
        with self._errors(""):
            self._fs, self._root = _connect(url, self._options)

    def __repr__(self) -> str:
        return f"FsspecStore({self.url!r})"

    def __reduce__(self) -> tuple[type[FsspecStore], tuple[str, dict[str, Any]]]:
        return FsspecStore, (self._url, self._options)

    @property
    def url(self) -> str:
        return redact(self._url.rstrip("/"))

    def get(self, path: str, *, options: GetOptions | None = None) -> GetResult:
        meta = self.head(path)
        asked = options.get("range") if options else None
        with self._errors(path):
            if asked is None:
                return BufferResult(self._fs.cat_file(self._file(path)), meta)
            span = resolve_option(asked, meta["size"])
            return BufferResult(self._fs.cat_file(self._file(path), start=span.start, end=span.end) if len(span) else b"", meta, span.start)

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> Buffer:
        return self.get_ranges(path, starts=[start], ends=None if end is None else [end], lengths=None if length is None else [length])[0]

    def get_ranges(
        self, path: str, *, starts: Sequence[int], ends: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> Sequence[Buffer]:
        spans = resolve(starts, ends, lengths)
        try:
            return self._ranges(path, spans)
        except StoreError as error:
            if error.kind != StoreError.kind:
                raise
            size = self.head(path)["size"]
            if all(span.start < size for span in spans):
                raise
            return self._ranges(path, clip(spans, size))  # servers refuse a range that starts at the end, with 416

    def get_ranges_matching(self, path: str, *, starts: Sequence[int], lengths: Sequence[int], etag: str) -> Sequence[Buffer]:
        pieces = self.get_ranges(path, starts=starts, lengths=lengths)
        with self._errors(path):
            self._fs.invalidate_cache()
        now = self.head(path)["e_tag"]  # after reading: a change before or meanwhile shows
        if now != etag:
            raise SourceChanged(f"{self.url}/{path} has changed: its etag is {now}, {etag} was expected")
        return pieces

    def _ranges(self, path: str, spans: Sequence[Span]) -> Sequence[Buffer]:
        wanted = [span for span in spans if len(span)]
        with self._errors(path):
            file = self._file(path)
            got = self._fs.cat_ranges([file] * len(wanted), [s.start for s in wanted], [s.end for s in wanted], on_error="raise")
        pieces = iter(got)
        return [next(pieces) if len(span) else b"" for span in spans]

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
        if mode == "create" and not _EXCLUSIVE & set(_protocols(self._fs)):
            raise StoreError(
                f"{self.url}: fsspec's {type(self._fs).__name__} has no put-if-absent that holds when two writers come at once"
            )
        source = file if isinstance(file, Path) and mode != "create" else _bytes(file)
        with self._errors(path):
            try:
                self._write(target, source, mode)
            except FileNotFoundError:  # a file system with real folders
                self._fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
                self._write(target, source, mode)
        return {"e_tag": None, "version": None}

    def _write(self, target: str, source: Path | bytes, mode: PutMode | None) -> None:
        if isinstance(source, Path):
            self._fs.put_file(str(source), target)
        else:
            self._fs.pipe_file(target, source, mode="create" if mode == "create" else "overwrite")

    def head(self, path: str) -> ObjectMeta:
        with self._errors(path):
            info = self._fs.info(self._file(path))
            if info["type"] != "file":
                raise FileNotFoundError(path)
            return _meta(path, info)

    def list(self, prefix: str | None = None, *, offset: str | None = None) -> Iterator[Sequence[ObjectMeta]]:
        top = self._file(prefix.rstrip("/")) if prefix else self._root
        with self._errors(prefix or ""):
            self._fs.invalidate_cache()
            for _, _, files in self._fs.walk(top, detail=True, on_error=_unless_gone):
                found = [_meta(self._relative(info["name"]), info) for info in files.values()]
                chunk = [meta for meta in found if offset is None or meta["path"] > offset]
                if chunk:
                    yield chunk

    def list_with_delimiter(self, prefix: str | None = None) -> ListResult[Sequence[ObjectMeta]]:
        top = self._file(prefix.rstrip("/")) if prefix else self._root
        with self._errors(prefix or ""):
            try:
                found = self._fs.ls(top, detail=True, refresh=True)
            except FileNotFoundError:
                found = []
        named = [(self._relative(info["name"].rstrip("/")), info) for info in found]
        return {
            "common_prefixes": [path for path, info in named if info["type"] == "directory"],
            "objects": [_meta(path, info) for path, info in named if info["type"] == "file"],
        }

    def delete(self, paths: str | Sequence[str]) -> None:
        for path in [paths] if isinstance(paths, str) else paths:
            with self._errors(path), suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
                self._fs.rm_file(self._file(path))

    def _file(self, path: str) -> str:
        return f"{self._root}/{check_path(path)}" if self._root else check_path(path)

    def _relative(self, name: str) -> str:
        return name[len(self._root) :].lstrip("/") if name.startswith(self._root) else name.lstrip("/")

    def _errors(self, path: str) -> AbstractContextManager[None]:
        return own_errors(f"{self.url}/{path}" if path else self.url)


@contextmanager
def own_errors(where: str) -> Iterator[None]:
    """Turns a file system's errors into this project's; `where` it was at work."""
    try:
        yield
    except DataplaneError:
        raise
    except FileExistsError as error:
        raise AlreadyExists(f"{where} exists already") from error
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFound(f"{where}: no such object") from error
    except PermissionError as error:
        raise PermissionDenied(f"{where}: access denied ({redact(str(error))})") from error
    except (ConnectionError, TimeoutError) as error:
        raise StoreUnavailable(f"{where}: {redact(str(error))}") from error
    except ImportError as error:
        raise MissingExtra(f"{where}: {redact(str(error))}; install the package that serves this kind of URL") from error
    except Exception as error:  # a file system may raise anything, and botocore's errors share no builtin
        kind = StoreUnavailable if _may_pass(error) else StoreError
        raise kind(f"{where}: {redact(str(error)) or type(error).__name__}") from error


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _connect(url: str, options: dict[str, Any]) -> tuple[Any, str]:
    import fsspec

    fs, root = fsspec.core.url_to_fs(url.replace("+fsspec://", "://", 1), **options)
    return fs, root.rstrip("/")


def _may_pass(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    return any(word in type(error).__name__ for word in ("Connect", "Timeout", "Unavailable"))


def _unless_gone(error: OSError) -> None:
    """A folder that went away since it was listed holds nothing; any other trouble is the caller's to know."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _bytes(file: Any) -> bytes:
    if isinstance(file, Path):
        return file.read_bytes()
    if hasattr(file, "read"):
        return file.read()  # type: ignore[no-any-return]
    try:
        return bytes(memoryview(file))
    except TypeError:
        return b"".join(bytes(memoryview(piece)) for piece in file)


def _meta(path: str, info: Mapping[str, Any]) -> ObjectMeta:
    stamp = info.get("LastModified") or info.get("mtime") or info.get("created")
    modified = stamp if isinstance(stamp, datetime) else datetime.fromtimestamp(float(stamp or 0), UTC)
    # Without a time, whatever the file system tells (a zip has checksums) is what says that a file has changed, as in fsspec's own `ukey`.
    told = f"{modified.timestamp()}" if stamp else blake3(repr(sorted(info.items())).encode("utf-8", "surrogateescape")).hexdigest(8)
    etag = info.get("ETag") or info.get("etag") or f'"{told}-{info["size"]}"'
    return {"path": path, "last_modified": modified, "size": info["size"] or 0, "e_tag": str(etag), "version": info.get("VersionId")}
