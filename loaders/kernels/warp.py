"""Where pixels come from: affine warps, as Pillow makes them, bit for bit, and surroundings that are made up.

Images are planar: uint8 [3, height, width], C-contiguous. Thread-safe for different outputs; the GIL is released.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dataplane.jit import compiled

__all__ = ["gather", "warp_bilinear", "warp_nearest"]

Planes = NDArray[np.uint8]
Matrix = tuple[float, float, float, float, float, float]
Colour = tuple[int, int, int]

_FIXED = 65536.0


@compiled
def gather(image: Planes, rows: NDArray[np.int64], columns: NDArray[np.int64], fill: Colour, out: Planes) -> None:
    """out[c, y, x] = image[c, rows[y], columns[x]], or fill[c] where a row or a column is below 0."""
    for c in range(3):
        for y in range(rows.size):
            for x in range(columns.size):
                out[c, y, x] = image[c, rows[y], columns[x]] if rows[y] >= 0 and columns[x] >= 0 else fill[c]


@compiled
def _fixed(value: float) -> int:
    return math.floor(value * _FIXED + 0.5)


@compiled
def warp_nearest(image: Planes, matrix: Matrix, fill: Colour, out: Planes) -> None:
    """The pixel (x, y) of `out` is the one that holds matrix · (x + 0.5, y + 0.5, 1), or `fill`.

    In 16.16 fixed point, except where the axes stay what they are.
    """
    a, b, c, d, e, f = matrix
    height, width = image.shape[1], image.shape[2]
    if b == 0 and d == 0:
        rows, columns = _along(f + e * 0.5, e, out.shape[1], height), _along(c + a * 0.5, a, out.shape[2], width)
        gather(image, rows, columns, fill, out)
        return
    step_xx, step_xy, step_yx, step_yy = _fixed(a), _fixed(b), _fixed(d), _fixed(e)
    from_x, from_y = _fixed(c + a * 0.5 + b * 0.5), _fixed(f + d * 0.5 + e * 0.5)
    for y in range(out.shape[1]):
        for x in range(out.shape[2]):
            at_x = (from_x + x * step_xx + y * step_xy) >> 16
            at_y = (from_y + x * step_yx + y * step_yy) >> 16
            inside = 0 <= at_x < width and 0 <= at_y < height
            for k in range(3):
                out[k, y, x] = image[k, at_y, at_x] if inside else fill[k]


@compiled
def _along(at: float, step: float, count: int, length: int) -> NDArray[np.int64]:
    """The pixels of an axis that the points at, at + step … lie in; -1 outside."""
    pixels = np.empty(count, np.int64)
    for i in range(count):
        pixels[i] = int(at) if 0 <= at < length else -1
        at += step
    return pixels


@compiled
def warp_bilinear(image: Planes, matrix: Matrix, fill: Colour, out: Planes) -> None:
    """The pixel (x, y) of `out` is mixed of the four whose centers are around matrix · (x + 0.5, y + 0.5, 1), fractions dropped, or `fill`
    where that is outside. Beyond the edge, the edge goes on."""
    a, b, c, d, e, f = matrix
    height, width = image.shape[1], image.shape[2]
    for y in range(out.shape[1]):
        for x in range(out.shape[2]):
            at_x = a * (x + 0.5) + b * (y + 0.5) + c
            at_y = d * (x + 0.5) + e * (y + 0.5) + f
            if not (0 <= at_x < width and 0 <= at_y < height):
                for k in range(3):
                    out[k, y, x] = fill[k]
                continue
            left, top = math.floor(at_x - 0.5), math.floor(at_y - 0.5)
            dx, dy = at_x - 0.5 - left, at_y - 0.5 - top
            x0, x1, y0, y1 = max(left, 0), min(left + 1, width - 1), max(top, 0), min(top + 1, height - 1)
            for k in range(3):
                upper = image[k, y0, x0] + (np.float64(image[k, y0, x1]) - image[k, y0, x0]) * dx
                lower = image[k, y1, x0] + (np.float64(image[k, y1, x1]) - image[k, y1, x0]) * dx
                out[k, y, x] = np.uint8(upper + (lower - upper) * dy)
