"""Transforms that say which pixels are taken, and where they go: crops, resizing, flips."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dataplane.errors import InvalidArgument
from loaders.transforms.checks import Fill, Range, Size, check_choice, check_fill, check_p, check_range, check_size, is_int
from loaders.transforms.described import ADDED
from loaders.transforms.plan import PaddingMode

__all__ = ["CenterCrop", "HorizontalFlip", "Interpolation", "RandomCrop", "RandomResizedCrop", "Resize", "VerticalFlip"]

Interpolation: TypeAlias = Literal["bilinear", "nearest", "bicubic", "area"]
Padding: TypeAlias = int | tuple[int, int] | tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Resize:
    """Resize to `size`: an int is the length of the shorter side, (height, width) is exact.

    "bilinear" and "bicubic" widen their filters by the factor of a reduction, as torchvision and Pillow do; `antialias=False` leaves the
    bilinear one as it is. "area" averages what an output pixel covers, as OpenCV does, and "nearest" takes the pixel under its center.
    """

    size: Size
    interpolation: Interpolation = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        check_size(self, self.size)
        _check_interpolation(self)


@dataclass(frozen=True, slots=True)
class CenterCrop:
    """The central `size` pixels; an int means a square. Images have to be at least as large: put a `Resize` before it."""

    size: Size

    def __post_init__(self) -> None:
        check_size(self, self.size)


@dataclass(frozen=True, slots=True)
class RandomCrop:
    """`size` pixels (an int means a square) from a random place of the image and its padding.

    `padding` is that of all sides, (left and right, top and bottom), or (left, top, right, bottom). `pad_if_needed` adds to either side
    what an image lacks. The padding is `fill`, or with another `padding_mode` repeats the "edge" or mirrors the image: "reflect" about
    its outermost pixel, "symmetric" with that one twice.
    """

    size: Size
    padding: Padding | None = None
    pad_if_needed: bool = False
    fill: Fill = 0
    padding_mode: PaddingMode = "constant"

    def __post_init__(self) -> None:
        check_size(self, self.size)
        check_fill(self, self.fill)
        check_choice(self, "padding_mode", PaddingMode)
        sides = self.padding if isinstance(self.padding, tuple) else (self.padding or 0,)
        if len(sides) not in (1, 2, 4) or not all(is_int(side) and side >= 0 for side in sides):
            raise InvalidArgument(
                f"{self}: padding must be an int of at least 0, (left and right, top and bottom), or (left, top, right, bottom)"
            )

    @property
    def pads(self) -> bool:
        """Whether a result can have pixels that the image has not."""
        return self.pad_if_needed or any(self.sides)

    @property
    def sides(self) -> tuple[int, int, int, int]:
        """The padding: left, top, right, bottom."""
        match self.padding:
            case (left, top, right, bottom):
                return left, top, right, bottom
            case (across, down):
                return across, down, across, down
            case side:
                return (side or 0,) * 4


@dataclass(frozen=True, slots=True)
class RandomResizedCrop:
    """A random box, resized to `size` (an int means a square): `scale` bounds its share of the area, `ratio` its width / height.

    `interpolation` and `antialias` are those of `Resize`.
    """

    size: Size
    scale: Range = (0.08, 1.0)
    ratio: Range = (3 / 4, 4 / 3)
    antialias: bool = True
    interpolation: Interpolation = field(default="bilinear", metadata=ADDED)

    def __post_init__(self) -> None:
        check_size(self, self.size)
        check_range(self, "scale", self.scale, least=0, most=1, above=True)
        check_range(self, "ratio", self.ratio, least=0, above=True)
        _check_interpolation(self)


@dataclass(frozen=True, slots=True)
class HorizontalFlip:
    """Mirror left and right with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        check_p(self, self.p)


@dataclass(frozen=True, slots=True)
class VerticalFlip:
    """Mirror top and bottom with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        check_p(self, self.p)


def padded(start: int, count: int, length: int, mode: PaddingMode) -> NDArray[np.int64]:
    """For the pixels start … start + count - 1 of a padded axis, the pixels of the `length` that they repeat; -1 where "constant"."""
    at = np.arange(start, start + count)
    if mode == "constant":
        return np.where((at >= 0) & (at < length), at, -1)
    if mode == "edge" or length == 1:
        return np.clip(at, 0, length - 1)
    period = 2 * length if mode == "symmetric" else 2 * length - 2
    at %= period
    return np.minimum(at, period - at - (mode == "symmetric"))


def _check_interpolation(op: Resize | RandomResizedCrop) -> None:
    check_choice(op, "interpolation", Interpolation)
    if op.interpolation == "bicubic" and not op.antialias:
        raise InvalidArgument(f"{op}: antialias must be True for bicubic: leave it out")
