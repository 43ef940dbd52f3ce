"""What stands behind the end marker of a JPEG file: previews, gain maps, the film of a motion photo. Nobody's business but its readers'.

Most of them find it from the end of the file. A multi-picture index (CIPA DC-007), though, has offsets from the beginning, which change
with the picture in front.
"""

from __future__ import annotations

import struct
from typing import Final

from dataplane.formats.jpeg.errors import Unsupported
from dataplane.formats.jpeg.header import marker_segments
from dataplane.formats.jpeg.markers import APP2, SOS

__all__ = ["with_rest"]

_MPF: Final = b"MPF\0"
_ENTRIES: Final = 0xB002  # the TIFF tag
_ENTRY_BYTES: Final = 16  # kind, size, offset from the TIFF header (0: the first picture), dependent pictures


def with_rest(picture: bytes, data: bytes, end: int) -> bytes:
    """`picture`, which takes the place of the first `end` bytes of `data`, with all that follows there."""
    before, after = (_index_of(data), _index_of(picture)) if end < len(data) else (None, None)
    if before is None or after is None:
        return picture + data[end:]
    moved = bytearray(picture)
    try:
        _move(memoryview(moved)[after], grown=len(picture) - end, shift=(len(picture) - after.start) - (end - before.start))
    except (KeyError, struct.error) as error:
        raise Unsupported("a damaged index of further pictures") from error
    return bytes(moved) + data[end:]


def _index_of(data: bytes) -> slice | None:
    """Where the multi-picture index is, from its TIFF header on."""
    for segment, end in marker_segments(data):
        if segment.marker == APP2 and segment.payload.startswith(_MPF):
            return slice(end - len(segment.payload) + len(_MPF), end)
        if segment.marker == SOS:
            break
    return None


def _move(index: memoryview, *, grown: int, shift: int) -> None:
    """Add to the size of the first picture, and to the offsets of the others."""
    order = {b"II": "<", b"MM": ">"}[bytes(index[:2])]
    (directory,) = struct.unpack_from(f"{order}I", index, 4)
    (count,) = struct.unpack_from(f"{order}H", index, directory)
    for number in range(count):
        tag, _, size, entries = struct.unpack_from(f"{order}HHII", index, directory + 2 + 12 * number)
        for at in range(entries, entries + size, _ENTRY_BYTES) if tag == _ENTRIES else ():
            length, offset = struct.unpack_from(f"{order}II", index, at + 4)
            length, offset = (length, offset + shift) if offset else (length + grown, 0)
            struct.pack_into(f"{order}II", index, at + 4, length, offset)
