"""This project's loader over `Packed`: the documents ingested once, a local lake, no hot tier, concatenate and split."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.protocol import serve
from benchmarks.peers.tokens.packing import opener
from benchmarks.tasks.tokens import Job
from dataplane import Lake
from dataplane.ingest import IngestOptions, ingest
from loaders import Loader, Packed

DATASET: Final = "text"


class DataplanePacker:
    packages = ("dataplane",)
    fields: Final = False  # positions and segments too

    def __init__(self, job: Job) -> None:
        what = "tokens, positions and segments" if self.fields else "tokens alone"
        self.setup = f"Loader(Packed(length={job.length})), {what}, threads={job.threads}, local lake, no hot tier, row groups checked once"
        packed = Packed(ingested(job)["train"], length=job.length, positions=self.fields, segments=self.fields)
        self.loader = Loader(packed, batch_size=job.batch, threads=job.threads, seed=job.seed, tail="short")

    def epoch(self) -> Iterator[Any]:
        for batch in self.loader:
            yield batch["tokens"]


def ingested(job: Job) -> Any:
    """The job's documents in a lake, which contenders share."""
    lake = Path(job.scratch) / "lake"
    if not lake.exists():
        staging = Path(job.scratch) / f"lake-{os.getpid()}"
        ingest(str(staging), str(Path(job.files[0]).parent), DATASET, options=IngestOptions(workers=2))
        try:
            staging.rename(lake)
        except OSError:  # another contender was first
            shutil.rmtree(staging)
    return Lake(str(lake)).dataset(DATASET)


if __name__ == "__main__":
    serve(opener(DataplanePacker))
