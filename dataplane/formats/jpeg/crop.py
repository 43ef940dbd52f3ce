"""What `Segments.unpack`, `Segments.window` and `cut` do, in one compiled call from packed bytes to the cut: for loaders, who do it for
every sample. Those say in words what is wrong where this finds a fault, and are what its tests hold it against.

The cut is the same but for the size in its header: of the last MCUs, it shows no more than the box needs. Pixels that are not shown cost
no upsampling and no change of colours: that saves a fiftieth of the decoding.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataplane.errors import CorruptObject
from dataplane.formats.jpeg.bits import Bytes
from dataplane.formats.jpeg.cut import Data, _cut, _number, cut
from dataplane.formats.jpeg.segments import (
    _BLOCK,
    _FLAGS,
    _HEAD,
    _MAX_BLOCKS,
    _SIZE_BYTES,
    _SUBSAMPLED_ACROSS,
    _SUBSAMPLED_DOWN,
    _WIDE,
    VERSION,
    Area,
    Segments,
)
from dataplane.jit import compiled

__all__ = ["crop"]

_HEAD_BYTES: Final = _HEAD.size
_MAX_MCU: Final = _BLOCK * _MAX_BLOCKS
_FAULT: Final = (-1, 0, 0, 0, 0)
_NARROW: Final = 4
"""Pixels of two colour samples, the most that libjpeg does not smooth."""


def crop(data: Data, packed: Data, size: tuple[int, int], box: Area, out: NDArray[np.uint8]) -> tuple[int, Area]:
    """Write a JPEG of the segments that `box` needs to `out`: how many bytes it has, and which pixels of the picture it shows. Inside
    `box` they are those of the whole picture, decoded at its full size by libjpeg(-turbo) with or without smooth upsampling.

    `packed` are the picture's segments as packed, `size` its width and height, which they must confirm. `out` and threads: as in `cut`.
    Raises what `Segments.unpack`, `Segments.window` and `cut` raise.
    """
    if out.dtype != np.uint8 or out.ndim != 1 or not out.flags.c_contiguous or not out.flags.writeable:
        return _explained(data, packed, size, box, out)
    source, index = np.frombuffer(data, np.uint8), np.frombuffer(packed, np.uint8)
    source.flags.writeable = index.flags.writeable = False  # of these views: one compiled function does for bytes and buffers
    found, x0, y0, x1, y1 = _crop(source, index, size, (*box,), out)
    return (found, Area(x0, y0, x1, y1)) if found >= 0 else _explained(data, packed, size, box, out)


def _explained(data: Data, packed: Data, size: tuple[int, int], box: Area, out: NDArray[np.uint8]) -> tuple[int, Area]:
    """The same in Python, whose errors say what is wrong."""
    segments = Segments.unpack(np.frombuffer(packed, np.uint8).data)
    if (segments.width, segments.height) != size:
        raise CorruptObject(
            f"index of a JPEG: it is of {segments.width} × {segments.height} pixels, the picture has {size[0]} × {size[1]}: index it anew"
        )
    window = segments.window(box)
    return cut(data, segments, window, out), window.area


@compiled
def _span(start: int, stop: int, step: int, reach: int, count: int) -> tuple[int, int]:
    return max(start - reach, 0) // step, min((stop + reach + step - 1) // step, count)


@compiled
def _least(start: int, stop: int, wanted: int, mcu: int) -> int:
    """The first end from `wanted` on with as many MCUs from `start` on as `stop` has."""
    return max(min(wanted, stop), start + (stop - start - 1) // mcu * mcu + 1)


@compiled
def _crop(data: Bytes, packed: Bytes, size: tuple[int, int], box: tuple[int, ...], out: Bytes) -> tuple[int, ...]:
    """The cut's size and what it shows; a negative size where anything is wrong."""
    if packed.size < _HEAD_BYTES or packed[0] != VERSION or packed[1] >= _FLAGS:
        return _FAULT
    flags, mcu = int(np.int64(packed[1])), int(np.int64(packed[2]))
    across, down = _BLOCK * (mcu >> 4), _BLOCK * (mcu & 15)
    interval, width, height = _number(packed[3:], 0, 2), _number(packed[3:], 1, 2), _number(packed[3:], 2, 2)
    header_bytes, at_size = _number(packed[9:], 0, 4), _number(packed[9:], 1, 4)
    step, length_bytes = interval * across, 4 if flags & _WIDE else 2
    if width != size[0] or height != size[1] or not (0 < across <= _MAX_MCU and 0 < down <= _MAX_MCU and interval > 0):
        return _FAULT
    if (width + across - 1) // across % interval or not 0 < at_size <= header_bytes - _SIZE_BYTES:
        return _FAULT
    columns, rows = (width + step - 1) // step, (height + down - 1) // down
    if packed.size != _HEAD_BYTES + length_bytes * columns * rows:
        return _FAULT
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        return _FAULT
    smooth, reach_down = (flags & _SUBSAMPLED_ACROSS) != 0, 1 if flags & _SUBSAMPLED_DOWN else 0
    left, right = _span(x0, x1, step, 1 if smooth else 0, columns)
    while smooth and min(right * step, width) - left * step <= _NARROW and right - left < columns:
        left, right = max(left - 1, 0), right + (1 if left == 0 else 0)
    top, bottom = _span(y0, y1, down, reach_down, rows)
    shown_x, shown_y = left * step, top * down
    wanted = max(x1 + 1, shown_x + _NARROW + 1) if smooth else x1
    shown_x1 = _least(shown_x, min(right * step, width), wanted, across)
    shown_y1 = _least(shown_y, min(bottom * down, height), y1 + reach_down, down)
    index = header_bytes, at_size, height, width, columns, rows, length_bytes
    window = left, right, top, bottom, shown_y1 - shown_y, shown_x1 - shown_x
    return _cut(data, packed[_HEAD_BYTES:], index, window, out), shown_x, shown_y, shown_x1, shown_y1
