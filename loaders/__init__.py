"""Loaders: batches from the lake, at the speed of the hardware. `Loader` is where to start."""

from loaders.batch import Batch
from loaders.loader import Loader
from loaders.transforms import CenterCrop, HorizontalFlip, Int64, Normalize, RandomResizedCrop, Resize, ToFloat

__all__ = ["Batch", "CenterCrop", "HorizontalFlip", "Int64", "Loader", "Normalize", "RandomResizedCrop", "Resize", "ToFloat"]
