"""A picture's pixels made the size that was asked for.

They are resized as Pillow does it, and so torchvision: bilinear, with a filter as wide as the reduction, so that nothing is aliased.
"crop" gives the pixels of torchvision's `Resize(size)` and `CenterCrop(size)`. No libjpeg reduction on the way: it would be quicker for
large photographs, and change levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from dataplane.materialize.options import MaterializeOptions

__all__ = ["Shape", "make_pixels", "shape_of"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Shape:
    """What becomes of a picture: its part `box` (left, top, right, bottom; with fractions of pixels; None for all of it) is resized to
    `resized` (height, width), and set at (`top`, `left`) into black of `canvas` (height, width)."""

    box: tuple[float, float, float, float] | None
    resized: tuple[int, int]
    canvas: tuple[int, int]
    top: int = 0
    left: int = 0


def shape_of(height: int, width: int, options: MaterializeOptions) -> Shape:
    """What is done to an upright picture of this size. Pure."""
    if options.max_side is not None:
        longer = max(height, width)
        if longer <= options.max_side:
            return Shape(None, (height, width), (height, width))
        resized = _scaled(height, options.max_side, longer), _scaled(width, options.max_side, longer)
        return Shape(None, resized, resized)
    assert options.size is not None
    square = options.size, options.size
    if options.fit == "stretch":
        return Shape(None, square, square)
    if options.fit == "pad":
        rows, columns = (_scaled(side, options.size, max(height, width)) for side in (height, width))
        return Shape(None, (rows, columns), square, (options.size - rows) // 2, (options.size - columns) // 2)
    return Shape(None if height == width else _centre(height, width, options.size), square, square)


def make_pixels(pixels: Pixels, shape: Shape) -> Pixels:
    """`pixels` [height, width, 3] as `shape` says: a new array, C-contiguous, or `pixels` where nothing changes. Thread-safe; lets go of
    the interpreter for most of the time."""
    height, width = pixels.shape[:2]
    rows, columns = shape.resized
    if shape.box is None and shape.resized == shape.canvas == (height, width):
        return np.ascontiguousarray(pixels)
    made = np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BILINEAR, box=shape.box))
    if shape.canvas == shape.resized:
        return np.ascontiguousarray(made)
    canvas = np.zeros((*shape.canvas, 3), np.uint8)
    canvas[shape.top : shape.top + rows, shape.left : shape.left + columns] = made
    return canvas


def _centre(height: int, width: int, size: int) -> tuple[float, float, float, float]:
    """The part that the central square is of, once the shorter side is `size`. torchvision's rules: the longer side is cut down to a whole
    pixel, and half a pixel goes to the even neighbour."""
    shorter = min(height, width)
    rows, columns = size * height // shorter, size * width // shorter
    top, left = round((rows - size) / 2), round((columns - size) / 2)
    return (
        left * width / columns,
        top * height / rows,
        min((left + size) * width / columns, width),
        min((top + size) * height / rows, height),
    )


def _scaled(side: int, wanted: int, longer: int) -> int:
    return max(1, round(side * wanted / longer))
