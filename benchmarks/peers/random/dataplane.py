"""This project's random access: `Split.each` of shuffled indices, one sample after the other, each checked against its CRC."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.protocol import serve
from benchmarks.peers.random.reading import opener
from benchmarks.tasks.random import Job
from dataplane import Lake
from dataplane.dataset import Split
from dataplane.ingest import IngestOptions, ingest

DATASET = "photographs"


class DataplaneReader:
    packages = ("dataplane",)

    def __init__(self, job: Job) -> None:
        self.setup = "Split.each of shuffled indices, local lake, no hot tier, CRCs checked"
        self.split = open_split(job, "lake")
        self.rng = np.random.default_rng(job.seed)

    def epoch(self) -> Iterator[Any]:
        for sample in self.split.each(self.rng.permutation(len(self.split)), ["jpg"]):
            yield sample.fields["jpg"]


def open_split(job: Job, name: str) -> Split:
    """The job's photographs in a lake of this contender's own, written by this version of the project."""
    lake = Path(job.scratch) / name
    if lake.exists():
        shutil.rmtree(lake)
    ingest(str(lake), job.tree, DATASET, options=IngestOptions(check="structure", jpeg="keep", workers=1))
    dataset = Lake(str(lake)).dataset(DATASET)
    (split,) = dataset.splits
    return dataset[split]


if __name__ == "__main__":
    serve(opener(DataplaneReader))
