"""Transforms as data: frozen descriptions of what is done to a field, and the pure plan of what that means for one image.

A back end (`loaders.decode`, a DALI graph, plain torch) executes the plan; since the plan holds every random parameter, all back ends
draw the same crops. Nothing here touches pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from dataplane.errors import BadSample, InvalidArgument
from dataplane.philox import sample_stream
from loaders.kernels.draws import draw_crop, draw_flip
from loaders.kernels.taps import ANTIALIASED, LINEAR, NEAREST, reach

__all__ = [
    "Box",
    "CenterCrop",
    "FieldTransform",
    "HorizontalFlip",
    "ImagePlan",
    "ImageTransform",
    "ImageTransforms",
    "Int64",
    "Normalize",
    "RandomResizedCrop",
    "Resize",
    "ToFloat",
    "from_dict",
    "to_dict",
]

Size: TypeAlias = int | tuple[int, int]
Triple: TypeAlias = tuple[float, float, float]
Interpolation: TypeAlias = Literal["bilinear", "nearest"]


@dataclass(frozen=True, slots=True)
class Resize:
    """Resize to `size`: an int is the length of the shorter side, (height, width) is exact.

    `antialias` widens the bilinear filter by the factor of a reduction, as torchvision and Pillow do; "nearest" has nothing to widen.
    """

    size: Size
    interpolation: Interpolation = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        _check_size(self, self.size)
        if self.interpolation not in get_args(Interpolation):
            raise InvalidArgument(f"{self}: interpolation must be one of {', '.join(get_args(Interpolation))}")


@dataclass(frozen=True, slots=True)
class CenterCrop:
    """The central `size` pixels; an int means a square. Images have to be at least as large: put a `Resize` before it."""

    size: Size

    def __post_init__(self) -> None:
        _check_size(self, self.size)


@dataclass(frozen=True, slots=True)
class RandomResizedCrop:
    """A random box, resized to `size` (an int means a square): `scale` bounds its share of the area, `ratio` its width / height."""

    size: Size
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    antialias: bool = True

    def __post_init__(self) -> None:
        _check_size(self, self.size)
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise InvalidArgument(f"{self}: scale must be (low, high) with 0 < low ≤ high ≤ 1")
        if len(self.ratio) != 2 or not 0 < self.ratio[0] <= self.ratio[1] < float("inf"):
            raise InvalidArgument(f"{self}: ratio must be (low, high) with 0 < low ≤ high")


@dataclass(frozen=True, slots=True)
class HorizontalFlip:
    """Mirror left and right with probability `p`."""

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise InvalidArgument(f"{self}: p must be 0 ≤ p ≤ 1")


@dataclass(frozen=True, slots=True)
class ToFloat:
    """float32 from 0 to 1 instead of uint8 from 0 to 255."""


@dataclass(frozen=True, slots=True)
class Normalize:
    """(x - mean) / std for each of red, green and blue, where x is from 0 to 1. Implies `ToFloat`."""

    mean: Triple
    std: Triple

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or not np.all(np.isfinite([*self.mean, *self.std])) or min(self.std) <= 0:
            raise InvalidArgument(f"{self}: mean and std must be three finite numbers each (red, green, blue), std above 0")

    @classmethod
    def imagenet(cls) -> Normalize:
        """The mean and deviation of ImageNet's training images, which published models expect."""
        return cls(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True)
class Int64:
    """A field whose bytes are a decimal number in text: an int64."""


ImageTransform: TypeAlias = Resize | CenterCrop | RandomResizedCrop | HorizontalFlip | ToFloat | Normalize
FieldTransform: TypeAlias = Sequence[ImageTransform] | Int64

_REGISTRY: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (CenterCrop, HorizontalFlip, Int64, Normalize, RandomResizedCrop, Resize, ToFloat)
}


def to_dict(transform: ImageTransform | Int64) -> dict[str, Any]:
    """A transform as JSON values, for runs and states; `from_dict` reads it back."""
    values = {f.name: getattr(transform, f.name) for f in fields(transform)}
    return {"op": type(transform).__name__} | {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def from_dict(data: Mapping[str, Any]) -> ImageTransform | Int64:
    """The transform that `to_dict` described."""
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items() if name != "op"}
    kind = _REGISTRY.get(str(data.get("op")))
    if kind is None:
        raise InvalidArgument(f"unknown transform {data.get('op')!r}; known are {', '.join(_REGISTRY)}")
    try:
        transform: ImageTransform | Int64 = kind(**values)
    except TypeError as error:
        raise InvalidArgument(f"{data['op']} cannot be made of {values}: {error}") from error
    return transform


class Box(NamedTuple):
    """Pixels y … y + height - 1, x … x + width - 1."""

    y: int
    x: int
    height: int
    width: int


class ImagePlan(NamedTuple):
    """What is done to one image, in coordinates of the upright image.

    `box` is cropped first and resized to `resized` (height, width) with `filter` (of `loaders.kernels.taps`); `window` of that is the
    result, mirrored if `flip`. `reach` is the part of the box that the window looks at: nothing else has to be decoded.
    """

    box: Box
    resized: tuple[int, int]
    window: Box
    filter: int
    flip: bool

    @property
    def axes(self) -> tuple[tuple[int, int, int, int, int], tuple[int, int, int, int, int]]:
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


