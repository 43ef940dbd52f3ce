"""Small real datasets for tests: pieces of scikit-learn's photographs."""

import io
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

from dataplane.dataset import Dataset
from dataplane.formats.index import ImageInfo
from dataplane.lake import Lake
from dataplane.schema import Field, Schema
from dataplane.testing.samples import Made, write_dataset

CLASSES = ("china", "flower")
SCHEMA = Schema((Field("cls", "class"), Field("jpg", "image"), Field("png", "image")), CLASSES)


@cache
def photographs() -> tuple[np.ndarray, np.ndarray]:
    """The two photographs, uint8 [427, 640, 3]."""
    from sklearn.datasets import load_sample_images

    return tuple(load_sample_images().images)


def picture(number: int) -> Made:
    """Picture `number`: a JPEG or, every fifth one, a PNG, cut from a photograph at a place of its own."""
    rng = np.random.default_rng(number)
    label = number % len(CLASSES)
    height, width = (int(n) for n in rng.integers(40, 90, 2))
    y, x = int(rng.integers(0, 427 - height)), int(rng.integers(0, 640 - width))
    image = Image.fromarray(photographs()[label][y : y + height, x : x + width])
    out = io.BytesIO()
    extension = "png" if number % 5 == 4 else "jpg"
    image.save(out, "PNG" if extension == "png" else "JPEG", quality=90)
    fields = {extension: out.getvalue(), "cls": str(label).encode()}
    return Made(f"pictures/{number:05d}", fields, {extension: ImageInfo(width, height)}, CLASSES[label])


def make_dataset(lake: Lake, name: str, counts: Sequence[int]) -> Dataset:
    """A version of `name` with one shard of the split "train" for each of `counts`."""
    starts = np.cumsum([0, *counts])
    shards = [("train", [picture(n) for n in range(start, start + count)]) for start, count in zip(starts, counts, strict=False)]
    return write_dataset(lake, name, shards, schema=SCHEMA)
