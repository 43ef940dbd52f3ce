"""The bound: `read()` of the tars, 1 MiB at a time, on as many threads. No samples are told apart, and each thread has one buffer."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.peers.protocol import Measurement, VerificationFailed, serve
from benchmarks.tasks.raw import Job

CHUNK_BYTES = 1 << 20


class ReadBound:
    packages = ()

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = f"read() of whole tars, 1 MiB at a time, unbuffered, {job.threads} threads; the samples are those that the tars hold"
        self.threads = ThreadPoolExecutor(job.threads)

    def verify(self) -> Mapping[str, Any]:
        return {"bytes": self._read()}

    def measure(self, seconds: float) -> Measurement:
        started, elapsed, epochs = time.perf_counter(), 0.0, 0
        while epochs == 0 or elapsed * (epochs + 0.5) / epochs < seconds:
            self._read()
            epochs += 1
            elapsed = time.perf_counter() - started
        return Measurement(images=epochs * self.job.samples, seconds=elapsed)

    def close(self) -> None:
        self.threads.shutdown()

    def _read(self) -> int:
        threads = self.job.threads
        size = sum(self.threads.map(_read_all, [self.job.tars[n::threads] for n in range(threads)]))
        if size < self.job.bytes:
            raise VerificationFailed(f"the tars have {size} bytes; their photographs have {self.job.bytes}")
        return size


def _read_all(tars: Sequence[str]) -> int:
    size = 0
    for tar in tars:
        with open(tar, "rb", buffering=0) as file:
            while data := file.read(CHUNK_BYTES):
                size += len(data)
    return size


def open_contender(job: Mapping[str, Any]) -> ReadBound:
    return ReadBound(Job.from_json(job))


if __name__ == "__main__":
    serve(open_contender)
