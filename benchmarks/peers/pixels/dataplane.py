"""This project: the photographs ingested and materialized by its command line, loaded by its `Loader` in threads of one process."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import label_name
from benchmarks.peers.batches import Batch, BatchContender
from benchmarks.peers.dataplane import DATASET, ingested, transforms_of
from benchmarks.peers.protocol import serve
from benchmarks.tasks.jpeg import Box, Job
from benchmarks.tasks.pixels import SIDE
from dataplane import Lake
from loaders import Int64, Loader


class DataplaneBatches:
    packages = ("dataplane", "numba")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.transforms = transforms_of(job.form)
        self.setup = (
            f"{job.threads} threads, local lake without a hot tier, made by `materialize --size {SIDE}`, CRCs checked, numpy arrays"
        )
        lake = Path(job.scratch) / "lake"
        ingested(job.tree, lake)
        _materialize(lake)
        dataset = Lake(str(lake)).dataset("pixels")
        self.label_of_class = np.array([int(name) for name in dataset.schema.classes])
        (split,) = dataset.splits
        self.loader = Loader(
            dataset[split],
            batch_size=job.batch,
            transform={"npy": tuple(self.transforms), "cls": Int64()},
            seed=job.seed,
            threads=job.threads,
            tail="short",
        )

    def epoch(self) -> Iterator[Batch]:
        for batch in self.loader:
            yield Batch(batch["npy"], self.label_of_class[batch["cls"]])

    def cut(self) -> Iterator[tuple[Path, Box, NDArray[Any]]]:
        """The first batch of an epoch, with the boxes that its positions stand for."""
        epoch = self.loader.epoch
        batch = next(iter(self.loader))
        for image, cls, position in zip(batch["npy"], batch["cls"], batch.positions, strict=True):
            plan = self.transforms.plan(SIDE, SIDE, seed=self.job.seed, component=0, epoch=epoch, position=int(position))
            path = Path(self.job.scratch, f"{label_name(int(self.label_of_class[cls]))}.png")
            yield path, Box(plan.box.x, plan.box.y, plan.box.width, plan.box.height, plan.flip), image
        self.loader.restart(epoch=epoch + 1)

    def close(self) -> None:
        self.loader.close()


def _materialize(lake: Path) -> None:
    command = [sys.executable, "-c", "from dataplane.cli import main; main()", "--lake", str(lake)]
    command += ["materialize", DATASET, "--size", str(SIDE), "--as", "pixels", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(f"materialize ended with {done.returncode}: {lines[-1] if lines else 'it gave no reason'}")


def open_contender(job: Mapping[str, Any]) -> BatchContender:
    parsed = Job.from_json(job)
    return BatchContender(DataplaneBatches(parsed), parsed)


if __name__ == "__main__":
    serve(open_contender)
