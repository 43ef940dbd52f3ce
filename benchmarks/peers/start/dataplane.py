"""This project: the lake opened, the newest version, a Loader in threads; ranges are read from the store, nothing is kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.batches import Batch
from benchmarks.peers.dataplane import DATASET, ingested, transforms_of
from benchmarks.peers.protocol import serve
from benchmarks.peers.start.starting import opener
from benchmarks.tasks.start import BUCKET, Job
from dataplane import Lake
from loaders import Int64, Loader
from tiering import Hot


class DataplaneStarter:
    packages = ("dataplane", "obstore")

    def __init__(self, job: Job, *, hot: bool = False) -> None:
        self.job, self.hot = job, hot
        tier = "an empty hot tier" if hot else "no hot tier"
        self.setup = f"Lake, newest version, Loader with {job.photographs.threads} threads, {tier}"
        self.name = "lake-hot" if hot else "lake"
        ingested(job.photographs.tree, Path(job.folder) / self.name)

    @contextmanager
    def first(self, cache: Path) -> Iterator[Batch]:
        dataset = Lake(f"s3://{BUCKET}/{self.name}", options=self.job.options).dataset(DATASET)
        (split,) = dataset.splits
        transform: dict[str, Any] = {"jpg": tuple(transforms_of(self.job.photographs.form)), "cls": Int64()}
        photographs = self.job.photographs
        loader = Loader(
            dataset[split],
            batch_size=self.job.batch,
            transform=transform,
            seed=photographs.seed,
            threads=photographs.threads,
            hot=Hot(cache, limit="8 GiB") if self.hot else None,
        )
        with loader:
            batch = next(iter(loader))
            label_of_class = np.array([int(name) for name in dataset.schema.classes])
            yield Batch(batch["jpg"], label_of_class[batch["cls"]])


if __name__ == "__main__":
    serve(opener(DataplaneStarter))
