"""Changes of colour, as Pillow makes them, bit for bit. An image is planar: uint8 [3, height, width], C-contiguous, and changed in place.

Thread-safe for different images; the GIL is released. Where Pillow computes in float, so does this, in the same order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataplane.jit import compiled

__all__ = ["count", "grey", "look_up", "mean_luma", "saturate", "scale", "sharpen", "turn_hue"]

Planes = NDArray[np.uint8]

_ONE = np.float32(1)


@compiled
def _luma(red: int, green: int, blue: int) -> int:
    """ITU-R 601-2, in 16 bits behind the point."""
    return (np.int64(red) * 19595 + np.int64(green) * 38470 + np.int64(blue) * 7471 + 0x8000) >> 16  # type: ignore[return-value]


@compiled
def _blended(away: int, at: int, factor: np.float32) -> np.uint8:
    """`away` at factor 0, `at` at factor 1, and beyond; what does not fit is cut, and fractions are dropped."""
    value = np.float32(np.int64(away)) + factor * np.float32(np.int64(at) - np.int64(away))
    return np.uint8(min(max(value, np.float32(0)), np.float32(255)))


@compiled
def mean_luma(image: Planes) -> int:
    """The mean luma, rounded."""
    total = np.int64(0)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            total += _luma(image[0, y, x], image[1, y, x], image[2, y, x])
    return int(total / (image.shape[1] * image.shape[2]) + 0.5)


@compiled
def count(image: Planes) -> NDArray[np.int64]:
    """int64 [3, 256]: how often each level is there."""
    counts = np.zeros((3, 256), np.int64)
    for c in range(3):
        for y in range(image.shape[1]):
            for x in range(image.shape[2]):
                counts[c, image[c, y, x]] += 1
    return counts


@compiled
def look_up(image: Planes, table: NDArray[np.uint8]) -> None:
    """Every level becomes what table[channel, level] has, uint8 [3, 256]."""
    for c in range(3):
        for y in range(image.shape[1]):
            for x in range(image.shape[2]):
                image[c, y, x] = table[c, image[c, y, x]]


@compiled
def grey(image: Planes) -> None:
    """All channels become the luma."""
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            luma = _luma(image[0, y, x], image[1, y, x], image[2, y, x])
            image[0, y, x] = image[1, y, x] = image[2, y, x] = luma


@compiled
def saturate(image: Planes, factor: float) -> None:
    """Grey at 0, as it is at 1, more colourful above: ImageEnhance.Color."""
    by = np.float32(factor)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            luma = _luma(image[0, y, x], image[1, y, x], image[2, y, x])
            for c in range(3):
                image[c, y, x] = _blended(luma, image[c, y, x], by)


@compiled
def sharpen(image: Planes, factor: float) -> None:
    """Smoothed at 0, as it is at 1, sharper above: ImageEnhance.Sharpness. The outermost pixels stay."""
    by = np.float32(factor)
    height, width = image.shape[1], image.shape[2]
    above, here = np.empty(width, np.int64), np.empty(width, np.int64)
    for c in range(3):
        plane = image[c]
        here[:] = plane[0]
        for y in range(1, height - 1):
            above, here = here, above
            here[:] = plane[y]
            for x in range(1, width - 1):
                around = above[x - 1] + above[x] + above[x + 1] + here[x - 1] + here[x + 1]
                below = np.int64(plane[y + 1, x - 1]) + np.int64(plane[y + 1, x]) + np.int64(plane[y + 1, x + 1])
                smooth = (2 * (around + below + 5 * here[x]) + 13) // 26
                plane[y, x] = _blended(smooth, here[x], by)


@compiled
def _level(value: np.float32) -> int:
    return min(max(int(value), 0), 255)


@compiled
def turn_hue(image: Planes, turn: float) -> None:
    """Turn every colour along the circle, by `turn` of it, in hues of 8 bits: Pillow's HSV."""
    shift = int(turn * 255)  # towards 0, as torchvision does
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            red, green, blue = np.int64(image[0, y, x]), np.int64(image[1, y, x]), np.int64(image[2, y, x])
            most, least = max(red, green, blue), min(red, green, blue)
            if most == least:
                continue  # no saturation: it has no hue
            span = np.float32(most - least)
            r, g, b = np.float32(most - red) / span, np.float32(most - green) / span, np.float32(most - blue) / span
            if red == most:
                h = np.float32(b - g)
            elif green == most:
                h = np.float32(2.0 + r - b)
            else:
                h = np.float32(4.0 + g - r)
            h = np.float32((h / 6.0 + 1.0) % 1.0)
            hue = (_level(h * 255.0) + shift) & 255
            saturation = np.float32(np.float32(_level(span / np.float32(most) * 255.0)) / 255.0)
            sector = int(np.float32(hue) * 6.0 / 255.0)
            f = np.float32(np.float32(hue) * 6.0 / 255.0 - np.float32(sector))
            p = _rounded(most * (1.0 - saturation))
            q = _rounded(most * (1.0 - saturation * f))
            t = _rounded(most * (1.0 - saturation * (1.0 - f)))
            sector %= 6
            image[0, y, x] = most if sector in (0, 5) else q if sector == 1 else t if sector == 4 else p
            image[1, y, x] = most if sector in (1, 2) else t if sector == 0 else q if sector == 3 else p
            image[2, y, x] = most if sector in (3, 4) else t if sector == 2 else q if sector == 5 else p


@compiled
def _rounded(value: np.floating[Any]) -> int:
    """Halves away from 0, as C does."""
    return _level(np.float32(np.floor(value + 0.5)))


@compiled
def scale(image: NDArray[np.uint8], factor: NDArray[np.float32], bias: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """out[c, y, x] = bias[c] + factor[c] · image[c, y, x]."""
    for c in range(image.shape[0]):
        by, plus = factor[c], bias[c]
        for y in range(image.shape[1]):
            for x in range(image.shape[2]):
                out[c, y, x] = plus + by * np.float32(image[c, y, x])
