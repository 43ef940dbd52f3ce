"""FFCV: the photographs in its own format with the bytes of their files, decoded whole, cropped and resized by "area", the only one it has.

Its float normalisation is not used: beside this numba it does not end. Levels are what the task asks for.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ffcv.fields
import ffcv.fields.decoders
import ffcv.loader
import ffcv.transforms
import ffcv.writer
import numpy as np
from PIL import Image

from benchmarks.peers.batches import Batch, BatchContender
from benchmarks.peers.protocol import serve
from benchmarks.tasks.jpeg import AREA, ASPECT, SIZE, Job, resampled_as

fields: Any = ffcv.fields
decoders: Any = ffcv.fields.decoders
loader: Any = ffcv.loader
transforms: Any = ffcv.transforms
writer: Any = ffcv.writer


class FfcvBatches:
    packages = ("ffcv", "numba", "torch")

    def __init__(self, job: Job) -> None:
        self.setup = f"Loader with num_workers={job.threads}, OrderOption.RANDOM, os_cache, JPEG mode, RandomResizedCrop by area"
        beton = Path(job.scratch) / "photographs.beton"
        if not beton.exists():
            _write(job, beton)
        self.loader = loader.Loader(
            str(beton),
            batch_size=job.batch,
            num_workers=job.threads,
            order=loader.OrderOption.RANDOM,
            os_cache=True,
            seed=job.seed,
            drop_last=False,
            pipelines={
                "image": [
                    decoders.RandomResizedCropRGBImageDecoder((SIZE, SIZE), scale=AREA, ratio=ASPECT),
                    transforms.RandomHorizontalFlip(),
                    transforms.ToTensor(),
                ],
                "label": [decoders.IntDecoder(), transforms.ToTensor()],
            },
        )

    def epoch(self) -> Iterator[Batch]:
        for images, labels in self.loader:
            yield Batch(images.numpy(), labels.numpy().reshape(-1).copy())

    def close(self) -> None:
        del self.loader


class _Files:
    """The samples for FFCV's writer: where the JPEG lies, and its label."""

    def __init__(self, tree: str) -> None:
        self.paths = sorted(Path(tree).rglob("*.jpg"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, at: int) -> tuple[Path, int]:
        return self.paths[at], int(self.paths[at].parent.name)


def _write(job: Job, beton: Path) -> None:
    """With the field's method that encodes pixels replaced by one that takes the file as it is: FFCV has none that does."""
    image = fields.RGBImageField(write_mode="jpg")
    image.encode = _as_it_is
    staging = beton.with_suffix(".new")
    made = writer.DatasetWriter(str(staging), {"image": image, "label": fields.IntField()}, num_workers=job.threads)
    made.from_indexed_dataset(_Files(job.tree))
    staging.rename(beton)


def _as_it_is(destination: Any, path: Path, malloc: Any) -> None:
    data = np.fromfile(path, np.uint8)
    with Image.open(path) as opened:
        destination["width"], destination["height"] = opened.size
    destination["mode"] = ffcv.fields.rgb_image.IMAGE_MODES["jpg"]
    destination["data_ptr"], storage = malloc(data.nbytes)
    storage[:] = data


def open_contender(job: Mapping[str, Any]) -> BatchContender:
    parsed = resampled_as(Job.from_json(job), "area")
    return BatchContender(FfcvBatches(parsed), parsed)


if __name__ == "__main__":
    serve(open_contender)
