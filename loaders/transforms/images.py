"""The transforms of one image field together: what may follow what, what comes out, and the plan for each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from dataplane.errors import BadSample, InvalidArgument
from dataplane.philox import sample_stream
from loaders.kernels.draws import draw, draw_crop, draw_flip
from loaders.kernels.taps import ANTIALIASED, AREA, CUBIC, LINEAR, NEAREST
from loaders.transforms.augment import RandAugment
from loaders.transforms.checks import colour, pair
from loaders.transforms.colours import ColorJitter, Grayscale, RandomGrayscale
from loaders.transforms.mapped import Map
from loaders.transforms.places import CenterCrop, HorizontalFlip, RandomCrop, RandomResizedCrop, Resize, VerticalFlip, padded
from loaders.transforms.plan import Box, Doer, Frame, ImagePlan, Step
from loaders.transforms.values import Bytes, Int64, Normalize, RandomErasing, ToFloat, ToLayout
from loaders.transforms.warps import RandomAffine, RandomRotation

__all__ = ["FieldTransform", "ImageTransform", "ImageTransforms"]

PlaceTransform: TypeAlias = Resize | CenterCrop | RandomCrop | RandomResizedCrop
PixelTransform: TypeAlias = RandomRotation | RandomAffine | ColorJitter | Grayscale | RandomGrayscale | RandAugment | Map
ImageTransform: TypeAlias = PlaceTransform | HorizontalFlip | VerticalFlip | PixelTransform | ToFloat | Normalize | RandomErasing | ToLayout
FieldTransform: TypeAlias = Sequence[ImageTransform] | Int64 | Bytes | Map

_PLACES: Final = (Resize, CenterCrop, RandomCrop, RandomResizedCrop)
_PIXELS: Final = (RandomRotation, RandomAffine, ColorJitter, Grayscale, RandomGrayscale, RandAugment, Map)
_PHASES: Final = (_PLACES, (HorizontalFlip, VerticalFlip), _PIXELS, (ToFloat,), (Normalize,), (RandomErasing,), (ToLayout,))
_SETTLED: Final = (Resize, CenterCrop, Grayscale, ToFloat, Normalize, ToLayout)  # nothing is drawn for them
_PHASE_OF: Final = {kind: phase for phase, kinds in enumerate(_PHASES) for kind in kinds}
_ALLOWED: Final = (
    "allowed are, in this order: Resize, CenterCrop, RandomCrop and RandomResizedCrop (at most one that resizes; a RandomCrop that pads is "
    "the last of them); HorizontalFlip and VerticalFlip; RandomRotation, RandomAffine, ColorJitter, Grayscale, RandomGrayscale, "
    "RandAugment and Map, in any order and number; ToFloat; Normalize; RandomErasing; ToLayout; flips, and what comes behind Map, once each"
)
_FILTERS: Final = {"nearest": NEAREST, "bicubic": CUBIC, "area": AREA, "bilinear": ANTIALIASED}


@dataclass(frozen=True, slots=True)
class ImageTransforms:
    """The transforms of one image field, checked: what they make of an image, and the plan for each.

    Allowed are, in this order:

    1. `Resize`, `CenterCrop`, `RandomCrop` and `RandomResizedCrop`, of which at most one may resize, so that an image is resampled once,
       and which must leave one fixed size, since the images of a batch have one shape; a `RandomCrop` that pads is the last of them;
    2. `HorizontalFlip` and `VerticalFlip`;
    3. `RandomRotation`, `RandomAffine`, `ColorJitter`, `Grayscale`, `RandomGrayscale`, `RandAugment` and `Map`, in any order and number;
    4. `ToFloat`; 5. `Normalize`; 6. `RandomErasing`; 7. `ToLayout`.

    All but those of 1 and 3 may come at most once each.
    """

    ops: tuple[ImageTransform, ...]
    size: tuple[int, int] = field(init=False)
    """(height, width) of every result."""
    placed: tuple[int, int] = field(init=False)
    """(height, width) of every image behind the places, before a `Map` changes it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", tuple(self.ops))
        _check_order(self.ops)
        object.__setattr__(self, "placed", _fixed_size(self.ops))
        object.__setattr__(self, "size", _mapped_sizes(self.ops, self.placed)[-1])
        _check_values(self)

    def __iter__(self) -> Iterator[ImageTransform]:
        return iter(self.ops)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the last `ToFloat` or `Normalize`, uint8 without."""
        names = [op.dtype for op in self.ops if isinstance(op, ToFloat | Normalize)]
        return np.dtype(names[-1] if names else np.uint8)

    @property
    def channels(self) -> Literal[1, 3]:
        """1 once `Grayscale` has left no more, else 3: red, green, blue."""
        return 1 if any(isinstance(op, Grayscale) and op.num_output_channels == 1 for op in self.ops) else 3

    @property
    def layout(self) -> Literal["CHW", "HWC"]:
        """Of every result."""
        return next((op.layout for op in self.ops if isinstance(op, ToLayout)), "CHW")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of every result, in its layout."""
        return (self.channels, *self.size) if self.layout == "CHW" else (*self.size, self.channels)

    @property
    def rounds(self) -> bool:
        """Whether an image is levels of 0 … 255 again after resampling, which `Frame` and steps work on."""
        return any(isinstance(op, _PIXELS) or (isinstance(op, RandomCrop) and op.pads) for op in self.ops)

    def done_by(self, hire: Callable[[Map, tuple[int, int, int]], Doer]) -> ImageTransforms:
        """The same transforms, whose `Map`s are done by what `hire` gives for each and the shape of its result."""
        sizes = _mapped_sizes(self.ops, self.placed)[1:]
        return ImageTransforms(
            tuple(op.done_by(hire(op, (*size, 3))) if isinstance(op, Map) else op for op, size in zip(self.ops, sizes, strict=True))
        )

    def plan(self, height: int, width: int, *, seed: int, component: int, epoch: int, position: int) -> ImagePlan:
        """The plan for an upright image of this size, at this position of the order (see `dataplane.philox.sample_stream`). Pure.

        The operation at place n of the list reads the stream of op n, and only random operations read any. Raises `BadSample` for an
        image smaller than a crop of it.
        """
        box = window = Box(0, 0, height, width)
        resized, kernel, flip, flip_rows = (height, width), ANTIALIASED, False, False
        frame, erasure, size = None, None, self.placed
        steps: tuple[Step, ...] = ()
        for ordinal, op in enumerate(self.ops):
            stream = (
                0
                if isinstance(op, _SETTLED) or (isinstance(op, Map) and not op.random)
                else sample_stream(seed, component, epoch, position, ordinal)
            )
            if isinstance(op, RandomResizedCrop):
                y, x, h, w = draw_crop(stream, (box.height, box.width), op.scale, op.ratio)
                box, resized, kernel = Box(box.y + y, box.x + x, h, w), pair(op.size), _filter(op)
                window = Box(0, 0, *resized)
            elif isinstance(op, Resize):
                resized, kernel = _resized_size(op, box), _filter(op)
                window = Box(0, 0, *resized)
            elif isinstance(op, CenterCrop | RandomCrop):
                if isinstance(op, CenterCrop):
                    crop = _central(window, pair(op.size))
                else:
                    crop, frame = _random_crop(op, window, stream)
                if resized == (box.height, box.width):
                    box = Box(box.y + crop.y, box.x + crop.x, crop.height, crop.width)
                    resized, window = (crop.height, crop.width), Box(0, 0, crop.height, crop.width)
                else:
                    window = crop
            elif isinstance(op, HorizontalFlip):
                flip = draw_flip(stream, op.p)
            elif isinstance(op, VerticalFlip):
                flip_rows = draw_flip(stream, op.p)
            elif isinstance(op, _PIXELS):
                steps += op.steps(stream, size)
                size = (op.size or size) if isinstance(op, Map) else size
            elif isinstance(op, RandomErasing):
                erasure = op.erasure(stream, self.size, self.channels)
        return ImagePlan(box, resized, window, kernel, flip, flip_rows, frame, steps, erasure)


