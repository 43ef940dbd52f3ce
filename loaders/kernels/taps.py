"""Which source pixels make an output pixel along one axis, and with what weights.

The rules are Pillow's (and so torchvision's): output pixel i of a box of `length` pixels resized to `size` looks at the source around
(i + 0.5) · scale, scale = length / size, with a triangle of half-width max(scale, 1) or, CUBIC, with Keys' cubic (a = -0.5) of twice
that; without antialiasing the triangle's half-width is 1, and NEAREST takes the one pixel there. AREA weighs each pixel by how much of
it lies in i · scale … (i + 1) · scale. Pixels outside the box do not exist: windows are clipped to it, and the weights sum to 1.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dataplane.jit import brief, compiled

__all__ = ["ANTIALIASED", "AREA", "CUBIC", "LINEAR", "NEAREST", "Axis", "reach", "taps"]

ANTIALIASED = 0
LINEAR = 1
NEAREST = 2
CUBIC = 3
AREA = 4

Axis: TypeAlias = tuple[int, int, int, int, int]
"""(start, length, size, offset, count): `length` source pixels from `start` on are resized to `size`, of which `count` are wanted, from
`offset` on."""


@compiled
def _center(index: int, length: int, size: int) -> float:
    """(index + 0.5) · length / size, with one rounding: its whole part is never off."""
    return (2 * index + 1) * length / (2 * size)


@compiled
def _support(scale: float, kind: int) -> float:
    if kind == NEAREST:
        return 0.5
    if kind == CUBIC:
        return 2.0 * max(scale, 1.0)
    return max(scale, 1.0) if kind == ANTIALIASED else 1.0


@compiled
def _window(index: int, length: int, size: int, support: float, kind: int) -> tuple[int, int]:
    """The source pixels [low, high) that output pixel `index` looks at."""
    if kind == AREA:
        return index * length // size, ((index + 1) * length + size - 1) // size
    center = _center(index, length, size)
    return max(int(center - support + 0.5), 0), min(int(center + support + 0.5), length)


@compiled
def _weight(at: int, center: float, support: float, kind: int) -> float:
    return 1.0 if kind == NEAREST else 1.0 - min(abs(at + 0.5 - center) / support, 1.0)


@compiled
def _cubic(away: float) -> float:
    if away < 1.0:
        return (1.5 * away - 2.5) * away * away + 1.0
    return (((away - 5.0) * away + 8.0) * away - 4.0) * -0.5 if away < 2.0 else 0.0


@compiled
def _weigh_cubic(weights: NDArray[np.float32], low: int, center: float, support: float) -> None:
    total = 0.0
    for k in range(weights.size):
        total += _cubic(2.0 * abs(low + k + 0.5 - center) / support)
    for k in range(weights.size):
        weights[k] = _cubic(2.0 * abs(low + k + 0.5 - center) / support) / total


@compiled
def _weigh_area(weights: NDArray[np.float32], low: int, index: int, length: int, size: int) -> None:
    for k in range(weights.size):
        covered = min((low + k + 1) * size, (index + 1) * length) - max((low + k) * size, index * length)
        weights[k] = covered / length


@brief
def reach(axis: Axis, kind: int) -> tuple[int, int]:
    """The source pixels [low, high) that the wanted output pixels look at; `start` is added."""
    start, length, size, offset, count = axis
    support = _support(length / size, kind)
    low, _ = _window(offset, length, size, support, kind)
    _, high = _window(offset + count - 1, length, size, support, kind)
    return start + low, start + high


@compiled
def taps(axis: Axis, kind: int, reverse: bool) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(first, weights): output pixel j is the sum over k of weights[j, k] · source[first[j] + k]; `reverse` mirrors the output.

    All rows of weights[count, K] have the same K, zeros where a window is shorter, and no first[j] + k leaves the axis' `reach`.
    """
    start, length, size, offset, count = axis
    support = _support(length / size, kind)
    low = np.empty(count, np.int64)
    high = np.empty(count, np.int64)
    width = 0
    for i in range(count):
        low[i], high[i] = _window(offset + i, length, size, support, kind)
        width = max(width, high[i] - low[i])
    first = np.empty(count, np.int64)
    weights = np.zeros((count, width), np.float32)
    for i in range(count):
        base = min(low[i], high[count - 1] - width)
        j = count - 1 - i if reverse else i
        first[j] = start + base
        if kind == AREA:
            _weigh_area(weights[j, low[i] - base : high[i] - base], low[i], offset + i, length, size)
            continue
        center = _center(offset + i, length, size)
        if kind == CUBIC:
            _weigh_cubic(weights[j, low[i] - base : high[i] - base], low[i], center, support)
            continue
        total = 0.0
        for at in range(low[i], high[i]):
            total += _weight(at, center, support, kind)
        for at in range(low[i], high[i]):
            weights[j, at - base] = _weight(at, center, support, kind) / total
    return first, weights
