"""This project's random access to many samples at once: `Split.read_many`, which keeps the bytes of all of them until it returns."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.peers.protocol import serve
from benchmarks.peers.random.dataplane import open_split
from benchmarks.peers.random.reading import opener
from benchmarks.tasks.random import Job

TOGETHER = 256


class ManyReader:
    packages = ("dataplane",)

    def __init__(self, job: Job) -> None:
        self.setup = f"Split.read_many of {TOGETHER} shuffled indices at a time, local lake, no hot tier, CRCs checked"
        self.split = open_split(job, "lake-many")
        self.rng = np.random.default_rng(job.seed)

    def epoch(self) -> Iterator[Any]:
        order = self.rng.permutation(len(self.split))
        for start in range(0, len(order), TOGETHER):
            for sample in self.split.read_many(order[start : start + TOGETHER], ["jpg"]):
                yield sample.fields["jpg"]


if __name__ == "__main__":
    serve(opener(ManyReader))
