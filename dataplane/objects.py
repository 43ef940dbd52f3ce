"""Immutable objects: those of a lake, stored under the digest of their bytes and checked when they are read whole; and adopted ones, read
where they lie as long as they are still the ones that were adopted."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, TypeVar

from blake3 import blake3

from dataplane.errors import AlreadyExists, CorruptObject, NotFound, SourceChanged
from dataplane.ranges import Span, clip, resolve
from dataplane.refs import Digest, Foreign, ObjectRef
from dataplane.store import Draft, Offer, ReadMatching, Reject, Store, open_store, split_url
from dataplane.store.local import LocalStore
from dataplane.sweeps import Keeper

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["REMEDY", "Objects", "digest_bytes", "digest_file", "past_damage"]

T = TypeVar("T")

_logger = logging.getLogger("dataplane")
REMEDY: Final = "put it back from a copy of the lake (dataplane verify --repair COPY), or ingest its source again under a new name"
"""What to do about an object of the lake that is damaged, for messages."""
_CHUNK_BYTES: Final = 8 << 20
_CREATE_BYTES: Final = 256 << 20  # beyond this a conditional put would hold the object in memory


def digest_bytes(data: bytes | memoryview, suffix: str) -> Digest:
    """The name of `data` as an object."""
    return Digest(blake3(data).hexdigest(), suffix, len(data))


def digest_file(path: Path, suffix: str) -> Digest:
    """The name of a file's bytes as an object."""
    return Digest(blake3().update_mmap(path).hexdigest(), suffix, path.stat().st_size)


class Objects:
    """The objects of the lake that `store` holds. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._keeper = Keeper(store)

    def put(self, data: bytes, *, suffix: str, ref: Digest | None = None) -> Digest:
        """Store `data` durably; equal bytes are stored once, and checked again then. `ref`: its digest, where known."""
        ref = ref or digest_bytes(data, suffix)
        self._create(ref, data)
        return ref

    def put_file(self, path: Path, *, suffix: str, ref: Digest | None = None) -> Digest:
        """Store a file's bytes durably, and offer the file to a hot tier in front of the store. `ref`: its digest, where known."""
        ref = ref or digest_file(path, suffix)
        self._create(ref, path)
        if isinstance(self.store, Offer):
            self.store.offer(ref, path)
        return ref

    def put_draft(self, draft: Draft, ref: Digest) -> None:
        """Make a finished draft of this store the object `ref`, durably. The draft stays the caller's to close."""
        published = False

        def put() -> None:
            nonlocal published
            try:
                if published:  # and collected since: its file cannot get a name again
                    self.store.put(ref.path, draft.path)
                else:
                    draft.publish(ref.path)
                published = True
            except AlreadyExists:
                self._reuse(ref, draft.path)

        self._keeper.put(ref, put)

    def get(self, ref: ObjectRef) -> memoryview:
        """All bytes of an object, checked against its digest (see `past_damage`). Raises `NotFound` or `CorruptObject`."""
        if isinstance(ref, Foreign):
            return memoryview(self.ranges(ref, starts=[0], lengths=[ref.size])[0])
        return past_damage(self.store, ref, lambda: self._checked(ref))

    def ranges(self, ref: ObjectRef, *, starts: Sequence[int], lengths: Sequence[int]) -> Sequence[memoryview]:
        """Byte ranges of an object, in the order asked for; neighbours share a request, and ranges are short where the object ends.

        Nothing is checked against a digest here: the reader checks what it decodes. Raises `NotFound`, and for an adopted object
        `SourceChanged` where it is no longer the one that was adopted.
        """
        if isinstance(ref, Digest):
            return [memoryview(piece) for piece in self.store.get_ranges(ref.path, starts=starts, lengths=lengths)]
        root, path = split_url(ref.url)
        store = _opened(root, os.getpid())
        spans = clip(resolve(starts, None, lengths), ref.size)
        try:
            return [memoryview(piece) for piece in _matching(store, path, ref, spans)]
        except SourceChanged as error:
            raise SourceChanged(f"{error}; adopt it again, which makes a new version") from error
        except NotFound as error:
            raise NotFound(f"{ref}: this adopted object is gone; put it back, or leave its samples out with `where`") from error

    def pieces(self, ref: ObjectRef, *, starts: Sequence[int], lengths: Sequence[int]) -> Iterator[bytes | memoryview]:
        """What `ranges` gives, one after the other: where the store is a folder, each is read when it is asked for."""
        if not starts:
            return iter(())
        if isinstance(ref, Digest) and isinstance(self.store, LocalStore):
            return self.store.pieces(ref.path, starts=starts, lengths=lengths)
        return iter(self.ranges(ref, starts=starts, lengths=lengths))

    def _checked(self, ref: Digest) -> memoryview:
        data = memoryview(self.store.get(ref.path).buffer())
        check(data, ref, where=f"{self.store.url}/{ref.path}")
        return data

    def where(self, ref: ObjectRef) -> str:
        """Where an object lies, for messages."""
        return f"{self.store.url}/{ref.path}" if isinstance(ref, Digest) else ref.url

    def verify(self, ref: Digest) -> None:
        """Read an object through and check it, in constant memory. Raises `NotFound` or `CorruptObject`."""
        damage = self._damage(ref)
        if damage is not None:
            raise CorruptObject(f"{damage}; {REMEDY}")

    def _damage(self, ref: Digest) -> str | None:
        """What is wrong with an object, which is read through. Raises `NotFound`."""
        hasher, done = blake3(), 0
        while done < ref.size:
            piece = memoryview(self.store.get_range(ref.path, start=done, end=min(ref.size, done + _CHUNK_BYTES)))
            if not piece:
                break
            hasher.update(piece)
            done += len(piece)
        size = self.store.head(ref.path)["size"]
        if size == ref.size and hasher.hexdigest() == ref.hex:
            return None
        return _mismatch(ref, size, hasher.hexdigest(), self.where(ref))

    def has(self, ref: Digest) -> bool:
        """The object is there, whole by its size, and no collector is about to delete it."""
        self._keeper.wait(ref)
        try:
            return self.store.head(ref.path)["size"] == ref.size
        except NotFound:
            return False

    def rely_on(self, refs: Iterable[Digest]) -> None:
        """Make sure of objects that a commit is about to name: each is there, whoever put it, and stays until then whatever collectors do.

        Costs nothing for what this process has put a moment ago, else a request each; one that has lain unnamed for a while is written
        anew. Raises `NotFound` or `CorruptObject`.
        """
        for ref in refs:
            if not self._keeper.recent(ref):
                self._make_sure(ref)

    def _make_sure(self, ref: Digest) -> None:
        try:
            meta = self.store.head(ref.path)
        except NotFound as error:
            raise NotFound(f"{error}; a commit was to name it: run the same command again, which stores it again") from error
        if meta["size"] != ref.size:
            raise CorruptObject(f"{self.where(ref)} is damaged: it has {meta['size']} bytes instead of {ref.size}; {REMEDY}")
        if self._keeper.young(meta):
            self._keeper.note(ref)
            return
        with tempfile.TemporaryFile() as copy:
            self._copy(ref, copy)
            self._keeper.put(ref, lambda: self.store.put(ref.path, _from_start(copy)))

    def _copy(self, ref: Digest, copy: IO[bytes]) -> None:
        """All bytes of an object, checked."""
        hasher = blake3()
        for start in range(0, ref.size, _CHUNK_BYTES):
            piece = memoryview(self.store.get_range(ref.path, start=start, end=min(ref.size, start + _CHUNK_BYTES)))
            hasher.update(piece)
            copy.write(piece)
        if hasher.hexdigest() != ref.hex:
            raise CorruptObject(f"{_mismatch(ref, copy.tell(), hasher.hexdigest(), self.where(ref))}; {REMEDY}")

    def _create(self, ref: Digest, source: bytes | Path) -> None:
        """Put the object unless it is there. One that is there is read through, since somebody is about to rely on it; where it turns
        out damaged, the bytes at hand mend it. Where it has lain there for a while it is put anew: a collector may find it unnamed."""

        def put() -> None:
            try:
                self.store.put(ref.path, source, mode="create" if ref.size <= _CREATE_BYTES else None)
            except AlreadyExists:
                self._reuse(ref, source)

        self._keeper.put(ref, put)

    def _reuse(self, ref: Digest, source: bytes | Path) -> None:
        try:
            if self._keeper.young(self.store.head(ref.path)):
                damage = self._damage(ref)
                if damage is None:
                    return
                _logger.warning("%s; the right bytes are at hand, so it is written anew", damage)
        except NotFound:  # collected since
            pass
        self.store.put(ref.path, source)


