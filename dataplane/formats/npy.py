"""Pixels as a NumPy file (`.npy`, format 1.0): uint8 [height, width, 3], red green blue, rows from the top, behind a header of 128 bytes.

What is written here is what `numpy.save` writes; files of other tools are read as long as they hold uint8 pixels in C order, with three
channels or one.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from dataplane.errors import BadSample, InvalidArgument

__all__ = ["MAGIC", "Layout", "layout", "pack", "unpack"]

MAGIC: Final = b"\x93NUMPY"
_HEADER_BYTES: Final = 128
_TEXT_AT: Final = 10  # behind the magic, the version and the length of the text
_LARGEST_HEADER: Final = 10_000  # of bytes that Python parses
_ALLOWED: Final = "allowed are uint8 pixels in C order, [height, width, 3] or [height, width]"


class Layout(NamedTuple):
    """What a header says: the shape of the pixels, `channels` being 3 or 1, and the byte where they begin."""

    height: int
    width: int
    channels: int
    start: int


def pack(pixels: npt.NDArray[np.uint8]) -> bytes:
    """The file that holds `pixels`, uint8 [height, width, 3]. Equal pixels give equal bytes."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InvalidArgument(f"pixels are uint8 [height, width, 3]; got {pixels.dtype} {list(pixels.shape)}")
    return b"".join((_header(*pixels.shape[:2]), np.ascontiguousarray(pixels).data))


def layout(data: Any, *, expected: tuple[int, int] | None = None) -> Layout:
    """The layout of a file's bytes (any buffer). `expected` (height, width) makes it quick for those that `pack` has made of this size.

    Raises `BadSample` where the file holds anything but pixels, or fewer than its header says.
    """
    view = memoryview(data)
    usual = expected is not None and view[:_HEADER_BYTES] == _header(*expected)
    found = Layout(*expected, 3, _HEADER_BYTES) if expected is not None and usual else _parse(view)
    lacking = found.start + found.height * found.width * found.channels - view.nbytes
    if lacking > 0:
        raise BadSample(f"truncated: {lacking:,} bytes of {found.height} × {found.width} pixels are missing")
    return found


def unpack(data: Any) -> npt.NDArray[np.uint8]:
    """The pixels [height, width, 3] in a file's bytes, as a view of them where there are three channels. Raises what `layout` raises."""
    height, width, channels, start = layout(data)
    pixels = np.frombuffer(data, np.uint8, height * width * channels, start).reshape(height, width, channels)
    return pixels if channels == 3 else np.repeat(pixels, 3, axis=2)


@lru_cache(maxsize=1024)
def _header(height: int, width: int) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({height}, {width}, 3), }}"
    padded = text.encode().ljust(_HEADER_BYTES - _TEXT_AT - 1) + b"\n"
    return MAGIC + b"\x01\x00" + len(padded).to_bytes(2, "little") + padded


def _parse(view: memoryview) -> Layout:
    try:
        head = io.BytesIO(view[: _LARGEST_HEADER + 16])
        version = np.lib.format.read_magic(head)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(head, max_header_size=_LARGEST_HEADER)
    except Exception as error:  # whatever parsing hostile bytes raises
        raise BadSample(f"not a NumPy file that can be read: {error}") from error
    channels = shape[2] if len(shape) == 3 else 1
    if dtype != np.uint8 or fortran or len(shape) not in (2, 3) or channels not in (1, 3) or min(shape) < 1:
        order = " in Fortran's order" if fortran else ""
        raise BadSample(f"the array is {dtype} {list(shape)}{order}; {_ALLOWED}")
    return Layout(int(shape[0]), int(shape[1]), int(channels), head.tell())
