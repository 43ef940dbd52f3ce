"""Fetching the bytes that a Zarr shard needs: few requests, side by side, and none of them silently short."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from dataplane.errors import CorruptObject, NotFound, SourceChanged
from dataplane.objects import Objects
from dataplane.refs import Foreign, ObjectRef

__all__ = ["Place", "fetch"]

_AT_ONCE: Final = 16  # requests for different objects


@dataclass(frozen=True, slots=True)
class Place:
    """Where some bytes lie, and the CRC-32 they have, where it is known."""

    ref: ObjectRef
    start: int
    size: int
    name: str
    crc32: int | None = None


def fetch(objects: Objects, places: Sequence[Place | None]) -> list[Any]:
    """The bytes at each place, None for None. Those of one object share requests; different objects are read side by side.

    Raises `CorruptObject` for bytes that are short or fail their CRC, `SourceChanged` where an adopted object is gone or another.
    """
    found: list[Any] = [None] * len(places)
    by_object: dict[ObjectRef, list[int]] = {}
    for i, place in enumerate(places):
        if place is not None:
            by_object.setdefault(place.ref, []).append(i)

    def read(ref: ObjectRef) -> None:
        mine = [place for place in (places[i] for i in by_object[ref]) if place is not None]
        for i, piece in zip(by_object[ref], _ranges(objects, ref, mine), strict=True):
            found[i] = piece

    if len(by_object) > 1:
        with ThreadPoolExecutor(min(_AT_ONCE, len(by_object)), "zarr-members") as pool:
            list(pool.map(read, by_object))
    else:
        for ref in by_object:
            read(ref)
    return found


def _ranges(objects: Objects, ref: ObjectRef, places: Sequence[Place]) -> Sequence[memoryview]:
    try:
        pieces = objects.ranges(ref, starts=[place.start for place in places], lengths=[place.size for place in places])
    except NotFound as error:
        if isinstance(ref, Foreign):
            raise SourceChanged(str(error)) from error
        raise
    where = objects.where(ref)
    for place, piece in zip(places, pieces, strict=True):
        if len(piece) != place.size:
            raise CorruptObject(f"{where}: {place.name} has {len(piece)} of {place.size} bytes at {place.start}: it is cut off")
        if place.crc32 is not None and zlib.crc32(piece) != place.crc32:
            raise CorruptObject(f"{where}: {place.name} fails its checksum")
    return pieces
