"""Transforms as data: frozen descriptions of what is done to a field, and the pure plan of what that means for one image.

A back end (`loaders.image`, a DALI graph, plain torch) executes the plan; since the plan holds every random parameter, all back ends
draw the same crops. Nothing here touches pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dataplane.errors import InvalidArgument
from loaders.transforms.augment import RandAugment
from loaders.transforms.colours import ColorJitter, Grayscale, RandomGrayscale
from loaders.transforms.described import described, read
from loaders.transforms.images import FieldTransform, ImageTransform, ImageTransforms
from loaders.transforms.mapped import Map
from loaders.transforms.places import CenterCrop, HorizontalFlip, RandomCrop, RandomResizedCrop, Resize, VerticalFlip
from loaders.transforms.plan import Box, ImagePlan
from loaders.transforms.values import Bytes, Int64, Normalize, RandomErasing, ToFloat, ToLayout
from loaders.transforms.warps import RandomAffine, RandomRotation

__all__ = [
    "Box",
    "Bytes",
    "CenterCrop",
    "ColorJitter",
    "FieldTransform",
    "Grayscale",
    "HorizontalFlip",
    "ImagePlan",
    "ImageTransform",
    "ImageTransforms",
    "Int64",
    "Map",
    "Normalize",
    "RandAugment",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomResizedCrop",
    "RandomRotation",
    "Resize",
    "ToFloat",
    "ToLayout",
    "VerticalFlip",
    "from_dict",
    "to_dict",
]

_KINDS: Final[Mapping[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        Bytes,
        CenterCrop,
        ColorJitter,
        Grayscale,
        HorizontalFlip,
        Int64,
        Normalize,
        RandAugment,
        RandomAffine,
        RandomCrop,
        RandomErasing,
        RandomGrayscale,
        RandomResizedCrop,
        RandomRotation,
        Resize,
        ToFloat,
        ToLayout,
        VerticalFlip,
    )
}


def to_dict(transform: ImageTransform | Int64 | Bytes) -> dict[str, Any]:
    """A transform as JSON values, for runs and states; `from_dict` reads it back, and so do older releases what they know.

    Raises `InvalidArgument` for a `Map`, which is code.
    """
    if isinstance(transform, Map):
        raise InvalidArgument(f"{transform} is code, and cannot be written as JSON: a run keeps transforms that are data")
    return described(transform)


def from_dict(data: Mapping[str, Any]) -> ImageTransform | Int64 | Bytes:
    """The transform that `to_dict` described, in this or an older release."""
    transform: ImageTransform | Int64 | Bytes = read(data, _KINDS)
    return transform
