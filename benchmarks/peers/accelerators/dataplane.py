"""This project: files ingested as they are, a Loader in threads whose samples are bytes in one buffer a batch, CRCs checked."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.accelerators.feeding import opener
from benchmarks.peers.protocol import serve
from benchmarks.tasks.accelerators import SAMPLE_BYTES, Job
from dataplane import Lake
from dataplane.ingest import IngestOptions, ingest
from loaders import Bytes, Loader

DATASET = "samples"


class DataplaneFeeder:
    packages = ("dataplane",)

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = f"Loader with {job.threads} threads, Bytes(), local lake, no hot tier, as many batches ahead as accelerators"
        lake = Path(job.scratch) / "lake"
        if lake.exists():
            shutil.rmtree(lake)
        ingest(str(lake), job.tree, DATASET, options=IngestOptions(kind="files", workers=job.threads))
        dataset = Lake(str(lake)).dataset(DATASET)
        (name,) = dataset.splits
        self.split = dataset[name]

    @contextmanager
    def epochs(self, ahead: int) -> Iterator[Callable[[], Iterator[NDArray[np.uint8]]]]:
        with Loader(
            self.split,
            batch_size=self.job.batch,
            transform={"bin": Bytes()},
            seed=self.job.seed,
            threads=self.job.threads,
            prefetch=ahead,
        ) as loader:
            yield lambda: map(_rows, loader)


def _rows(batch: Any) -> NDArray[np.uint8]:
    rows: NDArray[np.uint8] = batch["bin"].data.reshape(-1, SAMPLE_BYTES)
    return rows


if __name__ == "__main__":
    serve(opener(DataplaneFeeder))
