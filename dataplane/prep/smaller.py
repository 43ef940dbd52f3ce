"""JPEG files made smaller, where a user asks for it: fewer pixels, or a lower quality."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any, Final

from PIL.Image import Resampling, Transpose
from PIL.JpegImagePlugin import JpegImageFile

from dataplane.prep.image import ORIENTATION, Picture, alone, plain_reasons

__all__ = ["smaller"]

_UPRIGHT: Final = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_REDUCING_GAP: Final = 3.0
"""libjpeg may halve a picture as it decodes while three times the pixels that are wanted are left: for Pillow as good as resampling all."""
_SAMPLING: Final = "4:2:0"
_MAX_EXIF: Final = 65_000


def smaller(data: bytes, picture: Picture, *, max_side: int | None, quality: int, anew: bool) -> bytes | None:
    """The JPEG `data`, sequential and upright, with at most `max_side` pixels on its longer side. None where it is to stay as it is: it is
    not larger than that, and `anew` does not ask for all to be encoded, or encoding gives no fewer bytes; or it is CMYK.

    Reduced with Lanczos, encoded in 4:2:0. EXIF (without the orientation) and the profile stay, other metadata goes. Raises `BadSample`.
    """
    reduced = max_side is not None and max(picture.info.width, picture.info.height) > max_side
    if not reduced and not anew:
        return None
    with alone(), plain_reasons():
        image = JpegImageFile(io.BytesIO(data))
        if image.mode not in ("L", "RGB"):
            return None
        kept = _metadata(image)
        if max_side is not None:
            image.thumbnail((max_side, max_side), Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
        turn = _UPRIGHT.get(picture.info.orientation)
        out = io.BytesIO()
        upright = image if turn is None else image.transpose(turn)
        upright.save(out, "JPEG", quality=quality, subsampling=_SAMPLING, optimize=True, comment=b"", **kept)
    return out.getvalue() if reduced or len(out.getvalue()) < len(data) else None


def _metadata(image: JpegImageFile) -> dict[str, Any]:
    """The profile, and the EXIF if it can be read."""
    kept: dict[str, Any] = {"icc_profile": image.info.get("icc_profile")}
    with suppress(Exception):  # damaged EXIF is common in sound photographs, and raises anything
        exif = image.getexif()
        exif.pop(ORIENTATION, None)
        if len(exif) and len(written := exif.tobytes()) < _MAX_EXIF:
            kept["exif"] = written
    return kept