def _filter(op: Resize | RandomResizedCrop) -> int:
    return LINEAR if op.interpolation == "bilinear" and not op.antialias else _FILTERS[op.interpolation]


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


def _random_crop(op: RandomCrop, window: Box, stream: int) -> tuple[Box, Frame | None]:
    """The crop and, if it hangs over the edge, the part of the window that it shows, and how. Reads the uniforms 0 and 1: y and x."""
    height, width = pair(op.size)
    left, top, right, bottom = op.sides
    tall, wide = window.height + top + bottom, window.width + left + right
    if op.pad_if_needed:
        lacking = max(height - tall, 0), max(width - wide, 0)
        top, left, tall, wide = top + lacking[0], left + lacking[1], tall + 2 * lacking[0], wide + 2 * lacking[1]
    if height > tall or width > wide:
        raise BadSample(
            f"the image has {tall} × {wide} pixels with its padding where RandomCrop takes {height} × {width}: "
            "put a Resize before it, or give it pad_if_needed=True"
        )
    u = draw(stream, 2)
    y, x = int(u[0] * (tall - height + 1)) - top, int(u[1] * (wide - width + 1)) - left
    if y >= 0 and x >= 0 and y + height <= window.height and x + width <= window.width:
        return Box(window.y + y, window.x + x, height, width), None
    first_row, rows = _seen(padded(y, height, window.height, op.padding_mode))
    first_column, columns = _seen(padded(x, width, window.width, op.padding_mode))
    part = Box(first_row, first_column, rows, columns)
    frame = Frame(Box(y, x, height, width), (window.height, window.width), part, op.padding_mode, colour(op.fill))
    return Box(window.y + first_row, window.x + first_column, rows, columns), frame


