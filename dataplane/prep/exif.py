"""What the metadata in a JPEG file's header say about turning it: compiled, for files of which nothing in them is odd."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from dataplane.jit import compiled

__all__ = ["SILENT", "STRANGE", "is_photoshop", "orientation", "starts"]

SILENT: Final = 0
"""There is no orientation in it."""
STRANGE: Final = -1
"""Something in it is damaged or unusual."""

_EXIF: Final = np.frombuffer(b"Exif\0\0", np.uint8)
_LITTLE: Final = np.frombuffer(b"II*\0", np.uint8)
_BIG: Final = np.frombuffer(b"MM\0*", np.uint8)
_PHOTOSHOP: Final = np.frombuffer(b"Photoshop 3.0\0", np.uint8)
_RESOURCE: Final = np.frombuffer(b"8BIM", np.uint8)
_ORIENTATION: Final = 0x0112
_SHORT: Final = 3
_UNITS: Final = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8], np.int64)  # bytes of a value, by its TIFF type; 0: unknown


@compiled
def orientation(segment: Any) -> int:
    """1 to 8, as the EXIF data in an APP1 segment (uint8) say; SILENT or STRANGE."""
    if len(segment) < 14 or not starts(segment, 0, _EXIF):
        return STRANGE
    tiff = segment[6:]
    big = starts(tiff, 0, _BIG)
    if not big and not starts(tiff, 0, _LITTLE):
        return STRANGE
    at = _number(tiff, 4, 4, big)
    if at + 2 > len(tiff):
        return STRANGE
    count, at, said, all_bytes = _number(tiff, at, 2, big), at + 2, SILENT, 0
    if at + 12 * count > len(tiff):
        return STRANGE
    for entry in range(at, at + 12 * count, 12):
        kind, values = _number(tiff, entry + 2, 2, big), _number(tiff, entry + 4, 4, big)
        size = values * (_UNITS[kind] if kind < len(_UNITS) else 0)
        if size > 4:
            all_bytes += size
            if _number(tiff, entry + 8, 4, big) + size > len(tiff) or all_bytes > len(tiff):
                return STRANGE
        if _number(tiff, entry, 2, big) == _ORIENTATION:
            if said != SILENT or kind != _SHORT or values != 1:
                return STRANGE
            value = _number(tiff, entry + 8, 2, big)
            said = value if 1 <= value <= 8 else 1
    return int(said)


@compiled
def is_photoshop(segment: Any) -> bool:
    """An APP13 segment of whole resources."""
    if not starts(segment, 0, _PHOTOSHOP):
        return False
    at = len(_PHOTOSHOP)
    while starts(segment, at, _RESOURCE):
        if at + 7 > len(segment):
            return False
        at += 7 + segment[at + 6]
        at += at & 1
        if at + 4 > len(segment):
            return False
        at += 4 + _number(segment, at, 4, True)
        at += at & 1
    return True


@compiled
def starts(data: Any, at: int, word: Any) -> bool:
    """`word` stands at `at` of `data`."""
    if at + len(word) > len(data):
        return False
    same = 0
    while same < len(word) and data[at + same] == word[same]:
        same += 1
    return same == len(word)


@compiled
def _number(data: Any, at: int, size: int, big: bool) -> int:
    number = 0
    for i in range(size):
        number = number << 8 | int(data[at + (i if big else size - 1 - i)])
    return number
