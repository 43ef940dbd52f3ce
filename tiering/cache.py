"""Reading through a hot tier: find the object, or bring it in once, or say that cold has to serve.

One read goes: an open file, else a file in the directory, else fetch it or wait for whoever does, and look again. What goes wrong on the
local side ends in "cold has to serve", never in an error; errors of the cold store are the caller's, as they are without a hot tier.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from dataplane.errors import CorruptObject, FormatTooNew
from dataplane.objects import REMEDY
from dataplane.refs import Digest
from dataplane.stages import Stage, enter
from dataplane.store import Store
from dataplane.store.local import preadv_full
from tiering.arrival import PART_BYTES, fetch, parts, pieces_of_file, write_verified
from tiering.directory import Directory
from tiering.handles import Handle, Handles
from tiering.keys import key_of
from tiering.layout import Unusable, charge, local
from tiering.refusals import Refusals
from tiering.stats import Counters, HotStats

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["HotCache"]

_log: Final = logging.getLogger("tiering")
_MAX_OPEN: Final = 256
_MAX_LEASES: Final = 128
_LOOKS: Final = 4
_FETCHES: Final = 2
_FLUSH_NS: Final = 10 * 10**9
_CANNOT: Final = (Unusable, FormatTooNew)


class HotCache:
    """A hot tier as one process sees it. Thread-safe. No part of it may be used after a fork: `abandon` it in the child."""

    def __init__(self, cold: Store, root: Path, *, limit_bytes: int) -> None:
        self._cold = cold
        self._limit_bytes = limit_bytes
        self.counters = Counters()
        self._handles = Handles(root / "objects", max_open=_MAX_OPEN)
        self._directory = Directory(root, limit_bytes=limit_bytes, counters=self.counters, last_read=self._handles.take_last_read)
        self._refusals = Refusals(root, cold.url)
        self._claims: set[int] = set()
        self._leases: dict[str, Handle] = {}
        self._lease_lock = threading.Lock()
        self._rejected: set[str] = set()
        self._flush_at = time.monotonic_ns() + _FLUSH_NS
        self._closed = False
        try:
            self._directory.prepare()
        except Unusable as error:
            self._refusals.pause(error)

    # ------------------------------------------------------------------ reading

    def size(self, ref: Digest) -> int | None:
        """The size of a hot object, whatever size `ref` gives; None where it is not hot."""
        try:
            handle = self._look(key_of(ref), None)
        except Unusable as error:
            self._refusals.pause(error)
            return None
        if handle is None:
            return None
        self._handles.release(handle)
        return handle.size

    def read_into(self, ref: Digest, start: int, view: memoryview) -> bool:
        """Fill `view` from byte `start`. False where cold has to serve. Raises the errors of the cold store, and `CorruptObject`
        where its bytes are not the ones that `ref` names."""
        key = key_of(ref)
        handle = None if self._rejected else self._handles.acquire(key)
        if handle is None or not self._read(handle, start, view, True):
            return self._use(ref, key, lambda handle, hit: self._read(handle, start, view, hit))
        if handle.last_read >= self._flush_at:
            self.flush()
        return True

    def lease(self, ref: Digest) -> Path | None:
        """The file of an object, which is not evicted before this cache is closed. None where cold has to serve, or where this
        process has as many leases as it may have."""
        key = key_of(ref)
        if key not in self._leases and (len(self._leases) >= _MAX_LEASES or not self._use(ref, key, self._lease)):
            return None
        return None if key in self._rejected else self._directory.layout.objects / key

    def reject(self, ref: Digest) -> None:
        """Check a hot object whose bytes somebody found wrong, and drop it if they are."""
        key = key_of(ref)
        try:
            handle = self._look(key, None)
            if handle is None or self._is_whole(handle, ref):
                return
            self.counters.add("corrupt")
            _log.warning(
                "the hot copy of %s in %s is damaged; it is fetched anew from %s", ref, self._directory.layout.root, self._cold.url
            )
            self._rejected.add(key)
            if self._directory.evict(key):
                self._rejected.discard(key)
        except _CANNOT as error:
            self._refusals.pause(error)

    def evict(self, ref: Digest) -> None:
        """Drop a hot object, unless somebody is reading it."""
        try:
            if self._directory.has(key_of(ref), None):
                self._directory.evict(key_of(ref))
        except _CANNOT as error:
            self._refusals.pause(error)

    def _use(self, ref: Digest, key: str, use: Callable[[Handle, bool], bool]) -> bool:
        """Have `use` take (and release) a handle, told whether that is a hit; again while the object it finds was just evicted."""
        missed = False
        try:
            for _ in range(_LOOKS):
                if self._still_rejected(key):
                    break
                handle = self._look(key, ref.size)
                if handle is None:
                    self.counters.add("misses", not missed)
                    missed = True
                    before = enter(Stage.COLD)  # whether it fetches, or waits for who does
                    brought = self._bring_in(ref, key)
                    enter(before)
                    if not brought:
                        break
                elif use(handle, not missed):
                    return True
        except _CANNOT as error:
            self._refusals.pause(error)
        self.counters.add("misses", not missed)
        self.counters.add("fallthroughs")
        return False

    def _look(self, key: str, size: int | None) -> Handle | None:
        with local():
            return self._handles.acquire(key) or self._handles.open(key, size=size)

    def _read(self, handle: Handle, start: int, view: memoryview, hit: bool) -> bool:
        try:
            if os.preadv(handle.fd, (view,), start) != len(view):
                preadv_full(handle.fd, view, start, name=handle.key)
        except CorruptObject:  # emptied since it was opened
            self._handles.discard(handle)
            return False
        except OSError as error:
            self._handles.discard(handle)
            self._rejected.add(handle.key)
            _log.warning("the hot copy %s cannot be read (%s)", handle.key, error)
            return False
        except BaseException:
            self._handles.discard(handle)
            raise
        self._handles.release(handle, hit_bytes=len(view) if hit else 0)
        return True

    def _lease(self, handle: Handle, _hit: bool) -> bool:
        stat = os.fstat(handle.fd)
        with self._lease_lock:
            if stat.st_nlink and stat.st_size and handle.key not in self._leases and not self._closed:
                self._leases[handle.key] = handle
                return True
        self._handles.discard(handle)
        return handle.key in self._leases

    def _is_whole(self, handle: Handle, ref: Digest) -> bool:
        hasher = blake3()
        try:
            for span in parts(handle.size, PART_BYTES):
                hasher.update(os.pread(handle.fd, len(span), span.start))
        except OSError as error:
            _log.warning("the hot copy of %s cannot be read (%s)", ref, error)
            return False
        finally:
            self._handles.release(handle)
        return hasher.hexdigest() == ref.hex

    def _still_rejected(self, key: str) -> bool:
        """Whether a damaged copy is still there. Tries to drop it, now and then: readers of it may be at work."""
        if key not in self._rejected:
            return False
        if not self._refusals.allows(key):
            return True
        if not self._directory.evict(key):
            self._refusals.no_room(key)
            return True
        self._rejected.discard(key)
        return False

    # ------------------------------------------------------------------ bringing in

    def offer(self, ref: Digest, path: Path) -> None:
        """Copy a local file in, if it is what `ref` names and fits without evicting anything."""
        key = key_of(ref)
        try:
            with self._claimed(key, wait=False) as fd:
                if fd is None or not ref.size or self._directory.has(key, ref.size):
                    return
                if self._directory.reserve(key, fd, ref.size, evict=False):
                    self._arrive(ref, key, fd, lambda: pieces_of_file(path), tries=1)
        except _CANNOT as error:
            self._refusals.pause(error)

    def _bring_in(self, ref: Digest, key: str) -> bool:
        """Fetch an object, or wait for whoever is fetching it; then it is worth looking again. False where cold has to serve."""
        if not ref.size or charge(ref.size) > self._limit_bytes or not self._refusals.allows(key):
            return False
        with self._claimed(key, wait=True) as fd:
            if fd is None or self._directory.has(key, ref.size):
                return True
            if not self._directory.reserve(key, fd, ref.size, evict=True):
                self._refusals.no_room(key)
                return False
            if self._arrive(ref, key, fd, lambda: self._from_cold(ref), tries=_FETCHES):
                return True
            raise self._refusals.corrupt(
                key,
                f"{self._cold.url}/{ref.path}: the bytes of this object are not the ones it is named for, in {_FETCHES} fetches; {REMEDY}",
            )

    def _arrive(self, ref: Digest, key: str, fd: int, pieces: Callable[[], Generator[Buffer, None, None]], *, tries: int) -> bool:
        """Write, verify and name a claimed object that has room reserved. False where the bytes are wrong."""
        arrived = False
        try:
            for _ in range(tries):
                with closing(pieces()) as stream:
                    right = write_verified(fd, stream, ref)
                if right:
                    self._directory.complete(key, ref.size)
                    arrived = True
                    self.counters.add("fills")
                    break
                self.counters.add("corrupt")
                _log.warning("%s did not arrive as it is named", ref)
        finally:
            if not arrived:
                with self._tolerant():
                    self._directory.cancel(key, fd)
        return arrived

    def _from_cold(self, ref: Digest) -> Generator[Buffer, None, None]:
        with closing(fetch(self._cold, ref)) as pieces:
            for piece in pieces:
                self.counters.add("cold_bytes", memoryview(piece).nbytes)
                yield piece

    @contextmanager
    def _claimed(self, key: str, *, wait: bool) -> Iterator[int | None]:
        fd = self._directory.claim(key, wait=wait)
        if fd is None:
            yield None
            return
        self._claims.add(fd)
        try:
            yield fd
        finally:
            self._claims.discard(fd)
            with self._tolerant():
                self._directory.release(key, fd)

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """For tidying up: a disk that fails must not hide why there was something to tidy up."""
        try:
            yield
        except _CANNOT as error:
            self._refusals.pause(error)

    # ------------------------------------------------------------------ the whole

    def flush(self) -> None:
        """Let other processes see this one's counters and last reads."""
        self._flush_at = time.monotonic_ns() + _FLUSH_NS
        with self._tolerant():
            self._directory.flush(self._counted().take())

    def stats(self) -> HotStats:
        """The directory now, and this cache's own counters."""
        own = self._counted().totals()
        try:
            return replace(self._directory.stats(), **own)
        except _CANNOT as error:
            self._refusals.pause(error)
            return HotStats(bytes=0, limit_bytes=self._limit_bytes, index_bytes=0, objects=0, **own)

    def _counted(self) -> Counters:
        hits, hit_bytes = self._handles.hits()
        self.counters.set("hits", hits)
        self.counters.set("hot_bytes", hit_bytes)
        return self.counters

    def close(self) -> None:
        """Flush, end all leases, and give files and the index back. Reads that are under way finish."""
        if self._closed:
            return
        self._closed = True
        self.flush()
        with self._lease_lock:
            leases, self._leases = self._leases, {}
        for handle in leases.values():
            self._handles.release(handle)
        self._handles.close()
        self._directory.close()

    def abandon(self) -> None:
        """In a forked child: close the parent's files without touching its locks, and forget its index."""
        self._closed = True
        self._handles.abandon()
        for fd in self._claims:
            os.close(fd)
        self._directory.abandon()
