"""The bound of shuffling: each sequence of a batch is copied from a random place, by compiled code that does nothing else."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.protocol import serve
from benchmarks.peers.tokens.memcpy import BATCHES, BUFFERS, MemcpyBound
from benchmarks.tasks.tokens import Job
from dataplane.jit import compiled


class GatherBound(MemcpyBound):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.setup = f"compiled copies of sequences from random places, {job.threads} threads, from 1 GiB"

    def copy(self, turn: int) -> None:
        buffers = [np.empty((self.job.batch, self.job.length), np.int32) for _ in range(BUFFERS)]
        last = len(self.source) - self.job.length
        places = np.random.default_rng(turn).integers(0, last, (BATCHES, self.job.batch))
        for n in range(BATCHES):
            gather(self.source, places[n], buffers[n % BUFFERS])


@compiled
def gather(source: NDArray[np.int32], places: NDArray[np.int64], out: NDArray[np.int32]) -> None:
    for i in range(places.size):
        out[i] = source[places[i] : places[i] + out.shape[1]]


def open_contender(job: Mapping[str, Any]) -> GatherBound:
    return GatherBound(Job.from_json(job))


if __name__ == "__main__":
    serve(open_contender)
