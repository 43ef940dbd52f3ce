"""What is done to one image, as numbers: a plan has no random parts left and says nothing of how it is executed."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from loaders.kernels.taps import Axis, reach

__all__ = ["Box", "Call", "Colour", "Doer", "Erasure", "Frame", "ImagePlan", "PaddingMode", "Step", "Warp"]

PaddingMode: TypeAlias = Literal["constant", "edge", "reflect", "symmetric"]


class Box(NamedTuple):
    """Pixels y … y + height - 1, x … x + width - 1."""

    y: int
    x: int
    height: int
    width: int


class Frame(NamedTuple):
    """A crop that hangs over the edge of an image of `size` (height, width): what is beyond the edge is made up as `mode` says.

    Only `part` of the image is at hand, in its coordinates, as are those of `box`.
    """

    box: Box
    size: tuple[int, int]
    part: Box
    mode: PaddingMode
    fill: tuple[int, int, int]


class Warp(NamedTuple):
    """The pixel whose center is (x, y) comes from (a·x + b·y + c, d·x + e·y + f) of the image, or is `fill` where that is outside."""

    matrix: tuple[float, float, float, float, float, float]
    bilinear: bool
    fill: tuple[int, int, int]


class Colour(NamedTuple):
    """A change of levels by a certain amount, which "grey", "autocontrast" and "equalize" do not look at."""

    kind: Literal["autocontrast", "brightness", "contrast", "equalize", "grey", "hue", "posterize", "saturation", "sharpness", "solarize"]
    amount: float = 0.0


class Doer(Protocol):
    """Who calls the function of a `Map`. Thread-safe."""

    def do(self, value: npt.NDArray[np.uint8], stream: int, out: npt.NDArray[Any]) -> None:
        """Write what it makes of `value` to `out`. Raises `BadSample` where it raises."""
        ...

    def close(self) -> None:
        """Let go of what it has. Idempotent."""
        ...


class Call(NamedTuple):
    """A function of the user's: it gets the levels as uint8 [height, width, 3], and gives `size` (height, width) of them."""

    doer: Doer
    stream: int
    size: tuple[int, int]


Step: TypeAlias = Warp | Colour | Call


class Erasure(NamedTuple):
    """A box of the result that is overwritten: with one value for each channel or, without, with normal noise of a stream."""

    box: Box
    values: tuple[float, ...] | None
    stream: int


class ImagePlan(NamedTuple):
    """What is done to one image, in coordinates of the upright image.

    `box` is cropped first and resized to `resized` (height, width) with `filter` (of `loaders.kernels.taps`). `window` of that is wanted,
    which `frame` sets into made-up surroundings. `flip` mirrors left and right, `flip_rows` top and bottom. Then come the `steps`, in
    levels of 0 … 255, and the `erasure`, in those of the result. `reach` is the part of the box that the window looks at: nothing else
    has to be decoded.
    """

    box: Box
    resized: tuple[int, int]
    window: Box
    filter: int
    flip: bool
    flip_rows: bool = False
    frame: Frame | None = None
    steps: tuple[Step, ...] = ()
    erasure: Erasure | None = None

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Rows and columns as `loaders.kernels.taps` takes them, in upright coordinates."""
        box, window = self.box, self.window
        return (
            (box.y, box.height, self.resized[0], window.y, window.height),
            (box.x, box.width, self.resized[1], window.x, window.width),
        )

    @property
    def reach(self) -> Box:
        """The pixels that are looked at."""
        rows, columns = self.axes
        (top, bottom), (left, right) = reach(rows, self.filter), reach(columns, self.filter)
        return Box(top, left, bottom - top, right - left)
