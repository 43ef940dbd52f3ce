"""What is stored of a picture: the file as it is, or a JPEG with an index of its parts, for loaders that decode only those that they need.

A file is transcoded without changing a pixel, and that is checked: where pictures are decoded to find damage, the transcoded file is
decoded too, and compared with the original. `recode` goes through all of the compressed data by itself, so what it takes needs no look
before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from dataplane.errors import BadSample
from dataplane.prep.image import SNIFF_BYTES, Picture, examine, pixels, sniff
from dataplane.prep.options import DEFAULT_QUALITY, PictureOptions

if TYPE_CHECKING:
    from dataplane.formats.jpeg import Recoded

__all__ = ["Stored", "stored"]

_DIFFERENT = "it would not decode to the same pixels"


@dataclass(frozen=True, slots=True)
class Stored:
    """The bytes to store, what they are, and what was done: `left` is why a file was not treated as was asked for, where it was not."""

    data: bytes
    picture: Picture
    left: str | None = None
    encoded: bool = False

    @property
    def indexed(self) -> bool:
        """Loaders can decode parts of it."""
        return bool(self.picture.info.segments)


def stored(data: bytes, *, decode: bool, max_pixels: int, options: PictureOptions) -> Stored:
    """What to store of the picture `data`. With `decode` all of it is decoded, to find damage, and the pixels of a transcoded file are
    compared with its own. A pure function; thread-safe. Raises what `examine` raises."""
    if sniff(data[:SNIFF_BYTES]) != "jpg":
        picture = examine(data, decode=decode, max_pixels=max_pixels)
        return Stored(data, picture, _too_large(picture, options.max_side))
    encoded = _encoded(data, decode=decode, max_pixels=max_pixels, options=options) if options.encodes else None
    if encoded is not None:
        data = encoded
    if options.jpeg == "keep":
        picture = examine(data, decode=decode and encoded is None, max_pixels=max_pixels)
        return Stored(data, picture, _too_large(picture, options.max_side), encoded is not None)
    return replace(_indexed(data, decode=decode, max_pixels=max_pixels, options=options), encoded=encoded is not None)


def _encoded(data: bytes, *, decode: bool, max_pixels: int, options: PictureOptions) -> bytes | None:
    from dataplane.prep.smaller import smaller

    picture = examine(data, decode=decode, max_pixels=max_pixels)
    quality = options.jpeg_quality or DEFAULT_QUALITY
    return smaller(data, picture, max_side=options.max_side, quality=quality, anew=options.jpeg_quality is not None)


def _indexed(data: bytes, *, decode: bool, max_pixels: int, options: PictureOptions) -> Stored:
    from dataplane.formats.jpeg import Unsupported  # loads numba: a second and 100 MB that other data need not pay

    try:
        picture = examine(data, decode=False, max_pixels=max_pixels)  # first, since what is allocated then is up to the number of pixels
        recoded = _recoded(data, options)
    except (BadSample, Unsupported) as reason:
        return Stored(data, examine(data, decode=decode, max_pixels=max_pixels), str(reason))
    if decode and not _same_pixels(data, recoded.data):
        return Stored(data, picture, _DIFFERENT)
    return Stored(recoded.data, replace(picture, info=replace(picture.info, segments=recoded.segments.pack())))


def _recoded(data: bytes, options: PictureOptions) -> Recoded:
    from dataplane.formats.jpeg import Unsupported, baseline, recode

    try:
        return recode(data, metadata=options.metadata)
    except Unsupported as reason:
        if options.progressive == "keep":
            raise
        try:
            sequential = baseline(data)
        except Unsupported:  # it was not for being progressive, or there is more to it
            raise reason from None
        return recode(sequential, metadata=options.metadata)


def _same_pixels(data: bytes, other: bytes) -> bool:
    """Raises `BadSample` where `data` are damaged."""
    before = pixels(data)
    try:
        return np.array_equal(before, pixels(other))
    except BadSample:
        return False


def _too_large(picture: Picture, max_side: int | None) -> str | None:
    """Why a picture is larger than it should be, if it is."""
    if max_side is None or max(picture.info.width, picture.info.height) <= max_side:
        return None
    return f"{picture.format}, larger than {max_side} pixels: only grey and RGB JPEGs are made smaller"
