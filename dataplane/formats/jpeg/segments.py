"""Where the parts of a transcoded JPEG lie, and which of them a crop needs. Pure planning: no pixels, no compressed data.

A file is cut into **segments** at its restart markers: all of `interval` MCUs, a whole number of them to a row of MCUs, so that they form a
grid over the picture. Coordinates are those of the stored picture: before any EXIF orientation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dataplane.errors import CorruptObject, FormatTooNew, InvalidArgument

__all__ = ["Area", "Scale", "Segments", "Window", "aligned", "packed_lengths"]

Scale: TypeAlias = Literal[1, 2, 4, 8]
"""Decoded at one part of its size in each direction, by libjpeg's scaled inverse DCT."""

VERSION: Final = 1
_HEAD: Final = struct.Struct("<BBBHHHII")  # version, flags, MCU in blocks, interval, width, height, header bytes, offset of the size
_WIDE, _SUBSAMPLED_ACROSS, _SUBSAMPLED_DOWN = 1, 2, 4
_FLAGS: Final = 8
_BLOCK: Final = 8
_MAX_BLOCKS: Final = 4
_SIZE_BYTES: Final = 4
_SMALL: Final = 1 << 16


class Area(NamedTuple):
    """Pixels x0 … x1 - 1 of rows y0 … y1 - 1."""

    x0: int
    y0: int
    x1: int
    y1: int


class Window(NamedTuple):
    """Which segments a crop needs: columns and rows of their grid, ends exclusive. And what they show: the picture's pixels of `area`."""

    first_column: int
    end_column: int
    first_row: int
    end_row: int
    area: Area

    def place(self, box: Area, scale: Scale = 1) -> Area:
        """Where `box` lies in the pixels of the window, decoded at `scale`: with all pixels that touch it."""
        x0, y0, x1, y1 = box
        x, y = self.area.x0, self.area.y0
        return aligned(Area(x0 - x, y0 - y, x1 - x, y1 - y), scale)


