"""A contender that gets whole objects, several at once: how this is timed and verified."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from blake3 import blake3

from benchmarks.peers.protocol import Measurement, VerificationFailed
from benchmarks.tasks.whole import Job

Get = Callable[[int], Any]
"""All bytes of the object of that number in the job, as a buffer."""


class GetContender:
    def __init__(self, job: Job, get: Get, *, setup: str, packages: tuple[str, ...]) -> None:
        self.setup, self.packages = f"{setup}, {job.threads} threads", packages
        self.job, self.get = job, get
        self.pool = ThreadPoolExecutor(job.threads)

    def verify(self) -> Mapping[str, Any]:
        for number, expected in enumerate(self.job.digests):
            if blake3(self.get(number)).hexdigest() != expected:
                raise VerificationFailed(f"{self.job.names[number]} did not come as it lies in the bucket")
        return {"objects": len(self.job.names)}

    def measure(self, seconds: float) -> Measurement:
        started, elapsed, epochs = time.perf_counter(), 0.0, 0
        while epochs == 0 or elapsed * (epochs + 0.5) / epochs < seconds:
            sizes = list(self.pool.map(self._size, range(len(self.job.names))))
            epochs += 1
            elapsed = time.perf_counter() - started
            if sizes != self.job.sizes:
                raise VerificationFailed("objects did not come whole")
        return Measurement(images=epochs * round(sum(self.job.sizes) / 1e6), seconds=elapsed, checks={"epochs": epochs})

    def close(self) -> None:
        self.pool.shutdown()

    def _size(self, number: int) -> int:
        return len(memoryview(self.get(number)))
