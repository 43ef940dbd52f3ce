"""Loaders: batches from the lake, at the speed of the hardware. `Loader` is where to start."""

from loaders.batch import Batch
from loaders.loader import Loader
from loaders.mix import CutMix, Mix, MixUp
from loaders.transforms import (
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

__all__ = [
    "Batch",
    "CenterCrop",
    "ColorJitter",
    "CutMix",
    "Grayscale",
    "HorizontalFlip",
    "Int64",
    "Loader",
    "Mix",
    "MixUp",
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
]
