"""Loaders: batches from the lake, at the speed of the hardware. `Loader` is where to start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loaders.batch import Batch
    from loaders.loader import Loader
    from loaders.mix import CutMix, Mix, MixUp
    from loaders.mixture import Mixture
    from loaders.ragged import Ragged
    from loaders.tokens import Packed
    from loaders.transforms import (
        Bytes,
        CenterCrop,
        ColorJitter,
        Grayscale,
        HorizontalFlip,
        Int64,
        Map,
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
    from loaders.waiting.tuning import Limits

__all__ = [
    "Batch",
    "Bytes",
    "CenterCrop",
    "ColorJitter",
    "CutMix",
    "Grayscale",
    "HorizontalFlip",
    "Int64",
    "Limits",
    "Loader",
    "Map",
    "Mix",
    "MixUp",
    "Mixture",
    "Normalize",
    "Packed",
    "Ragged",
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

_WHERE = {
    "Batch": "loaders.batch",
    "Bytes": "loaders.transforms",
    "CenterCrop": "loaders.transforms",
    "ColorJitter": "loaders.transforms",
    "CutMix": "loaders.mix",
    "Grayscale": "loaders.transforms",
    "HorizontalFlip": "loaders.transforms",
    "Int64": "loaders.transforms",
    "Limits": "loaders.waiting.tuning",
    "Loader": "loaders.loader",
    "Map": "loaders.transforms",
    "Mix": "loaders.mix",
    "MixUp": "loaders.mix",
    "Mixture": "loaders.mixture",
    "Normalize": "loaders.transforms",
    "Packed": "loaders.tokens",
    "Ragged": "loaders.ragged",
    "RandAugment": "loaders.transforms",
    "RandomAffine": "loaders.transforms",
    "RandomCrop": "loaders.transforms",
    "RandomErasing": "loaders.transforms",
    "RandomGrayscale": "loaders.transforms",
    "RandomResizedCrop": "loaders.transforms",
    "RandomRotation": "loaders.transforms",
    "Resize": "loaders.transforms",
    "ToFloat": "loaders.transforms",
    "ToLayout": "loaders.transforms",
    "VerticalFlip": "loaders.transforms",
}


def __getattr__(name: str) -> Any:  # what is compiled loads when first needed: a worker process of `Map` is ready in a tenth of a second
    if name not in _WHERE:
        raise AttributeError(f"module 'loaders' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)