@dataclass(frozen=True, slots=True)
class ImageTransforms:
    """The transforms of one image field, checked: what they make of an image, and the plan for each.

    Allowed are, in this order: `Resize`, `CenterCrop` and `RandomResizedCrop`, of which at most one may resize, so that an image is
    resampled once, and which must leave one fixed size, since the images of a batch have one shape; `HorizontalFlip`; `ToFloat`;
    `Normalize`; the last three at most once each.
    """

    ops: tuple[ImageTransform, ...]
    size: tuple[int, int] = field(init=False)
    """(height, width) of every result."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", tuple(self.ops))
        _check_order(self.ops)
        object.__setattr__(self, "size", _fixed_size(self.ops))

    def __iter__(self) -> Iterator[ImageTransform]:
        return iter(self.ops)

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 with `ToFloat` or `Normalize`, else uint8."""
        return np.dtype(np.float32 if any(isinstance(op, ToFloat | Normalize) for op in self.ops) else np.uint8)

    def plan(self, height: int, width: int, *, seed: int, component: int, epoch: int, position: int) -> ImagePlan:
        """The plan for an upright image of this size, at this position of the order (see `dataplane.philox.sample_stream`). Pure.

        The operation at place n of the list reads the stream of op n, and only random operations read any. Raises `BadSample` for an
        image smaller than a `CenterCrop`.
        """
        box = window = Box(0, 0, height, width)
        resized, kernel, flip = (height, width), ANTIALIASED, False
        for ordinal, op in enumerate(self.ops):
            if isinstance(op, RandomResizedCrop):
                stream = sample_stream(seed, component, epoch, position, ordinal)
                y, x, h, w = draw_crop(stream, (box.height, box.width), op.scale, op.ratio)
                box, resized, kernel = Box(box.y + y, box.x + x, h, w), _pair(op.size), _filter(op)
                window = Box(0, 0, *resized)
            elif isinstance(op, Resize):
                resized, kernel = _resized_size(op, box), _filter(op)
                window = Box(0, 0, *resized)
            elif isinstance(op, CenterCrop):
                y, x, h, w = crop = _central(window, _pair(op.size))
                if resized == (box.height, box.width):
                    box, resized, window = Box(box.y + y, box.x + x, h, w), (h, w), Box(0, 0, h, w)
                else:
                    window = crop
            elif isinstance(op, HorizontalFlip):
                flip = draw_flip(sample_stream(seed, component, epoch, position, ordinal), op.p)
        return ImagePlan(box, resized, window, kernel, flip)


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _filter(op: Resize | RandomResizedCrop) -> int:
    if isinstance(op, Resize) and op.interpolation == "nearest":
        return NEAREST
    return ANTIALIASED if op.antialias else LINEAR


def _resized_size(op: Resize, box: Box) -> tuple[int, int]:
    """torchvision's rule: the shorter side is exact, the longer one is cut down to a whole pixel."""
    if not isinstance(op.size, int):
        return op.size
    if box.width <= box.height:
        return int(op.size * box.height / box.width), op.size
    return op.size, int(op.size * box.width / box.height)


def _central(window: Box, size: tuple[int, int]) -> Box:
    """torchvision's rule: halves of a pixel go to the even neighbour."""
    if size[0] > window.height or size[1] > window.width:
        raise BadSample(
            f"the image has {window.height} × {window.width} pixels where CenterCrop takes {size[0]} × {size[1]}: put a Resize before it"
        )
    return Box(window.y + round((window.height - size[0]) / 2), window.x + round((window.width - size[1]) / 2), *size)


_PHASES: dict[type[Any], int] = {Resize: 0, CenterCrop: 0, RandomResizedCrop: 0, HorizontalFlip: 1, ToFloat: 2, Normalize: 3}
_ALLOWED = (
    "allowed are Resize, CenterCrop and RandomResizedCrop (at most one that resizes), then HorizontalFlip, then ToFloat, then Normalize, "
    "the last three at most once each"
)


def _check_order(ops: tuple[ImageTransform, ...]) -> None:
    before: ImageTransform | None = None
    resize: ImageTransform | None = None
    for op in ops:
        phase = _PHASES.get(type(op))
        if phase is None:
            raise InvalidArgument(f"{op!r} is not a transform of images; {_ALLOWED}")
        if before is not None and (phase < _PHASES[type(before)] or (phase == _PHASES[type(before)] and phase > 0)):
            raise InvalidArgument(f"{op!r} cannot come after {before!r}; {_ALLOWED}")
        if isinstance(op, Resize | RandomResizedCrop):
            if resize is not None:
                raise InvalidArgument(f"{op!r} would resample what {resize!r} has resampled; {_ALLOWED}")
            resize = op
        before = op


def _fixed_size(ops: tuple[ImageTransform, ...]) -> tuple[int, int]:
    """The size that all images have after `ops`."""
    size: tuple[int, int] | None = None
    shorter: int | None = None  # all that is known after Resize(int)
    for op in ops:
        match op:
            case Resize(size=int(shorter)):
                size = None
            case Resize() | RandomResizedCrop():
                size = _pair(op.size)
            case CenterCrop():
                crop = _pair(op.size)
                if (size and (crop[0] > size[0] or crop[1] > size[1])) or (shorter and min(crop) > shorter):
                    raise InvalidArgument(f"{op!r} is larger than what comes before it leaves: {ops}")
                size = crop
                shorter = None
    if size is None:
        raise InvalidArgument(
            f"the images of a batch have one shape, and {list(ops)} leaves theirs open: add CenterCrop(size) or give Resize (height, width)"
        )
    return size


def _check_size(op: object, size: object) -> None:
    sides = size if isinstance(size, tuple) and len(size) == 2 else (size,)
    if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise InvalidArgument(f"{op}: size must be a positive int or (height, width) of positive ints")
