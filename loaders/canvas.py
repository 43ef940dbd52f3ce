"""The steps of a plan, executed on an image of levels: planar uint8 [3, height, width]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from loaders.kernels import colour
from loaders.kernels.draws import draw_normal
from loaders.kernels.warp import gather, warp_bilinear, warp_nearest
from loaders.transforms.places import padded
from loaders.transforms.plan import Call, Erasure, Frame, Step, Warp

__all__ = ["erase", "framed", "stepped"]

Planes: TypeAlias = NDArray[np.uint8]


def framed(image: Planes, frame: Frame, *, flip_rows: bool, flip_columns: bool) -> Planes:
    """The crop that `frame` describes, of the part of an image that it shows; mirrored if asked."""
    box, part = frame.box, frame.part
    rows = padded(box.y, box.height, frame.size[0], frame.mode)
    columns = padded(box.x, box.width, frame.size[1], frame.mode)
    out = np.empty((3, box.height, box.width), np.uint8)
    gather(image, _within(rows, part.y, flip_rows), _within(columns, part.x, flip_columns), frame.fill, out)
    return out


def stepped(image: Planes, steps: tuple[Step, ...]) -> Planes:
    """What the steps make of `image`, whose memory they use."""
    for step in steps:
        if isinstance(step, Warp):
            source, image = image, np.empty_like(image)
            (warp_bilinear if step.bilinear else warp_nearest)(source, step.matrix, step.fill, image)
        elif isinstance(step, Call):
            image = _called(image, step)
        else:
            _COLOURS[step.kind](image, step.amount)
    return image


def _called(image: Planes, step: Call) -> Planes:
    """What a function of the user's makes of it."""
    made = np.empty((*step.size, 3), np.uint8)
    step.doer.do(np.ascontiguousarray(image.transpose(1, 2, 0)), step.stream, made)
    return np.ascontiguousarray(made.transpose(2, 0, 1))


def erase(image: NDArray[Any], erasure: Erasure) -> None:
    """Overwrite a box of a result [channels, height, width]."""
    box = erasure.box
    part = image[:, box.y : box.y + box.height, box.x : box.x + box.width]
    if erasure.values is not None:
        part[:] = np.array(erasure.values)[:, None, None]
    else:
        noise = np.empty(part.size, np.float32)
        draw_normal(erasure.stream, noise)
        part[:] = noise.reshape(part.shape)


def _within(pixels: NDArray[np.int64], first: int, flip: bool) -> NDArray[np.int64]:
    moved = np.where(pixels < 0, -1, pixels - first)
    return np.ascontiguousarray(moved[::-1]) if flip else moved


# ------------------------------------------------------------------ colours: functions of (image, amount), in place


def _brightness(image: Planes, factor: float) -> None:
    _blend(image, 0, factor)


def _contrast(image: Planes, factor: float) -> None:
    _blend(image, colour.mean_luma(image), factor)


def _blend(image: Planes, level: int, factor: float) -> None:
    """Pillow's Image.blend with an image of one level: float32, fractions dropped."""
    values = np.float32(level) + np.float32(factor) * (np.arange(256) - level).astype(np.float32)
    _look_up(image, np.clip(values, 0, 255))


def _posterize(image: Planes, bits: float) -> None:
    _look_up(image, np.arange(256) & ~(2 ** (8 - int(bits)) - 1))


def _solarize(image: Planes, threshold: float) -> None:
    levels = np.arange(256)
    _look_up(image, np.where(levels < threshold, levels, 255 - levels))


def _autocontrast(image: Planes, _amount: float) -> None:
    """ImageOps.autocontrast: in each channel, the darkest level becomes 0 and the brightest 255."""
    table = np.tile(np.arange(256.0), (3, 1))
    for c, counts in enumerate(colour.count(image)):
        there = np.flatnonzero(counts)
        low, high = int(there[0]), int(there[-1])
        if high > low:
            factor = 255.0 / (high - low)
            table[c] = np.clip(np.arange(256) * factor + -low * factor, 0, 255)
    colour.look_up(image, table.astype(np.uint8))


def _equalize(image: Planes, _amount: float) -> None:
    """ImageOps.equalize: in each channel, levels become about equally frequent."""
    table = np.tile(np.arange(256), (3, 1))
    for c, counts in enumerate(colour.count(image)):
        step = int(counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        if step:
            below = np.cumsum(counts) - counts
            table[c] = np.minimum((step // 2 + below) // step, 255)
    colour.look_up(image, table.astype(np.uint8))


def _look_up(image: Planes, values: NDArray[Any]) -> None:
    """The same table for all channels."""
    colour.look_up(image, np.tile(values.astype(np.uint8), (3, 1)))


_COLOURS: Final[Mapping[str, Callable[[Planes, float], None]]] = {
    "autocontrast": _autocontrast,
    "brightness": _brightness,
    "contrast": _contrast,
    "equalize": _equalize,
    "grey": lambda image, _amount: colour.grey(image),
    "hue": colour.turn_hue,
    "posterize": _posterize,
    "saturation": colour.saturate,
    "sharpness": colour.sharpen,
    "solarize": _solarize,
}
