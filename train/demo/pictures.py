"""A batch of pictures as PNG files, through the loader that training uses."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from dataplane import Lake
from loaders import Bytes, Int64, Loader, Normalize, ToFloat
from loaders.transforms import FieldTransform, from_dict
from train.config import TrainConfig
from train.demo.story import Picture

__all__ = ["first_batch"]


def first_batch(lake: Lake, config: TrainConfig) -> tuple[Picture, ...]:
    """The pictures of training's first batch: same order, same random crops, as uint8 before they are normalised."""
    dataset = lake.dataset(config.data.dataset)
    names, images = dataset.schema.classes, ";".join(dataset.schema.names("image"))
    (label,) = dataset.schema.names("class")
    ops = [op for op in map(from_dict, config.data.transform) if not isinstance(op, Normalize | ToFloat | Int64 | Bytes)]
    transform: dict[str, FieldTransform] = {images: ops, label: Int64()}
    loader = Loader(dataset[config.data.train], batch_size=config.batch_size, seed=config.seed, transform=transform, threads=1)
    batch = next(iter(loader))
    pictures = []
    for pixels_CHW, number, key in zip(batch[images], batch[label], batch.sample_keys, strict=True):
        file = io.BytesIO()
        Image.fromarray(np.moveaxis(pixels_CHW, 0, -1)).save(file, "PNG")
        pictures.append(Picture(names[int(number)], key, pixels_CHW.shape[1], file.getvalue()))
    return tuple(pictures)
