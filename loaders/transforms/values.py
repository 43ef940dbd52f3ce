"""Transforms of values and of how they lie in the batch; and of fields that are no images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from dataplane.errors import InvalidArgument
from loaders.kernels.draws import draw, draw_erasure
from loaders.transforms.checks import Range, check_choice, check_p, check_range, is_number
from loaders.transforms.described import ADDED
from loaders.transforms.plan import Box, Erasure

__all__ = ["Bytes", "Int64", "Normalize", "RandomErasing", "ToFloat", "ToLayout"]

FloatType: TypeAlias = Literal["float32", "float16"]
LayoutName: TypeAlias = Literal["CHW", "HWC"]


@dataclass(frozen=True, slots=True)
class ToFloat:
    """Floats from 0 to 1 instead of uint8 from 0 to 255."""

    dtype: FloatType = field(default="float32", metadata=ADDED)

    def __post_init__(self) -> None:
        check_choice(self, "dtype", FloatType)


@dataclass(frozen=True, slots=True)
class Normalize:
    """(x - mean) / std for each of red, green and blue (or the one channel), where x is from 0 to 1. Implies `ToFloat`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: FloatType = field(default="float32", metadata=ADDED)

    def __post_init__(self) -> None:
        check_choice(self, "dtype", FloatType)
        sound = len(self.mean) == len(self.std) in (1, 3) and all(is_number(v) and math.isfinite(v) for v in (*self.mean, *self.std))
        if not sound or min(self.std) <= 0:
            raise InvalidArgument(f"{self}: mean and std must be three finite numbers each (red, green, blue) or one, std above 0")

    @classmethod
    def imagenet(cls, dtype: FloatType = "float32") -> Normalize:
        """The mean and deviation of ImageNet's training images, which published models expect."""
        return cls(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), dtype=dtype)


@dataclass(frozen=True, slots=True)
class RandomErasing:
    """Overwrite a random box with probability `p`: `scale` bounds its share of the area, `ratio` its height / width.

    `value` is one number, one for each channel, or "random" for normal noise, which needs floats. It comes after `ToFloat` and
    `Normalize`, so values are those of the result.
    """

    p: float = 0.5
    scale: Range = (0.02, 0.33)
    ratio: Range = (0.3, 3.3)
    value: float | tuple[float, ...] | Literal["random"] = 0.0

    def __post_init__(self) -> None:
        check_p(self, self.p)
        check_range(self, "scale", self.scale, least=0, most=1)
        check_range(self, "ratio", self.ratio, least=0, above=True)
        values: tuple[Any, ...] = self.value if isinstance(self.value, tuple) else (self.value,)
        if self.value != "random" and not (len(values) in (1, 3) and all(is_number(v) and math.isfinite(v) for v in values)):
            raise InvalidArgument(f'{self}: value must be a finite number, one for each channel, or "random"')

    def erasure(self, stream: int, size: tuple[int, int], channels: int) -> Erasure | None:
        """Reads uniform 0, erasing below p, and those of `draw_erasure`."""
        if draw(stream, 1)[0] >= self.p:
            return None
        y, x, height, width = draw_erasure(stream, size, self.scale, self.ratio)
        if not height or not width:
            return None
        if self.value == "random":
            return Erasure(Box(y, x, height, width), None, stream)
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        return Erasure(Box(y, x, height, width), tuple(float(v) for v in values * (channels // len(values))), stream)


@dataclass(frozen=True, slots=True)
class ToLayout:
    """How an image lies in the batch: "CHW" is planar, as without this; "HWC" has the channels of a pixel side by side."""

    layout: LayoutName

    def __post_init__(self) -> None:
        check_choice(self, "layout", LayoutName)


@dataclass(frozen=True, slots=True)
class Bytes:
    """A field's bytes as they are stored: a `Ragged` in the batch, since samples differ in length."""


@dataclass(frozen=True, slots=True)
class Int64:
    """A field whose bytes are a decimal number in text: an int64."""
