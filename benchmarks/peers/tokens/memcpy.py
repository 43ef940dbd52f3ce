"""The bound: two threads copy as many bytes as batches have out of a gigabyte of memory, end to end, into memory that is used again."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np

from benchmarks.peers.protocol import Measurement, serve
from benchmarks.tasks.tokens import Job

SOURCE = 1 << 28  # int32
BATCHES = 200  # of a thread at a time
BUFFERS = 4  # as many batches as a loader has under way


class MemcpyBound:
    packages = ("numpy",)
    fields: Final = 1  # int32 arrays of a batch

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = f"np.copyto of whole batches of {self.fields} int32 array(s), {job.threads} threads, from 1 GiB"
        self.source = np.random.default_rng(0).integers(0, 50_000, SOURCE, np.int32)
        self.threads = ThreadPoolExecutor(job.threads)

    def verify(self) -> Mapping[str, Any]:
        return {"bytes": self.source.nbytes}

    def measure(self, seconds: float) -> Measurement:
        started, batches = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            list(self.threads.map(self.copy, range(batches, batches + self.job.threads)))
            batches += BATCHES * self.job.threads
        return Measurement(images=batches * self.job.batch, seconds=time.perf_counter() - started)

    def close(self) -> None:
        self.threads.shutdown()

    def copy(self, turn: int) -> None:
        size = self.job.batch * self.job.length * self.fields
        buffers = [np.empty(size, np.int32) for _ in range(BUFFERS)]
        places = np.random.default_rng(turn).integers(0, len(self.source) // size, BATCHES).tolist()
        for n, place in enumerate(places):
            np.copyto(buffers[n % BUFFERS], self.source[place * size : (place + 1) * size])


def open_contender(job: Mapping[str, Any]) -> MemcpyBound:
    return MemcpyBound(Job.from_json(job))


if __name__ == "__main__":
    serve(open_contender)
