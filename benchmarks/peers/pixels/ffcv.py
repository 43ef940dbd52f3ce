"""FFCV: the pixels as they are in its own format (`write_mode="raw"`), cropped and resized by "area", the only one it has."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ffcv.fields
import ffcv.fields.decoders
import ffcv.loader
import ffcv.transforms
import ffcv.writer
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
        self.setup = f"Loader with num_workers={job.threads}, OrderOption.RANDOM, os_cache, raw mode, RandomResizedCrop by area"
        beton = Path(job.scratch) / "pixels.beton"
        if not beton.exists():
            staging = beton.with_suffix(".new")
            named = {"image": fields.RGBImageField(write_mode="raw"), "label": fields.IntField()}
            writer.DatasetWriter(str(staging), named, num_workers=job.threads).from_indexed_dataset(_Samples(job))
            staging.rename(beton)
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


class _Samples:
    """The samples for FFCV's writer: pixels and labels."""

    def __init__(self, job: Job) -> None:
        self.samples = [(source, label) for label, source in enumerate(job.sources) for _ in range(job.repeats[label])]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, at: int) -> tuple[Image.Image, int]:
        source, label = self.samples[at]
        with Image.open(source) as opened:
            return opened.convert("RGB"), label


def open_contender(job: Mapping[str, Any]) -> BatchContender:
    parsed = resampled_as(Job.from_json(job), "area")
    return BatchContender(FfcvBatches(parsed), parsed)


if __name__ == "__main__":
    serve(open_contender)
