"""`HotStore`: a store that keeps the objects it reads on a local disk."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from dataplane.errors import CorruptObject, InvalidArgument
from dataplane.ranges import Span, resolve
from dataplane.refs import Digest, ObjectRef, digest_of_path
from dataplane.stages import Stage, enter
from dataplane.store import ReadInto, Store, WrapperStore
from dataplane.store.result import BufferResult
from tiering.cache import HotCache
from tiering.keys import key_of
from tiering.layout import MIN_LIMIT_BYTES
from tiering.stats import HotStats

if TYPE_CHECKING:
    from obspec import GetOptions, GetResult, ObjectMeta
    from typing_extensions import Buffer

__all__ = ["HotStore"]

_CLOSE_SECONDS: Final = 1.0


class HotStore(WrapperStore):
    """The store `cold`, with a copy of every object it reads kept in `directory`, in at most `limit_bytes`.

    Objects (`objects/…`) are immutable, so their copies never go stale; every other path, and every put, list and head, goes to
    `cold`. The first read of an object fetches all of it, once for all threads and processes of a user, and checks it against its
    digest before anybody sees it. Objects leave when room is needed, least recently used first. Whatever goes wrong with the
    directory (full, read-only, damaged), reads are served by `cold`, a warning is logged once, and `stats().fallthroughs` counts.

    Implements `ReadInto`, `LocalPath`, `Offer` and `Reject`. Thread-safe. Any number of processes may use one directory; a limit other than
    the recorded one replaces it, for all. Pickles as its arguments; a forked child opens its own files and index. Closing is
    optional: counters and last reads are flushed every few seconds, and when the interpreter exits.

    Raises `InvalidArgument` for a limit too small to work with and for a directory that holds somebody else's `objects`, and
    `FormatTooNew` for a directory of a newer release.
    """

    def __init__(self, cold: Store, directory: str | os.PathLike[str], limit_bytes: int) -> None:
        super().__init__(cold)
        if limit_bytes < MIN_LIMIT_BYTES:
            raise InvalidArgument(f"a hot tier of {limit_bytes} bytes; it needs {MIN_LIMIT_BYTES} or more, its own index included")
        self.directory = Path(directory).expanduser().absolute()
        self.limit_bytes = limit_bytes
        self._closed = False
        self._opening = threading.Lock()
        self._cache: HotCache | None = None
        self._live()
        _watch_process()
        _stores.add(self)

    def __repr__(self) -> str:
        return f"HotStore({self.inner!r}, {str(self.directory)!r}, {self.limit_bytes})"

    def __reduce__(self) -> tuple[type[HotStore], tuple[Store, str, int]]:
        return HotStore, (self.inner, str(self.directory), self.limit_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------ by path

    def get(self, path: str, *, options: GetOptions | None = None) -> GetResult:
        """As `Store.get`. With `options` (conditions, a range) it is the cold store that answers."""
        ref = None if options else self._ref(path)
        pieces = None if ref is None else self._read(ref, [Span(0, ref.size)])
        if ref is None or pieces is None:
            return self.inner.get(path, options=options)
        return BufferResult(pieces[0], self._meta(ref))

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> Buffer:
        ref = self._ref(path)
        spans = resolve([start], None if end is None else [end], None if length is None else [length])
        pieces = None if ref is None else self._read(ref, spans)
        return self.inner.get_range(path, start=start, end=spans[0].end) if pieces is None else pieces[0]

    def get_ranges(
        self, path: str, *, starts: Sequence[int], ends: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> Sequence[Buffer]:
        ref = self._ref(path)
        pieces = None if ref is None else self._read(ref, resolve(starts, ends, lengths))
        return self.inner.get_ranges(path, starts=starts, ends=ends, lengths=lengths) if pieces is None else pieces

    def delete(self, paths: str | Sequence[str]) -> None:
        """Delete from cold, and drop the hot copies that nobody is reading; the others leave when room is needed."""
        paths = [paths] if isinstance(paths, str) else list(paths)
        self.inner.delete(paths)
        for path in paths:
            if (ref := digest_of_path(path, 0)) is not None:
                self._live().evict(ref)

    # ------------------------------------------------------------------ capabilities

    def read_into(self, ref: ObjectRef, *, start: int, buffer: Any) -> None:
        """As `ReadInto.read_into`: `preadv` from the hot file straight into `buffer`. An adopted object is `InvalidArgument`: the
        hot tier fetches objects of the lake only."""
        if not isinstance(ref, Digest):
            raise InvalidArgument(f"{ref} is an adopted object; the hot tier holds objects of the lake; read it from its own store")
        view = memoryview(buffer).cast("B")
        if start < 0 or start + len(view) > ref.size:
            raise CorruptObject(f"{ref} has {ref.size} bytes; [{start}, {start + len(view)}) was asked for")
        if len(view) and not self._live().read_into(ref, start, view):
            self._read_cold(ref, start, view)

    def local_path(self, ref: ObjectRef) -> Path | None:
        """As `LocalPath.local_path`: brings the object in if need be. The file stays until this store is closed, so it may be mapped
        till then. None where it does not fit, and beyond 128 files of a process: then read the bytes instead."""
        return self._live().lease(ref) if isinstance(ref, Digest) else None

    def offer(self, ref: ObjectRef, path: Path) -> None:
        """As `Offer.offer`: copies the file if its bytes are what `ref` names and it fits without evicting anything."""
        if isinstance(ref, Digest):
            self._live().offer(ref, path)

    def reject(self, ref: ObjectRef) -> None:
        """As `Reject.reject`: the hot copy is read through, and dropped if it does not match its digest. While other readers use it,
        reads of this process go to cold until it can be dropped."""
        if isinstance(ref, Digest):
            self._live().reject(ref)

    # ------------------------------------------------------------------ the tier itself

    def stats(self) -> HotStats:
        """The directory as it is now, and this store's own counters since it was made."""
        return self._live().stats()

    def close(self) -> None:
        """Flush the counters, and give files, locks and the index back. Paths from `local_path` may be evicted from now on, and reads
        raise `InvalidArgument`."""
        with self._opening:
            self._closed = True
            hot, self._cache = self._cache, None
        if hot is not None:
            self._forgotten.detach()
            hot.close()

    def _live(self) -> HotCache:
        return self._cache or self._open()

    def _open(self) -> HotCache:
        with self._opening:
            if self._closed:
                raise InvalidArgument(f"the hot tier in {self.directory} was closed by this process; make another HotStore")
            if self._cache is None:
                self._cache = HotCache(self.inner, self.directory, limit_bytes=self.limit_bytes)
                self._forgotten = weakref.finalize(self, _close_aside, self._cache)
                self._forgotten.atexit = False
            return self._cache

    def _forked(self) -> None:
        """In a forked child: leave the parent's files, locks and index alone, and open own ones at the first use."""
        if self._cache is not None:
            self._forgotten.detach()
            self._cache.abandon()
        self._opening, self._cache = threading.Lock(), None

    # ------------------------------------------------------------------ reading

    def _ref(self, path: str) -> Digest | None:
        """The object at `path` with its size, from its hot copy or from cold; None for a path that is no object."""
        ref = digest_of_path(path, 0)
        if ref is None:
            return None
        return Digest(ref.hex, ref.suffix, self._live().size(ref) or self.inner.head(path)["size"])

    def _read(self, ref: Digest, spans: Sequence[Span]) -> list[Buffer] | None:
        """The bytes of each span, as far as the object goes; None where cold has to serve."""
        hot = self._live()
        pieces: list[Buffer] = []
        for span in spans:
            piece = bytearray(max(0, min(span.end, ref.size) - span.start))
            if piece and not hot.read_into(ref, span.start, memoryview(piece)):
                hot.counters.add("cold_bytes", sum(len(span) for span in spans))
                enter(Stage.COLD)  # it serves from here
                return None
            pieces.append(piece)
        return pieces

    def _read_cold(self, ref: Digest, start: int, view: memoryview) -> None:
        self._live().counters.add("cold_bytes", len(view))
        before = enter(Stage.COLD)
        if isinstance(self.inner, ReadInto):
            self.inner.read_into(ref, start=start, buffer=view)
            enter(before)
            return
        piece = memoryview(self.inner.get_range(ref.path, start=start, length=len(view)))
        enter(before)
        if piece.nbytes != len(view):
            raise CorruptObject(f"{self.inner.url}/{ref.path} ends at byte {start + piece.nbytes}; it should have {ref.size}")
        view[:] = piece.cast("B")

    def _meta(self, ref: Digest) -> ObjectMeta:
        try:
            modified = os.stat(self.directory / "objects" / key_of(ref)).st_mtime
        except FileNotFoundError:  # evicted since it was read
            return self.inner.head(ref.path)
        stamp = datetime.fromtimestamp(modified, UTC)
        return {"path": ref.path, "last_modified": stamp, "size": ref.size, "e_tag": f'"{ref.hex}"', "version": None}


_stores: weakref.WeakSet[HotStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_stores):
        store._forked()


def _at_exit() -> None:
    for store in list(_stores):
        store.close()


@cache
def _watch_process() -> None:
    os.register_at_fork(after_in_child=_after_fork)
    atexit.register(_at_exit)


def _close_aside(hot: HotCache) -> None:
    """Close what a forgotten store leaves. The collector comes at any moment, also in the middle of a transaction of this very thread on
    the same directory; closing then has to wait for that, so it is done on another thread, and waited for no longer than a moment."""
    closing = threading.Thread(target=hot.close, name="dataplane-hot-close", daemon=True)
    closing.start()
    closing.join(_CLOSE_SECONDS)
