"""What of a file's metadata stays with it when the rest is dropped: whatever changes how its pixels are shown.

Colours depend on the JFIF and the Adobe segment, and the EXIF orientation turns the picture. Profiles (ICC), comments, previews, places and
dates go.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from typing import Final

from dataplane.formats.jpeg.markers import APP0, APP1, APP14, APP15, COM, MarkerSegment

__all__ = ["essential"]

_ORIENTATION: Final = 0x0112
_SHORT: Final = 3
_TURNED: Final = range(2, 9)


def essential(segments: tuple[MarkerSegment, ...], data: bytes) -> Iterator[MarkerSegment]:
    """Those of a header's segments that decoding needs, and a minimal EXIF segment if the picture `data` is to be turned."""
    turned = _orientation(data) if any(segment.marker == APP1 for segment in segments) else 1
    for segment in segments:
        jfif = segment.marker == APP0 and segment.payload.startswith(b"JFIF\0")
        if turned != 1 and not jfif:  # its place is behind JFIF, and before all others
            yield MarkerSegment(APP1, _exif(turned))
            turned = 1
        if jfif or not (APP0 <= segment.marker <= APP15 or segment.marker == COM) or _is_adobe(segment):
            yield segment


def _is_adobe(segment: MarkerSegment) -> bool:
    return segment.marker == APP14 and segment.payload.startswith(b"Adobe")


def _orientation(data: bytes) -> int:
    """As Pillow reads it, like everything in this project: from XMP, too; 1 where it is damaged."""
    from PIL.JpegImagePlugin import JpegImageFile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = JpegImageFile(io.BytesIO(data)).getexif().get(_ORIENTATION, 1)
        except Exception:  # Pillow raises whatever its parsing runs into
            return 1
    return value if value in _TURNED else 1


def _exif(orientation: int) -> bytes:
    """An EXIF segment's payload: a TIFF directory of one entry."""
    entry = struct.pack("<HHIHxx", _ORIENTATION, _SHORT, 1, orientation)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
