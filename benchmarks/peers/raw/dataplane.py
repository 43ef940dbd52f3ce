"""This project: photographs ingested as they are, a Loader in threads whose samples are bytes in one buffer a batch, CRCs checked."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.protocol import serve
from benchmarks.peers.raw.batching import Buffers, opener
from benchmarks.tasks.raw import Job
from dataplane import Lake
from dataplane.ingest import IngestOptions, ingest
from loaders import Bytes, Loader

DATASET = "photographs"


class DataplaneBatches:
    packages = ("dataplane",)

    def __init__(self, job: Job) -> None:
        self.setup = f"Loader with {job.threads} threads, Bytes(), local lake, no hot tier, CRCs checked"
        lake = Path(job.scratch) / "lake"
        if lake.exists():
            shutil.rmtree(lake)
        ingest(str(lake), job.tree, DATASET, options=IngestOptions(check="structure", jpeg="keep", workers=job.threads))
        dataset = Lake(str(lake)).dataset(DATASET)
        (name,) = dataset.splits
        transform = {"jpg": Bytes()}
        self.loader = Loader(dataset[name], batch_size=job.batch, transform=transform, seed=job.seed, threads=job.threads, tail="short")

    def epoch(self) -> Iterator[Buffers]:
        for batch in self.loader:
            yield batch["jpg"].data, batch["jpg"].offsets

    def close(self) -> None:
        self.loader.close()


if __name__ == "__main__":
    serve(opener(DataplaneBatches))