def aligned(box: Area, scale: Scale) -> Area:
    """The box in the pixels of the picture decoded at `scale`: with all pixels that touch it. A box of multiples of `scale` (or that ends
    with the picture) is met exactly; a loader that decodes at a scale draws its crop among these, or resamples from fractions."""
    return Area(box.x0 // scale, box.y0 // scale, -(-box.x1 // scale), -(-box.y1 // scale))


@dataclass(frozen=True, slots=True)
class Segments:
    """The index of one file. Checked: the numbers fit each other; whether they fit a file, `cut` finds out.

    Immutable, thread-safe. `lengths` may be a view of the buffer that it was unpacked from.
    """

    width: int
    height: int
    mcu: tuple[int, int]
    """Width and height of an MCU in pixels."""
    interval: int
    """MCUs of a segment."""
    subsampled: tuple[bool, bool]
    """Whether colours have fewer samples than pixels, across and down: then those beside a pixel matter to it."""
    header_bytes: int
    """What stands before the first segment."""
    at_size: int
    """Where in the header the height is, and behind it the width."""
    lengths: bytes | memoryview
    """Bytes of each segment, without its marker: little-endian numbers of `length_bytes`."""
    length_bytes: int
    """2, or 4 where a segment is too long for that."""

    def __post_init__(self) -> None:
        across, down = self.mcu
        sizes = range(_BLOCK, _BLOCK * _MAX_BLOCKS + 1, _BLOCK)
        if across not in sizes or down not in sizes or not (0 < self.width < _SMALL and 0 < self.height < _SMALL):
            raise CorruptObject(f"index of a JPEG: {self.width} × {self.height} pixels in MCUs of {across} × {down} cannot be")
        if not 0 < self.interval < _SMALL or -(-self.width // across) % self.interval:
            raise CorruptObject(f"index of a JPEG: {self.interval} MCUs a segment do not divide rows of {-(-self.width // across)}")
        if not 0 < self.at_size <= self.header_bytes - _SIZE_BYTES or self.header_bytes >= 1 << 32:
            raise CorruptObject(f"index of a JPEG: its size cannot be at {self.at_size} of {self.header_bytes} bytes of header")
        if self.length_bytes not in (2, 4) or len(self.lengths) != self.length_bytes * self.columns * self.rows:
            raise CorruptObject(
                f"index of a JPEG: {self.columns} × {self.rows} segments need as many lengths; there are {len(self.lengths)} bytes"
            )

    @property
    def columns(self) -> int:
        """Segments in a row."""
        return -(-self.width // (self.interval * self.mcu[0]))

    @property
    def rows(self) -> int:
        """Rows of segments."""
        return -(-self.height // self.mcu[1])

    def pack(self) -> bytes:
        """As bytes, to be stored: some 17, and two for each segment."""
        across, down = self.mcu[0] // _BLOCK, self.mcu[1] // _BLOCK
        flags = _WIDE * (self.length_bytes == 4) | _SUBSAMPLED_ACROSS * self.subsampled[0] | _SUBSAMPLED_DOWN * self.subsampled[1]
        head = (VERSION, flags, across << 4 | down, self.interval, self.width, self.height, self.header_bytes, self.at_size)
        return _HEAD.pack(*head) + self.lengths

    @classmethod
    def unpack(cls, packed: bytes | bytearray | memoryview) -> Segments:
        """What `pack` made; nothing is copied, so `packed` must not change. Raises `CorruptObject`, `FormatTooNew`."""
        view = memoryview(packed).toreadonly()
        if len(view) and view[0] > VERSION:
            raise FormatTooNew(f"index of a JPEG: version {view[0]}; this release reads up to {VERSION}: upgrade dataplane")
        if len(view) < _HEAD.size:
            raise CorruptObject(f"index of a JPEG: {len(view)} bytes; at least {_HEAD.size} are needed")
        version, flags, mcu, interval, width, height, header_bytes, at_size = _HEAD.unpack_from(view)
        if version != VERSION or flags >= _FLAGS:
            raise CorruptObject(f"index of a JPEG: version {version} with flags {flags} was never written")
        return cls(
            width=width,
            height=height,
            mcu=(_BLOCK * (mcu >> 4), _BLOCK * (mcu & 15)),
            interval=interval,
            subsampled=(bool(flags & _SUBSAMPLED_ACROSS), bool(flags & _SUBSAMPLED_DOWN)),
            header_bytes=header_bytes,
            at_size=at_size,
            lengths=view[_HEAD.size :],
            length_bytes=4 if flags & _WIDE else 2,
        )

    def window(self, box: Area, scale: Scale = 1) -> Window:
        """The fewest segments that decode to the same pixels inside `box` as the whole file does, at `scale`. Exactly the same for
        libjpeg(-turbo) with its smooth upsampling of colours as well as without. Raises `InvalidArgument` for a box not in the picture.
        """
        x0, y0, x1, y1 = box
        if not (0 <= x0 < x1 <= self.width and 0 <= y0 < y1 <= self.height) or scale not in (1, 2, 4, 8):
            raise InvalidArgument(f"a box of {tuple(box)} at scale 1/{scale} is not in a picture of {self.width} × {self.height} pixels")
        smooth = scale if scale < _BLOCK else 0  # at 1/8, blocks are pixels: nothing is smoothed
        reach_across, reach_down = smooth * self.subsampled[0], smooth * self.subsampled[1]
        step = self.interval * self.mcu[0]
        left, right = _span(x0, x1, step, reach_across, self.columns)
        # libjpeg smooths rows of more than two samples only: those of a narrow window must not seem to be a narrow picture's
        while reach_across and min(right * step, self.width) - left * step <= 4 * scale and right - left < self.columns:
            left, right = max(left - 1, 0), right + (left == 0)
        top, bottom = _span(y0, y1, self.mcu[1], reach_down, self.rows)
        shown = Area(left * step, top * self.mcu[1], min(right * step, self.width), min(bottom * self.mcu[1], self.height))
        return Window(left, right, top, bottom, shown)


def _span(start: int, stop: int, step: int, reach: int, count: int) -> tuple[int, int]:
    """The segments along one axis that show start … stop - 1, and `reach` pixels around where there are any."""
    return max(start - reach, 0) // step, min(-(-(stop + reach) // step), count)


def packed_lengths(lengths: NDArray[np.int64]) -> tuple[bytes, int]:
    """As `Segments.lengths` and `length_bytes`."""
    size = 2 if lengths.max() < _SMALL else 4
    return lengths.astype(f"<u{size}").tobytes(), size
