"""Immutable objects of a lake: stored under the digest of their bytes, checked when they are read whole."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from blake3 import blake3

from dataplane.errors import AlreadyExists, CorruptObject
from dataplane.refs import Digest, Foreign, ObjectRef
from dataplane.store import Offer, Reject, Store

__all__ = ["Objects", "digest_bytes", "digest_file", "past_damage"]

T = TypeVar("T")

_logger = logging.getLogger("dataplane")
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

    def put(self, data: bytes, *, suffix: str) -> Digest:
        """Store `data` durably; equal bytes are stored once, and checked again then."""
        ref = digest_bytes(data, suffix)
        self._create(ref, data)
        return ref

    def put_file(self, path: Path, *, suffix: str, ref: Digest | None = None) -> Digest:
        """Store a file's bytes durably, and offer the file to a hot tier in front of the store. `ref`: its digest, where known."""
        ref = ref or digest_file(path, suffix)
        self._create(ref, path)
        if isinstance(self.store, Offer):
            self.store.offer(ref, path)
        return ref

    def get(self, ref: ObjectRef) -> memoryview:
        """All bytes of an object, checked against its digest (see `past_damage`). Raises `NotFound` or `CorruptObject`."""
        if isinstance(ref, Foreign):
            raise CorruptObject(f"{ref}: adopted objects have no place in this lake's store")
        return past_damage(self.store, ref, lambda: self._checked(ref))

    def _checked(self, ref: Digest) -> memoryview:
        data = memoryview(self.store.get(ref.path).buffer())
        check(data, ref, where=f"{self.store.url}/{ref.path}")
        return data

    def verify(self, ref: Digest) -> None:
        """Read an object through and check it, in constant memory. Raises `NotFound` or `CorruptObject`."""
        hasher, done = blake3(), 0
        while done < ref.size:
            piece = memoryview(self.store.get_range(ref.path, start=done, end=min(ref.size, done + _CHUNK_BYTES)))
            if not piece:
                break
            hasher.update(piece)
            done += len(piece)
        size = self.store.head(ref.path)["size"]
        if size != ref.size or hasher.hexdigest() != ref.hex:
            raise CorruptObject(_mismatch(ref, size, hasher.hexdigest(), f"{self.store.url}/{ref.path}"))

    def _create(self, ref: Digest, source: bytes | Path) -> None:
        """Put the object unless it is there. One that is there is read through, since somebody is about to rely on it; where it turns
        out damaged, the bytes at hand mend it."""
        try:
            self.store.put(ref.path, source, mode="create" if ref.size <= _CREATE_BYTES else None)
        except AlreadyExists:
            try:
                self.verify(ref)
            except CorruptObject as error:
                _logger.warning("%s; it is written anew", error)
                self.store.put(ref.path, source)


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
        raise CorruptObject(_mismatch(ref, len(data), found, where))


def _mismatch(ref: Digest, size: int, found: str, where: str) -> str:
    return (
        f"{where} is damaged: {size} bytes with BLAKE3 {found[:12]}…, expected {ref.size} bytes with {ref.hex[:12]}…; "
        "put it back from a copy of the lake, or ingest its source again under a new name"
    )
