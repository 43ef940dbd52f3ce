"""How the bytes of an object come in: which ranges, how many at once, and whether they are the right ones."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from dataplane.ranges import Span
from dataplane.refs import Digest
from dataplane.store import Store
from tiering.layout import local

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["PART_BYTES", "fetch", "parts", "pieces_of_file", "write_verified"]

PART_BYTES: Final = 8 << 20
_IN_FLIGHT: Final = 4


def parts(size: int, part_bytes: int) -> tuple[Span, ...]:
    """The ranges, in order, that together are an object of `size` bytes. Pure."""
    return tuple(Span(start, min(start + part_bytes, size)) for start in range(0, size, part_bytes))


def fetch(cold: Store, ref: Digest) -> Generator[Buffer, None, None]:
    """The bytes of an object in order, a few ranges in flight at once. The cold store's errors pass."""
    spans = parts(ref.size, PART_BYTES)
    if len(spans) <= 1:
        yield from (cold.get_range(ref.path, start=span.start, end=span.end) for span in spans)
        return
    with ThreadPoolExecutor(min(_IN_FLIGHT, len(spans)), thread_name_prefix="tiering-fetch") as pool:
        waiting: deque[Future[Buffer]] = deque()
        try:
            for span in spans:
                waiting.append(pool.submit(cold.get_range, ref.path, start=span.start, end=span.end))
                if len(waiting) == _IN_FLIGHT:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def pieces_of_file(path: Path) -> Generator[Buffer, None, None]:
    """The bytes of a local file in order."""
    with local(), open(path, "rb", buffering=0) as stream:
        while piece := stream.read(PART_BYTES):
            yield piece


def write_verified(fd: int, pieces: Iterable[Buffer], ref: Digest) -> bool:
    """Write `pieces` from the start of an open file, durably. False where they are not the bytes that `ref` names; what was written
    is then worthless. Raises `Unusable` for the local disk's errors."""
    hasher, done = blake3(), 0
    for piece in pieces:
        view = memoryview(piece).cast("B")
        if done + len(view) > ref.size:  # more than there is room reserved for
            return False
        hasher.update(view)
        with local():
            while view:
                written = os.pwrite(fd, view, done)
                done, view = done + written, view[written:]
    if done != ref.size or hasher.hexdigest() != ref.hex:
        return False
    with local():
        os.fsync(fd)
    return True
