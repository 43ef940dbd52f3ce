"""A lake with a small dataset of real pictures: the handwritten digits of scikit-learn, ingested from PNG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from dataplane import Lake
from dataplane.ingest import IngestOptions, ingest

__all__ = ["digits_lake", "write_digits"]


def write_digits(folder: Path, numbers: range) -> None:
    """The digits of these numbers (of 1,797), each in the folder of its label."""
    digits = load_digits()
    for number in numbers:
        path = folder / str(digits.target[number]) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[number] * 255 / 16).astype(np.uint8)).save(path)


def digits_lake(folder: Path, numbers: range, *, split: str) -> Lake:
    """`folder`/lake with the dataset "digits", in several small shards a split."""
    write_digits(folder / "digits", numbers)
    lake = Lake.init(str(folder / "lake"))
    ingest(lake, folder / "digits", "digits", options=IngestOptions(label_from="folder", split=split, shard_bytes=2048))
    return lake
