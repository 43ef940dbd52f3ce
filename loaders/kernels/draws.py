"""Random parameters of image transforms, from the uniforms of a sample's stream. Pure: the same stream gives the same parameters."""

from __future__ import annotations

import math

import numpy as np

from dataplane.jit import compiled
from dataplane.philox import uniforms

__all__ = ["draw_crop", "draw_flip"]

_TRIES = 10
_DRAWS = 4  # a try: area, aspect ratio, y, x


@compiled
def draw_crop(stream: int, image: tuple[int, int], area: tuple[float, float], aspect: tuple[float, float]) -> tuple[int, int, int, int]:
    """The crop (y, x, height, width) of an image (height, width): torchvision's RandomResizedCrop.

    Up to ten tries draw an area, uniform in `area` (fractions of the image), and an aspect ratio (width / height), log-uniform in
    `aspect`; the first box that fits is placed uniformly. If none fits, it is the largest central box with the nearest allowed ratio.
    Try t reads the uniforms 4t … 4t + 3, whatever became of the earlier ones.
    """
    height, width = image
    u = np.empty(_TRIES * _DRAWS)
    uniforms(stream, u)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    for t in range(_TRIES):
        pixels = height * width * (area[0] + (area[1] - area[0]) * u[_DRAWS * t])
        ratio = math.exp(low + (high - low) * u[_DRAWS * t + 1])
        w = round(math.sqrt(pixels * ratio))
        h = round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            y = int(u[_DRAWS * t + 2] * (height - h + 1))
            x = int(u[_DRAWS * t + 3] * (width - w + 1))
            return y, x, h, w
    h, w = height, width
    if width < height * aspect[0]:
        h = max(round(width / aspect[0]), 1)
    elif width > height * aspect[1]:
        w = max(round(height * aspect[1]), 1)
    return (height - h) // 2, (width - w) // 2, h, w


@compiled
def draw_flip(stream: int, p: float) -> bool:
    """True with probability p."""
    u = np.empty(1)
    uniforms(stream, u)
    return bool(u[0] < p)
