"""A smaller JPEG of the segments that a crop needs: their bytes, behind the file's own header with another size in it."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dataplane.errors import CorruptObject, InvalidArgument
from dataplane.formats.jpeg.bits import Bytes, copy
from dataplane.formats.jpeg.markers import EOI, RST0
from dataplane.formats.jpeg.segments import Segments, Window
from dataplane.jit import compiled

__all__ = ["cut"]

Data: TypeAlias = bytes | bytearray | memoryview | NDArray[np.uint8]

_EOI, _RST0 = EOI, RST0
_MARKER_BYTES: Final = 2
_WINDOW, _TOO_SMALL, _SIZE, _MARKER, _END = -1, -2, -3, -4, -5
_DAMAGE: Final = {
    _SIZE: "another size in its header",
    _MARKER: "no restart marker where one should be",
    _END: "fewer bytes",
}


def cut(data: Data, segments: Segments, window: Window, out: NDArray[np.uint8]) -> int:
    """Write a JPEG of the segments of `window` to `out`; how many bytes it has.

    It decodes to the pixels of `window.area`. `out` is the caller's: C-contiguous, not a part of `data`, and large enough if it is as large
    as `data`. Nothing is allocated, the GIL is released, and threads may cut from the same data at once. Raises `CorruptObject` where
    `data` are not what `segments` describe, and `InvalidArgument` for a window or buffer that does not fit; `out` is undefined then.
    """
    source = np.frombuffer(data, np.uint8)
    if out.dtype != np.uint8 or out.ndim != 1 or not out.flags.c_contiguous or not out.flags.writeable:
        raise InvalidArgument(f"out must be a C-contiguous, writable array of bytes; it is {out.dtype} {out.shape}")
    lengths = np.frombuffer(segments.lengths, np.uint8)
    size = _cut(
        _read_only(source),
        _read_only(lengths),
        (segments.header_bytes, segments.at_size, segments.height, segments.width, segments.columns, segments.rows, segments.length_bytes),
        (*window[:4], window.area.y1 - window.area.y0, window.area.x1 - window.area.x0),
        out,
    )
    if size == _WINDOW:
        raise InvalidArgument(f"a window of {window} is not in a grid of {segments.columns} × {segments.rows} segments")
    if size == _TOO_SMALL:
        raise InvalidArgument(f"out has {out.size} bytes; as many as data, {source.size}, are always enough")
    if size < 0:
        raise CorruptObject(f"the JPEG is not the one that was indexed, or is damaged: it has {_DAMAGE[size]}; repair or index it anew")
    return size


def _read_only(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same memory as a type of its own, so that one compiled function does for bytes and buffers."""
    shown = view.view()
    shown.flags.writeable = False
    return shown


@compiled
def _number(lengths: Bytes, index: int, size: int) -> int:
    at = index * size
    value: Any = np.int64(lengths[at]) | np.int64(lengths[at + 1]) << 8
    if size > 2:
        value |= np.int64(lengths[at + 2]) << 16 | np.int64(lengths[at + 3]) << 24
    return int(value)


@compiled
def _u16(data: Bytes, at: int) -> int:
    return int(np.int64(data[at]) << 8 | np.int64(data[at + 1]))


@compiled
def _put_u16(data: Bytes, at: int, value: int) -> None:
    data[at], data[at + 1] = value >> 8, value & 255


@compiled
def _cut(data: Bytes, lengths: Bytes, index: tuple[int, ...], window: tuple[int, ...], out: Bytes) -> int:
    """The size of the cut, or a negative reason. `index` and `window` are numbers of those, and the window's height and width."""
    header_bytes, at_size, height, width, columns, rows, length_bytes = index
    first_column, end_column, first_row, end_row, new_height, new_width = window
    if not (0 <= first_column < end_column <= columns and 0 <= first_row < end_row <= rows):
        return _WINDOW
    if header_bytes > data.size:
        return _END
    if header_bytes > out.size:
        return _TOO_SMALL
    if _u16(data, at_size) != height or _u16(data, at_size + 2) != width:
        return _SIZE
    copy(data, 0, out, 0, header_bytes)
    _put_u16(out, at_size, new_height)
    _put_u16(out, at_size + 2, new_width)
    at, to, count = header_bytes, header_bytes, 0
    for segment in range(first_row * columns):
        at += _number(lengths, segment, length_bytes) + _MARKER_BYTES
    for row in range(first_row, end_row):
        for segment in range(row * columns, row * columns + first_column):
            at += _number(lengths, segment, length_bytes) + _MARKER_BYTES
        begin, start = at, to
        for segment in range(row * columns + first_column, row * columns + end_column):
            at += _number(lengths, segment, length_bytes) + _MARKER_BYTES
            if at > data.size:
                return _END
            marker = _EOI if segment == columns * rows - 1 else _RST0 + (segment & 7)
            if _u16(data, at - 2) != 0xFF00 | marker:
                return _MARKER
        to += at - begin
        if to > out.size:
            return _TOO_SMALL
        copy(data, begin, out, start, at - begin)
        end = start
        for segment in range(row * columns + first_column, row * columns + end_column):
            end += _number(lengths, segment, length_bytes) + _MARKER_BYTES
            out[end - 1] = _RST0 + (count & 7)
            count += 1
        for segment in range(row * columns + end_column, (row + 1) * columns):
            at += _number(lengths, segment, length_bytes) + _MARKER_BYTES
    out[to - 1] = _EOI
    return int(to)
