"""What a store is: the obspec verbs, and the capabilities a store may add to them.

Base verbs take a path relative to the store's root ("objects/ab/…"); capabilities take an `ObjectRef`. A caller asks for a
capability with `isinstance(store, Offer)` and does without it where it is missing.

Every verb is thread-safe. A store may be pickled and used in a spawned process; no handle crosses a fork.
Errors are those of `dataplane.errors`: `NotFound`, `AlreadyExists`, `PermissionDenied`, `StorageFull`, `StoreUnavailable`,
`StoreError`. No other library's error leaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, runtime_checkable

from dataplane.refs import ObjectRef

if TYPE_CHECKING:
    from obspec import Attributes, GetOptions, GetResult, ListResult, ObjectMeta, PutMode, PutResult
    from typing_extensions import Buffer

__all__ = [
    "Draft",
    "Drafts",
    "LocalPath",
    "Offer",
    "ReadInto",
    "ReadMatching",
    "Reject",
    "Store",
    "Upload",
    "Uploads",
    "WrapperStore",
]


CHUNK_BYTES = 8 << 20
MAX_CONCURRENCY = 8


class Store(Protocol):
    """The obspec protocols Get, GetRange, GetRanges, Put, Head, List and Delete, and the URL to name the store by."""

    @property
    def url(self) -> str:
        """The store's root, without credentials: for messages and reports."""
        ...

    def get(self, path: str, *, options: GetOptions | None = None) -> GetResult:
        """The whole object (or the range in `options`). Iterate for chunks, `.buffer()` for all of it."""
        ...

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> Buffer:
        """Bytes [start, end), or `length` bytes from `start`; fewer, down to none, where the object ends before."""
        ...

    def get_ranges(
        self, path: str, *, starts: Sequence[int], ends: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> Sequence[Buffer]:
        """Several ranges of one object, in the order asked for; neighbours are coalesced into one request."""
        ...

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
        """Store the bytes atomically and durably. `mode="create"` raises `AlreadyExists` where the path is taken."""
        ...

    def head(self, path: str) -> ObjectMeta:
        """Size, modification time and etag of an object."""
        ...

    def list(self, prefix: str | None = None, *, offset: str | None = None) -> Iterator[Sequence[ObjectMeta]]:
        """Objects below `prefix` (whole path segments), in chunks, in no promised order; only paths after `offset`."""
        ...

    def list_with_delimiter(self, prefix: str | None = None) -> ListResult[Sequence[ObjectMeta]]:
        """What lies right below `prefix`: objects, and `common_prefixes` (folders, without a closing slash)."""
        ...

    def delete(self, paths: str | Sequence[str]) -> None:
        """Remove objects. A missing one is no error."""
        ...


@runtime_checkable
class Offer(Protocol):
    """A store that may keep a file it is offered, instead of fetching the same bytes later."""

    def offer(self, ref: ObjectRef, path: Path) -> None:
        """Take (link or copy) the complete, verified file at `path` as the bytes of `ref`. May decline silently; never raises
        for lack of space. The caller keeps owning `path`."""
        ...


@runtime_checkable
class LocalPath(Protocol):
    """A store that holds objects as files."""

    def local_path(self, ref: ObjectRef) -> Path | None:
        """The file that holds all verified bytes of `ref`, or None. It stays valid until the object is evicted or removed."""
        ...


@runtime_checkable
class ReadInto(Protocol):
    """A store that reads straight into the caller's memory."""

    def read_into(self, ref: ObjectRef, *, start: int, buffer: Any) -> None:
        """Fill the writable, contiguous `buffer` with the bytes of `ref` from `start`. Releases the GIL while reading. Raises
        `CorruptObject` where the object ends before the buffer is full."""
        ...


@runtime_checkable
class ReadMatching(Protocol):
    """A store that reads an object only if it is still the one that was seen before: what If-Match is to HTTP."""

    def get_ranges_matching(self, path: str, *, starts: Sequence[int], lengths: Sequence[int], etag: str) -> Sequence[Buffer]:
        """What `get_ranges` gives, from an object whose etag is `etag`. Raises `SourceChanged` where it is another by now."""
        ...


@runtime_checkable
class Reject(Protocol):
    """A store that holds copies, and fetches one anew when its bytes turn out wrong."""

    def reject(self, ref: ObjectRef) -> None:
        """Bytes of `ref` failed a checksum: check the copy, and drop and count it if it is bad, so that the next read fetches the
        bytes anew from the colder store. A sound copy stays (then the checksum is what is wrong), and where there is none nothing
        happens. So reading once more after rejecting is enough."""
        ...


class Draft(Protocol):
    """An object under way. Used by one thread, and closed at the end; closed or killed before it is published, it leaves nothing behind."""

    @property
    def path(self) -> Path:
        """A file to read the bytes from, once they are finished and while the draft is open."""
        ...

    def write(self, data: Buffer) -> None:
        """Append; the bytes are copied. A disk that is full may be told of later."""
        ...

    def finish(self) -> str:
        """End the bytes. The hexadecimal digits of their BLAKE3."""
        ...

    def publish(self, path: str) -> None:
        """Make the finished bytes the object at `path`, atomically and durably; once. Raises `AlreadyExists` where the path is taken."""
        ...

    def close(self) -> None:
        """Let go of it. Calling it again does nothing."""
        ...


@runtime_checkable
class Drafts(Protocol):
    """A store that an object can be written into while it is made, instead of from a file that is copied afterwards."""

    def draft(self) -> Draft:
        """A new, empty draft."""
        ...


@dataclass(frozen=True, slots=True)
class Upload:
    """An object that comes in parts, of which nobody can read any before all are there: where it is to lie, and what the server calls the
    upload. `touched` is when its newest part came (where there is none, when it was begun), by the store's clock; `bytes` are those of the
    parts so far."""

    path: str
    id: str
    touched: datetime
    bytes: int


@runtime_checkable
class Uploads(Protocol):
    """A store that keeps the parts of an upload that was never ended, and can tell of them."""

    def uploads(self, prefix: str) -> Iterator[Upload]:
        """The uploads under way below `prefix` (whole path segments), those of dead writers among them."""
        ...

    def abort(self, upload: Upload) -> None:
        """Drop the parts. An upload that has ended meanwhile is no error."""
        ...


class WrapperStore:
    """A store that behaves as another one: the base for behaviour added by wrapping. Override what differs."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    @property
    def url(self) -> str:
        return self.inner.url

    def get(self, path: str, *, options: GetOptions | None = None) -> GetResult:
        return self.inner.get(path, options=options)

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> Buffer:
        return self.inner.get_range(path, start=start, end=end, length=length)

    def get_ranges(
        self, path: str, *, starts: Sequence[int], ends: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> Sequence[Buffer]:
        return self.inner.get_ranges(path, starts=starts, ends=ends, lengths=lengths)

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
        return self.inner.put(
            path,
            file,
            attributes=attributes,
            tags=tags,
            mode=mode,
            use_multipart=use_multipart,
            chunk_size=chunk_size,
            max_concurrency=max_concurrency,
        )

    def head(self, path: str) -> ObjectMeta:
        return self.inner.head(path)

    def list(self, prefix: str | None = None, *, offset: str | None = None) -> Iterator[Sequence[ObjectMeta]]:
        return self.inner.list(prefix, offset=offset)

    def list_with_delimiter(self, prefix: str | None = None) -> ListResult[Sequence[ObjectMeta]]:
        return self.inner.list_with_delimiter(prefix)

    def delete(self, paths: str | Sequence[str]) -> None:
        self.inner.delete(paths)
