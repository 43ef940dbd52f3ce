"""This project: a folder ingested by its command line, loaded by its `Loader` in threads of one process."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.batches import Batch, BatchContender
from benchmarks.peers.protocol import serve
from benchmarks.tasks.jpeg import AREA, ASPECT, MEAN, SIZE, STD, Box, Form, Job
from dataplane import Lake
from loaders import HorizontalFlip, Int64, Loader, Normalize, RandomResizedCrop, ToLayout
from loaders.transforms import ImageTransforms

DATASET = "photographs"


class DataplaneBatches:
    packages = ("dataplane", "simplejpeg", "numba")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.transforms = transforms_of(job.form)
        self.setup = f"{job.threads} threads, local lake without a hot tier, JPEGs as ingest indexes them, numpy arrays"
        lake = Path(job.scratch) / "lake"
        ingested(job.tree, lake)
        dataset = Lake(str(lake)).dataset(DATASET)
        self.label_of_class = np.array([int(name) for name in dataset.schema.classes])
        (split,) = dataset.splits
        self.loader = Loader(
            dataset[split],
            batch_size=job.batch,
            transform={"jpg": tuple(self.transforms), "cls": Int64()},
            seed=job.seed,
            threads=job.threads,
            tail="short",
        )

    def epoch(self) -> Iterator[Batch]:
        for batch in self.loader:
            yield Batch(batch["jpg"], self.label_of_class[batch["cls"]])

    def cut(self) -> Iterator[tuple[Path, Box, NDArray[Any]]]:
        """The first batch of an epoch, with the boxes that its positions stand for."""
        epoch = self.loader.epoch
        batch = next(iter(self.loader))
        for image, key, position in zip(batch["jpg"], batch.sample_keys, batch.positions, strict=True):
            path = Path(self.job.tree, f"{key}.jpg")
            height, width = _size(path)
            plan = self.transforms.plan(height, width, seed=self.job.seed, component=0, epoch=epoch, position=int(position))
            yield path, Box(plan.box.x, plan.box.y, plan.box.width, plan.box.height, plan.flip), image
        self.loader.restart(epoch=epoch + 1)

    def close(self) -> None:
        self.loader.close()


def transforms_of(form: Form) -> ImageTransforms:
    """The task's transforms, as a user writes them down."""
    crop = RandomResizedCrop(SIZE, scale=AREA, ratio=ASPECT, antialias=form.resampling == "antialiased")
    values = Normalize(MEAN, STD) if form.output == "normalised" else ToLayout("HWC")
    return ImageTransforms((crop, HorizontalFlip(), values))


def ingested(tree: str, lake: Path) -> None:
    """Through the command line, as a user would; anew each time, because what is measured includes how shards are written today."""
    if lake.exists():
        shutil.rmtree(lake)
    command = [sys.executable, "-c", "from dataplane.cli import main; main()", "--lake", str(lake)]
    command += ["ingest", tree, DATASET, "--label-from", "folder", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(f"ingest ended with {done.returncode}: {lines[-1] if lines else 'it gave no reason'}")


def _size(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        return image.height, image.width


def open_contender(job: Mapping[str, Any]) -> BatchContender:
    parsed = Job.from_json(job)
    return BatchContender(DataplaneBatches(parsed), parsed)


if __name__ == "__main__":
    serve(open_contender)
