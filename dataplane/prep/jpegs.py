"""What the headers of many JPEG files in one buffer say: compiled, and without holding the interpreter.

It goes further than `plain_header`, which looks at one file in Python: EXIF data may stand in a header that is plain enough.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dataplane.jit import compiled
from dataplane.prep.exif import SILENT, STRANGE, is_photoshop, orientation, starts

__all__ = ["plain_pictures"]

_SOF0, _SOF2, _DHT, _SOS, _DQT, _DRI, _COM = 0xFFC0, 0xFFC2, 0xFFC4, 0xFFDA, 0xFFDB, 0xFFDD, 0xFFFE
_APP0, _APP1, _APP2, _APP13, _APP14 = 0xFFE0, 0xFFE1, 0xFFE2, 0xFFED, 0xFFEE
_JFIF: Final = np.frombuffer(b"JFIF\0", np.uint8)
_ICC: Final = np.frombuffer(b"ICC_PROFILE\0", np.uint8)
_XMP: Final = np.frombuffer(b"http://ns.adobe.com/xap/1.0/\0", np.uint8)
_ADOBE: Final = np.frombuffer(b"Adobe", np.uint8)


@compiled
def plain_pictures(buffer: Any, at: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Width and height as stored, and EXIF orientation, int32 [n, 3], of the JPEG files at `buffer[at[i] : at[i] + sizes[i]]` (uint8): of
    those whose header has nothing in it that Pillow might refuse or read otherwise, and that have an end marker. Zeros for every other,
    whatever its bytes are."""
    found = np.zeros((len(at), 3), np.int32)
    for i in range(len(at)):
        data = buffer[at[i] : at[i] + sizes[i]]
        scan = _header(data, found[i])
        if scan == 0 or not _ends(data, scan):
            found[i] = 0
    return found


@compiled
def _header(data: Any, found: Any) -> int:
    """Where the first scan begins, and in `found` the size and orientation; 0 for a header that is not plain."""
    if len(data) < 3 or data[0] != 0xFF or data[1] != 0xD8 or data[2] != 0xFF:
        return 0
    at, turned, has_exif, has_xmp = 2, SILENT, False, False
    while at + 4 <= len(data):
        marker, length = _two(data, at), _two(data, at + 2)
        end = at + 2 + length
        if length < 2 or end > len(data):
            return 0
        segment = data[at + 4 : end]
        if _SOF0 <= marker <= _SOF2:
            if found[0] or not _is_frame(segment):
                return 0
            found[0], found[1] = _two(segment, 3), _two(segment, 1)
        elif marker == _SOS:
            found[2] = max(1, turned)
            return 0 if not found[0] or (has_xmp and turned == SILENT) else end  # what EXIF does not say, XMP may
        elif marker == _APP1 and starts(segment, 0, _XMP):
            has_xmp = True
        elif marker == _APP1:
            turned = STRANGE if has_exif else orientation(segment)
            has_exif = True
            if turned == STRANGE:
                return 0
        elif not _is_harmless(marker, segment):
            return 0
        at = end
    return 0


@compiled
def _is_frame(segment: Any) -> bool:
    sound = len(segment) > 5 and segment[0] == 8 and (segment[5] == 1 or segment[5] == 3) and len(segment) == 6 + 3 * segment[5]
    return sound and _two(segment, 1) > 0 and _two(segment, 3) > 0


@compiled
def _is_harmless(marker: int, segment: Any) -> bool:
    if marker == _DQT:
        at = 0
        while at < len(segment):
            at += 65 if segment[at] < 16 else 129
        return at == len(segment)
    if marker == _APP0:
        return len(segment) == 14 and starts(segment, 0, _JFIF)
    if marker == _APP2:
        return len(segment) > 14 and starts(segment, 0, _ICC)
    if marker == _APP13:
        return is_photoshop(segment)
    if marker == _APP14:
        return len(segment) >= 12 and starts(segment, 0, _ADOBE)
    return marker == _DHT or marker == _DRI or marker == _COM  # noqa: PLR1714


@compiled
def _ends(data: Any, scan: int) -> bool:
    at = len(data) - 2
    while at >= scan and not (data[at] == 0xFF and data[at + 1] == 0xD9):
        at -= 1
    return at >= scan


@compiled
def _two(data: Any, at: int) -> int:
    return (int(data[at]) << 8) | int(data[at + 1])