def _seen(at: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[int, int]:
    """The first of the pixels that are repeated, and how many they span; one pixel where none is."""
    there = at[at >= 0]
    return (int(there.min()), int(there.max() - there.min()) + 1) if there.size else (0, 1)


def _check_order(ops: tuple[ImageTransform, ...]) -> None:
    before: ImageTransform | None = None
    resize: ImageTransform | None = None
    for at, op in enumerate(ops):
        phase = _PHASE_OF.get(type(op))
        if phase is None:
            raise InvalidArgument(f"{op!r} is not a transform of images; {_ALLOWED}")
        repeated = not isinstance(op, (*_PLACES, *_PIXELS)) and any(type(op) is type(other) for other in ops[:at])
        padded_before = isinstance(before, RandomCrop) and before.pads and phase == 0
        if before is not None and (phase < _PHASE_OF[type(before)] or repeated or padded_before):
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
                size = pair(op.size)
            case CenterCrop() | RandomCrop():
                crop = pair(op.size)
                if not (isinstance(op, RandomCrop) and op.pads) and (
                    (size and (crop[0] > size[0] or crop[1] > size[1])) or (shorter and min(crop) > shorter)
                ):
                    raise InvalidArgument(f"{op!r} is larger than what comes before it leaves: {ops}")
                size = crop
                shorter = None
    if size is None:
        raise InvalidArgument(
            f"the images of a batch have one shape, and {list(ops)} leaves theirs open: add CenterCrop(size) or give Resize (height, width)"
        )
    return size


def _mapped_sizes(ops: tuple[ImageTransform, ...], size: tuple[int, int]) -> list[tuple[int, int]]:
    """The sizes before and after each of `ops`, where `Map`s change the one that the places leave."""
    sizes = [size]
    for op in ops:
        if isinstance(op, Map):
            op.check_image()
        sizes.append((op.size if isinstance(op, Map) else None) or sizes[-1])
    return sizes


def _check_values(transforms: ImageTransforms) -> None:
    """That what has one number a channel has as many as there are channels, and noise has floats to be in."""
    channels = transforms.channels
    for op in transforms:
        if isinstance(op, Normalize) and len(op.mean) != channels:
            raise InvalidArgument(f"{op!r} is for {len(op.mean)} channels, and the images have {channels}; Grayscale(3) keeps three")
        if isinstance(op, RandomErasing):
            if isinstance(op.value, tuple) and len(op.value) not in (1, channels):
                raise InvalidArgument(f"{op!r} has {len(op.value)} values, and the images have {channels} channels")
            levels = op.value if isinstance(op.value, tuple) else (op.value,)
            if transforms.dtype == np.uint8 and not all(isinstance(v, int | float) and 0 <= v <= 255 and v == int(v) for v in levels):
                raise InvalidArgument(f"{op!r} writes into uint8: value must be levels from 0 to 255; put ToFloat or Normalize before it")
