"""Files that become fields as they are, many at once: read by one call to where a tar needs them, looked at by another, and written.

Reading, looking and hashing let go of the interpreter, so tasks do this side by side. It is for files that lie in memory: those that a
disk has to give are better waited for by several threads.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from dataplane.formats import tar
from dataplane.formats.index import ImageInfo
from dataplane.group import CLASS_FIELD
from dataplane.ingest.plan import Todo
from dataplane.ingest.reading import Loaded, read_one
from dataplane.ingest.source import Entry, Together
from dataplane.ingest.taker import Taker
from dataplane.prep.sample import FileKind, as_is

__all__ = ["bunches", "take_together"]

_BUFFER_BYTES: Final = 1 << 20
_LEAD_BYTES: Final = {labelled: tar.lead((CLASS_FIELD, b"0") if labelled else None) for labelled in (False, True)}

Done = Callable[[Sequence[Todo]], None]
"""Hears of the files that were taken since it was last called."""


def bunches(needed: Sequence[int], room: int) -> Iterator[range]:
    """Neighbours that need no more than `room` bytes together; what needs more is by itself. Pure.

    >>> [list(bunch) for bunch in bunches([100, 100, 9000, 100], 4096)]
    [[0, 1], [2], [3]]
    """
    start = filled = 0
    for i, size in enumerate(needed):
        if i > start and filled + size > room:
            yield range(start, i)
            start, filled = i, 0
        filled += size
    if start < len(needed):
        yield range(start, len(needed))


def take_together(taker: Taker, source: Together, todo: Sequence[Todo], done: Done) -> int:
    """Take files up to some of which most bytes had to be fetched from a disk, or none could be read together (the system may lack what
    that takes). How many were taken: the others are better read by several threads."""
    buffer = np.empty(_BUFFER_BYTES, np.uint8)
    _load(taker.context.kind, source, buffer)
    for bunch in bunches([_lead(item) + tar.span(item.wanted.entry.size) for item in todo], len(buffer)):
        some, before = todo[bunch.start : bunch.stop], _fetched()
        if _lead(some[0]) + tar.span(some[0].wanted.entry.size) > len(buffer):
            _take_alone(taker, some[0])
            some_together = True
        else:
            some_together = _take_bunch(taker, source, some, buffer)
        done(some)
        if not some_together or 2 * (_fetched() - before) > sum(item.wanted.entry.size for item in some):
            return bunch.stop
    return len(todo)


def _lead(item: Todo) -> int:
    """The bytes of a tar in front of a file's own."""
    return _LEAD_BYTES[item.wanted.label is not None]


def _load(kind: FileKind, source: Together, buffer: npt.NDArray[np.uint8]) -> None:
    """Load what it takes, so that this is not counted as fetched for the first files."""
    source.read_together([], buffer, np.empty(0, np.int64))
    if kind == "pictures":
        _looked_at(buffer, [], [], 0)


def _fetched() -> int:
    """Bytes that this thread had to have fetched from disks so far. (The time would say less: threads wait for each other too.)"""
    return 512 * resource.getrusage(resource.RUSAGE_THREAD).ru_inblock


def _take_alone(taker: Taker, item: Todo) -> None:
    taker.take(item, read_one(taker.context.source, taker.context.kind, item.wanted.entry))


def _take_bunch(taker: Taker, source: Together, some: Sequence[Todo], buffer: npt.NDArray[np.uint8]) -> bool:
    """Take files that fit into `buffer`. Whether any of them was read together."""
    kind, entries, at = taker.context.kind, [item.wanted.entry for item in some], _places(some)
    etags = source.read_together(entries, buffer, np.array(at, np.int64))
    images = _looked_at(buffer, at, entries, taker.context.max_pixels) if kind == "pictures" else [None] * len(some)
    for item, entry, start, etag, image in zip(some, entries, at, etags, images, strict=True):
        if etag is None:
            _take_alone(taker, item)
            continue
        data = buffer[start : start + entry.size]
        digest = blake3(data.data).digest()
        name = as_is(kind, entry.path, entry.size, plain_jpeg=image is not None)
        out_of_order = name is not None and item.wanted.label is not None and name < CLASS_FIELD
        if name is None or out_of_order:
            taker.take(item, Loaded(data.tobytes(), etag, digest))
        else:
            taker.place(item, name, buffer, start, etag=etag, digest=digest, image=image)
    taker.group.flush()
    return any(etag is not None for etag in etags)


def _places(some: Sequence[Todo]) -> list[int]:
    """Where the files lie in a piece of a tar."""
    places, end = [], 0
    for item in some:
        places.append(end + _lead(item))
        end = places[-1] + tar.span(item.wanted.entry.size)
    return places


def _looked_at(buffer: npt.NDArray[np.uint8], at: Sequence[int], entries: Sequence[Entry], max_pixels: int) -> list[ImageInfo | None]:
    """What the header of each file says, if it is a plain JPEG file and not too large; else None."""
    from dataplane.prep.jpegs import plain_pictures  # loads numba

    found = plain_pictures(buffer, np.array(at, np.int64), np.array([entry.size for entry in entries], np.int64))
    return [ImageInfo(*told) if 0 < told[0] * told[1] <= max_pixels else None for told in found.tolist()]
