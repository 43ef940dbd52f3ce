"""Crop, resize, flips, scale, and change of layout in one pass over the pixels.

Output rows are made eight at a time. Each is first summed vertically over its source rows (contiguous, so it vectorises by itself); the
eight sums are transposed, so that the horizontal sums, too, run over contiguous memory, with one row in each lane; the results are
transposed back into lines: those of planes, or of interleaved channels, which differ only in where a sum is put down. A mirrored image
only reverses a table of taps, and normalising rides on the horizontal sums.

Legend: H, W source pixels; C = 3 channels; h, w output pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataplane.errors import InvalidArgument
from dataplane.jit import compiled
from loaders.kernels.taps import Axis, taps
from loaders.kernels.vectors import LANES, add_product, fence, load, splat, store, stream, transpose

__all__ = ["resample"]

_CHANNELS = 3
_STREAM_BYTES = 16


@compiled
def _sum_rows(source: NDArray[np.uint8], first: int, weights: NDArray[np.float32], total: NDArray[np.float32]) -> None:
    """total[x] = sum over k of weights[k] · source[first + k, x]."""
    taps_left = weights.size
    if taps_left == 1:
        for x in range(total.size):
            total[x] = weights[0] * np.float32(source[first, x])
        return
    w0, w1 = weights[0], weights[1]
    row0, row1 = source[first, : total.size], source[first + 1, : total.size]
    if taps_left == 2:
        for x in range(total.size):
            total[x] = w0 * np.float32(row0[x]) + w1 * np.float32(row1[x])
        return
    w2, row2 = weights[2], source[first + 2, : total.size]
    for x in range(total.size):
        total[x] = w0 * np.float32(row0[x]) + w1 * np.float32(row1[x]) + w2 * np.float32(row2[x])
    for k in range(3, taps_left):
        weight, row = weights[k], source[first + k, : total.size]
        for x in range(total.size):
            total[x] += weight * np.float32(row[x])


@compiled
def _sum_columns(
    columns: NDArray[np.float32],
    taps_x: tuple[NDArray[np.int64], NDArray[np.float32]],
    levels: tuple[NDArray[np.float32], NDArray[np.float32]],
    steps: tuple[int, int],
    result: NDArray[np.float32],
) -> None:
    """result[c, x, lane] = bias[c] + scale[c] · sum over k of weights[x, k] · columns[first[x] + k, c, lane], where `taps_x` are first and
    weights, and `steps` the elements from one channel of the result to the next, and from one x to the next."""
    first, weights = taps_x
    scale, bias = levels
    channel, pixel = steps
    to_red, to_green, to_blue = 0, channel, 2 * channel
    red, green, blue = splat(bias[0]), splat(bias[1]), splat(bias[2])
    for x in range(first.size):
        at = first[x] * _CHANNELS * LANES
        r, g, b = splat(np.float32(0)), splat(np.float32(0)), splat(np.float32(0))
        for k in range(weights.shape[1]):
            weight = weights[x, k]
            r = add_product(r, load(columns, at), weight)
            g = add_product(g, load(columns, at + LANES), weight)
            b = add_product(b, load(columns, at + 2 * LANES), weight)
            at += _CHANNELS * LANES
        store(result, to_red, add_product(red, r, scale[0]))
        store(result, to_green, add_product(green, g, scale[1]))
        store(result, to_blue, add_product(blue, b, scale[2]))
        to_red, to_green, to_blue = to_red + pixel, to_green + pixel, to_blue + pixel


@compiled
def _write(rows: NDArray[np.float32], out: NDArray[Any], streamed: bool) -> None:
    """Copy `rows` into `out`, of the same or a narrower width, in out's type."""
    for r in range(out.shape[0]):
        if streamed:
            for x in range(0, out.shape[1], LANES):
                stream(out, r * out.shape[1] + x, load(rows, r * rows.shape[1] + x))
        else:
            for x in range(out.shape[1]):
                out[r, x] = rows[r, x]


@compiled
def resample(
    source: NDArray[np.uint8],
    axes: tuple[Axis, Axis],
    how: tuple[int, bool, bool, bool],
    levels: tuple[NDArray[np.float32], NDArray[np.float32]],
    out: NDArray[Any],
) -> None:
    """out[c, y, x] = bias[c] + scale[c] · (source[H, W, C] resized along both axes, mirrored if asked), or out[y, x, c] if interleaved.

    `axes` are those of rows and columns (see `taps`); `how` is the filter of `taps`, whether to mirror the rows, whether to mirror the
    columns, and whether the channels are interleaved; `levels` are scale and bias, float32[C]. `source` and `out` are C-contiguous; `out`
    is float32, or uint8 (truncated: give a bias of 0.5 to round; not for CUBIC, which goes below 0 and above 255). Float results of a
    whole number of vectors go past the caches: a batch does not fit in them.

    Thread-safe for different `out`; releases the GIL; the same bits on every CPU. Raises `InvalidArgument` when shapes do not match.
    """
    kind, flip_rows, flip_columns, interleaved = how
    first_y, weights_y = taps(axes[0], kind, flip_rows)
    first_x, weights_x = taps(axes[1], kind, flip_columns)
    height, width = first_y.size, first_x.size
    if out.shape != ((height, width, _CHANNELS) if interleaved else (_CHANNELS, height, width)):
        raise InvalidArgument("the output must have the shape (3, rows wanted, columns wanted), or with the 3 at the end if interleaved")
    if source.shape[2] != _CHANNELS or first_y.min() < 0 or first_y.max() + weights_y.shape[1] > source.shape[0]:
        raise InvalidArgument("the rows looked at must lie in a source of shape (height, width, 3)")
    left, right = first_x.min(), first_x.max() + weights_x.shape[1]
    if left < 0 or right > source.shape[1]:
        raise InvalidArgument("the columns looked at must lie in the source")

    planes, line = (1, _CHANNELS * width) if interleaved else (_CHANNELS, width)
    padded = (line + LANES - 1) // LANES * LANES
    steps = (LANES, _CHANNELS * LANES) if interleaved else (padded * LANES, LANES)
    lines_out = out.reshape(planes, height, line)
    streamed = out.itemsize == 4 and line % LANES == 0 and out.ctypes.data % _STREAM_BYTES == 0
    lines = source.reshape(source.shape[0], source.shape[1] * _CHANNELS)[:, left * _CHANNELS : right * _CHANNELS]
    first_x -= left
    used = (right - left) * _CHANNELS
    sums = np.zeros((LANES, (used + LANES - 1) // LANES * LANES), np.float32)
    columns = np.empty(sums.size, np.float32)
    result = np.zeros((planes, padded * LANES), np.float32)
    block = np.empty((LANES, padded), np.float32)
    for top in range(0, height, LANES):
        rows = min(LANES, height - top)
        for r in range(rows):
            _sum_rows(lines, first_y[top + r], weights_y[top + r], sums[r, :used])
        for x in range(0, sums.shape[1], LANES):
            transpose(sums, x, sums.shape[1], columns, x * LANES, LANES)
        _sum_columns(columns, (first_x, weights_x), levels, steps, result)
        for c in range(planes):
            for x in range(0, padded, LANES):
                transpose(result, c * padded * LANES + x * LANES, LANES, block, x, padded)
            _write(block, lines_out[c, top : top + rows], streamed)
    fence()
