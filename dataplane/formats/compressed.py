"""Byte ranges of what a compressed object holds: the decompressed stream, read from its start up to where they end.

So a range costs time in proportion to its position, unless it lies behind the last one that was read. That is what a compressed tar costs
whoever adopts it; ingest it instead where samples are read in any other order than their own.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pyarrow as pa

from dataplane.errors import CorruptObject, DataplaneError
from dataplane.objects import Objects
from dataplane.refs import ObjectRef

__all__ = ["COMPRESSIONS", "SECTION", "Decompressed", "Decompressing", "compression_of"]

SECTION: Final = "tar.compression"
"""The section of a tar's index that names how the whole archive is compressed. Offsets are those of the decompressed stream then."""

COMPRESSIONS: Final = {b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
"""How compressed streams begin, and what Arrow calls them."""

_FETCH_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 128 << 10  # what is lost of a stream before the place where it is damaged

Fetch = Callable[[int, int], Any]
"""Bytes of an object: (start, length) to a buffer that is valid until the next call, short only where the object ends."""


def compression_of(head: bytes) -> str | None:
    """How an object that begins with `head` is compressed, or None."""
    return next((name for magic, name in COMPRESSIONS.items() if head.startswith(magic)), None)


class Decompressing:
    """A decompressed stream, read forwards. Not thread-safe."""

    def __init__(self, fetch: Fetch, size: int, compression: str, *, where: str) -> None:
        self.position = 0
        self._held = memoryview(b"")
        self._trouble: CorruptObject | None = None
        self._where = where
        self._compression = compression
        self._stream = pa.CompressedInputStream(pa.PythonFile(_Raw(fetch, size), mode="r"), compression)

    def read(self, length: int) -> bytes:
        """The next bytes; fewer where the stream ends. Raises `CorruptObject` for what does not decompress, once what does is read."""
        pieces: list[memoryview] = []
        while length:
            if not self._held:
                try:
                    self._held = memoryview(self._more())
                except CorruptObject:
                    if not pieces:
                        raise
                    break
            piece = self._held[:length]
            if not piece:
                break
            self._held = self._held[len(piece) :]
            pieces.append(piece)
            length -= len(piece)
            self.position += len(piece)
        return b"".join(pieces)

    def skip_to(self, position: int) -> bool:
        """Read on to `position`; False where the stream ends before."""
        while self.position < position:
            if not self.read(min(_PIECE_BYTES, position - self.position)):
                return False
        return True

    def _more(self) -> bytes:
        """The next piece of the stream: always of one size, so that every reader of a damaged stream gets equally far."""
        if self._trouble is not None:
            raise self._trouble
        try:
            with self._errors():
                return self._stream.read(_PIECE_BYTES)  # type: ignore[no-any-return]
        except CorruptObject as error:
            self._trouble = error
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DataplaneError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise CorruptObject(
                f"{self._where} is damaged: its {self._compression} stream cannot be decompressed behind byte {self.position:,} of what it "
                f"holds ({error})"
            ) from error


class Decompressed:
    """The bytes in a compressed object, with the same ways to ask for them as `Objects` has. Thread-safe: reads take turns.

    It keeps its place, so reading in order decompresses everything once.
    """

    def __init__(self, objects: Objects, compression: str) -> None:
        self.store = objects.store
        self._objects = objects
        self._compression = compression
        self._stream: Decompressing | None = None
        self._ref: ObjectRef | None = None
        self._lock = threading.Lock()

    def where(self, ref: ObjectRef) -> str:
        """Where the object lies, for messages."""
        return self._objects.where(ref)

    def ranges(self, ref: ObjectRef, *, starts: Sequence[int], lengths: Sequence[int]) -> Sequence[memoryview]:
        """Ranges of the decompressed stream, in the order asked for; short where it ends. Raises what `Objects.ranges` raises, and
        `CorruptObject`."""
        pieces: list[memoryview] = [memoryview(b"")] * len(starts)
        last: tuple[int, int] | None = None
        with self._lock:
            for i in sorted(range(len(starts)), key=lambda i: (starts[i], lengths[i])):
                if last is not None and (starts[last[0]], lengths[last[0]]) == (starts[i], lengths[i]):
                    pieces[i] = pieces[last[0]]
                    continue
                pieces[i] = memoryview(self._read(ref, starts[i], lengths[i]))
                last = (i, i)
        return pieces

    def pieces(self, ref: ObjectRef, *, starts: Sequence[int], lengths: Sequence[int]) -> Iterator[memoryview]:
        """What `ranges` gives, as `Objects.pieces` does."""
        return iter(self.ranges(ref, starts=starts, lengths=lengths))

    def _read(self, ref: ObjectRef, start: int, length: int) -> bytes:
        if not length:
            return b""
        stream = self._stream
        if stream is None or self._ref != ref or stream.position > start:
            stream = Decompressing(self._fetch(ref), ref.size, self._compression, where=self.where(ref))
        self._stream = None  # an error leaves no stream that stands somewhere in between
        data = stream.read(length) if stream.skip_to(start) else b""
        self._stream, self._ref = stream, ref
        return data

    def _fetch(self, ref: ObjectRef) -> Fetch:
        return lambda start, length: self._objects.ranges(ref, starts=[start], lengths=[length])[0]


class _Raw(io.RawIOBase):
    """The compressed bytes as a file for Arrow, fetched a piece at a time."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._at = 0
        self._held = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._held and self._at < self._size:
            self._held = memoryview(self._fetch(self._at, min(_FETCH_BYTES, self._size - self._at)))
            self._at += len(self._held)
        piece = self._held if size < 0 else self._held[:size]
        self._held = self._held[len(piece) :]
        return bytes(piece)
