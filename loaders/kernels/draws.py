"""Random parameters of image transforms, from the uniforms of a sample's stream. Pure: the same stream gives the same parameters."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dataplane.jit import brief, compiled
from dataplane.philox import uniforms

__all__ = ["draw", "draw_beta", "draw_crop", "draw_erasure", "draw_flip", "draw_normal"]

_TRIES = 10
_DRAWS = 4  # a try: area, aspect ratio, y, x
_GAMMA_TRIES = 20
_NOISE = 64  # the first uniform of noise, behind those of everything else


def draw(stream: int, count: int) -> list[float]:
    """The uniforms 0 … count - 1 of a stream, from 0 up to but without 1."""
    u = np.empty(count)
    uniforms(stream, u)
    values: list[float] = u.tolist()
    return values


@brief
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


@brief
def draw_flip(stream: int, p: float) -> bool:
    """True with probability p."""
    u = np.empty(1)
    uniforms(stream, u)
    return bool(u[0] < p)


@brief
def draw_erasure(stream: int, image: tuple[int, int], area: tuple[float, float], aspect: tuple[float, float]) -> tuple[int, int, int, int]:
    """The box (y, x, height, width) of an image (height, width) that is erased: torchvision's RandomErasing; of no size if none fits.

    As in `draw_crop`, but the aspect is height / width, and a box is less than the image in both. Try t reads 4t + 1 … 4t + 4.
    """
    height, width = image
    u = np.empty(_TRIES * _DRAWS + 1)
    uniforms(stream, u)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    for t in range(_TRIES):
        pixels = height * width * (area[0] + (area[1] - area[0]) * u[_DRAWS * t + 1])
        ratio = math.exp(low + (high - low) * u[_DRAWS * t + 2])
        h = round(math.sqrt(pixels * ratio))
        w = round(math.sqrt(pixels / ratio))
        if h < height and w < width:
            return int(u[_DRAWS * t + 3] * (height - h + 1)), int(u[_DRAWS * t + 4] * (width - w + 1)), h, w
    return 0, 0, 0, 0


@compiled
def draw_normal(stream: int, out: NDArray[np.float32]) -> None:
    """Fill out[n] with normal noise of mean 0 and deviation 1, from the uniforms 64 … 64 + n of the stream (Box and Muller)."""
    u = np.empty(_NOISE + out.size + 1)
    uniforms(stream, u)
    for i in range(0, out.size, 2):
        radius = math.sqrt(-2.0 * math.log(1.0 - u[_NOISE + i]))
        turn = 2.0 * math.pi * u[_NOISE + i + 1]
        out[i] = radius * math.cos(turn)
        if i + 1 < out.size:
            out[i + 1] = radius * math.sin(turn)


@compiled
def _log_gamma_variate(u: NDArray[np.float64], at: int, shape: float) -> float:
    """The logarithm of a gamma variate (Marsaglia and Tsang, 2000), from u[at] on; a shape below 1 is that of 1 more, times U^(1/shape).

    Each try takes 3 uniforms and is accepted with more than 95 %; after 20 (2^-86) it is the mode.
    """
    d = (shape + 1.0 if shape < 1.0 else shape) - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    boost = math.log(1.0 - u[at]) / shape if shape < 1.0 else 0.0
    for t in range(_GAMMA_TRIES):
        first, second, third = u[at + 3 * t + 1], u[at + 3 * t + 2], u[at + 3 * t + 3]
        x = math.sqrt(-2.0 * math.log(1.0 - first)) * math.cos(2.0 * math.pi * second)
        v = (1.0 + c * x) ** 3
        if v > 0.0 and math.log(1.0 - third) < 0.5 * x * x + d - d * v + d * math.log(v):
            return math.log(d * v) + boost
    return math.log(d) + boost


@brief
def draw_beta(stream: int, alpha: float, first: int) -> float:
    """A variate of the Beta(alpha, alpha) distribution, from the uniforms `first` … `first` + 121 of the stream."""
    each = 3 * _GAMMA_TRIES + 1
    u = np.empty(first + 2 * each)
    uniforms(stream, u)
    difference = _log_gamma_variate(u, first + each, alpha) - _log_gamma_variate(u, first, alpha)
    if difference > 700.0:  # exp overflows
        return 0.0
    return 1.0 / (1.0 + math.exp(difference))
