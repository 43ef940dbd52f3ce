"""Transforms that turn, shift, scale and shear an image about its center, at the size that it has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from dataplane.errors import InvalidArgument
from loaders.kernels.draws import draw
from loaders.transforms.checks import Fill, Range, check_choice, check_fill, check_range, check_spread, colour, is_number, spread
from loaders.transforms.plan import Warp

__all__ = ["RandomAffine", "RandomRotation", "Sampling", "affine", "rotation"]

Sampling: TypeAlias = Literal["nearest", "bilinear"]
Point: TypeAlias = tuple[float, float]
Matrix: TypeAlias = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class RandomRotation:
    """Turn counter-clockwise by an angle from `degrees`: (low, high), or a number for (-number, number).

    The size stays; what comes from outside is `fill`. `center` is (x, y) of the pixel's corner that stays, by default the middle.
    """

    degrees: float | Range
    interpolation: Sampling = "nearest"
    center: Point | None = None
    fill: Fill = 0

    def __post_init__(self) -> None:
        check_spread(self, "degrees", self.degrees)
        _check_sampling(self)

    def steps(self, stream: int, size: tuple[int, int]) -> tuple[Warp]:
        """Reads uniform 0: the angle."""
        (u,) = draw(stream, 1)
        return (Warp(rotation(between(u, spread(self.degrees)), size, self.center), self.interpolation == "bilinear", colour(self.fill)),)


@dataclass(frozen=True, slots=True)
class RandomAffine:
    """Turn clockwise by an angle from `degrees`, shift, scale and shear, in one step.

    `degrees` and `shear` are (low, high) or a number for (-number, number); `shear` is along x, or with four numbers along x and y, in
    degrees. `translate` is the largest shift as a share of width and height, and shifts are whole pixels; `scale` is (low, high).
    What comes from outside is `fill`. `center` is (x, y) of the pixel's corner that stays, by default the middle.
    """

    degrees: float | Range
    translate: Range | None = None
    scale: Range | None = None
    shear: float | Range | tuple[float, float, float, float] | None = None
    interpolation: Sampling = "nearest"
    fill: Fill = 0
    center: Point | None = None

    def __post_init__(self) -> None:
        check_spread(self, "degrees", self.degrees)
        _check_sampling(self)
        if self.scale is not None:
            check_range(self, "scale", self.scale, least=0, above=True)
        if self.translate is not None and not (_is_point(self.translate) and all(0 <= share <= 1 for share in self.translate)):
            raise InvalidArgument(f"{self}: translate must be (share of the width, share of the height), each from 0 to 1")
        if isinstance(self.shear, tuple) and len(self.shear) == 4:
            check_range(self, "shear", self.shear[:2], least=-89, most=89)
            check_range(self, "shear", self.shear[2:], least=-89, most=89)
        elif self.shear is not None:
            check_spread(self, "shear", self.shear, least=-89, most=89)

    def steps(self, stream: int, size: tuple[int, int]) -> tuple[Warp]:
        """Reads the uniforms 0 … 5: angle, shift along x and y, scale, shear along x and y."""
        u = draw(stream, 6)
        dx, dy = self.translate or (0.0, 0.0)
        shear = self._shear()
        matrix = affine(
            size,
            angle=between(u[0], spread(self.degrees)),
            translate=(round(between(u[1], spread(dx * size[1]))), round(between(u[2], spread(dy * size[0])))),
            scale=between(u[3], self.scale or (1.0, 1.0)),
            shear=(between(u[4], shear[:2]), between(u[5], shear[2:])),
            center=self.center,
        )
        return (Warp(matrix, self.interpolation == "bilinear", colour(self.fill)),)

    def _shear(self) -> tuple[float, float, float, float]:
        if isinstance(self.shear, tuple) and len(self.shear) == 4:
            return self.shear
        return (*spread(self.shear or 0.0), 0.0, 0.0)


def between(u: float, limits: Range) -> float:
    """A uniform of [0, 1) as one of `limits`."""
    return limits[0] + (limits[1] - limits[0]) * u


def rotation(angle: float, size: tuple[int, int], center: Point | None = None) -> Matrix:
    """The matrix of `Warp` that turns an image (height, width) counter-clockwise by degrees: Pillow's."""
    x, y = center or (size[1] / 2, size[0] / 2)
    turn = -math.radians(angle % 360.0)
    cos, sin = round(math.cos(turn), 15), round(math.sin(turn), 15)
    return cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y


def affine(
    size: tuple[int, int],
    *,
    angle: float = 0.0,
    translate: tuple[int, int] = (0, 0),
    scale: float = 1.0,
    shear: Point = (0.0, 0.0),
    center: Point | None = None,
) -> Matrix:
    """The matrix of `Warp` that shears by degrees along y and x, scales, turns clockwise by degrees, and shifts: torchvision's."""
    x, y = center or (size[1] * 0.5, size[0] * 0.5)
    turn, along_x, along_y = math.radians(angle), math.radians(shear[0]), math.radians(shear[1])
    a = math.cos(turn - along_y) / math.cos(along_y)
    c = math.sin(turn - along_y) / math.cos(along_y)
    b = -(a * math.tan(along_x) + math.sin(turn))
    d = math.cos(turn) - c * math.tan(along_x)
    xx, xy, yx, yy = d / scale, -b / scale, -c / scale, a / scale  # the inverse
    to_x, to_y = x + translate[0], y + translate[1]
    return xx, xy, x - xx * to_x - xy * to_y, yx, yy, y - yx * to_x - yy * to_y


def _check_sampling(op: RandomRotation | RandomAffine) -> None:
    check_choice(op, "interpolation", Sampling)
    check_fill(op, op.fill)
    if op.center is not None and not _is_point(op.center):
        raise InvalidArgument(f"{op}: center must be (x, y) in pixels")


def _is_point(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(is_number(at) and math.isfinite(at) for at in value)