@lru_cache(maxsize=256)
def _opened(url: str, _pid: int) -> Store:
    """A store that adopted objects lie in. A forked process opens its own."""
    return open_store(url)


def _matching(store: Store, path: str, ref: Foreign, spans: Sequence[Span]) -> Sequence[Buffer]:
    starts, lengths = [span.start for span in spans], [len(span) for span in spans]
    if ref.etag is not None and isinstance(store, ReadMatching):
        return store.get_ranges_matching(path, starts=starts, lengths=lengths, etag=ref.etag)
    size = store.head(path)["size"]
    if size != ref.size:
        raise SourceChanged(f"{ref} has changed: it has {size} bytes, {ref.size} were expected")
    return store.get_ranges(path, starts=starts, lengths=lengths)


def past_damage(store: Store, ref: ObjectRef, read: Callable[[], T]) -> T:
    """What `read` gives of `ref`. Where its bytes fail a check and `store` holds copies, a damaged one is dropped, and read once more."""
    try:
        return read()
    except CorruptObject:
        if not isinstance(store, Reject):
            raise
    store.reject(ref)
    return read()


def check(data: memoryview, ref: Digest, *, where: str) -> None:
    """Raise `CorruptObject` unless `data` are the bytes that `ref` names."""
    found = blake3(data).hexdigest()
    if len(data) != ref.size or found != ref.hex:
        raise CorruptObject(f"{_mismatch(ref, len(data), found, where)}; {REMEDY}")


def _from_start(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    return file


def _mismatch(ref: Digest, size: int, found: str, where: str) -> str:
    return f"{where} is damaged: {size} bytes with BLAKE3 {found[:12]}…, expected {ref.size} bytes with {ref.hex[:12]}…"
