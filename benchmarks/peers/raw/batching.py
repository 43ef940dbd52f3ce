"""A contender of the task of raw bytes: how its epochs are timed and verified."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.protocol import Measurement, VerificationFailed
from benchmarks.tasks.raw import Job
from benchmarks.tasks.write import check_contents

Buffers = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""The bytes of a batch in one buffer, and where each sample begins, with their end."""


class Batches(Protocol):
    """What one file under `peers/raw/` provides."""

    @property
    def setup(self) -> str:
        """As in `RunningContender`."""

    @property
    def packages(self) -> tuple[str, ...]:
        """As in `RunningContender`."""

    def epoch(self) -> Iterator[Buffers]:
        """Every sample once, in a new random order. What is given holds until the next batch is asked for."""

    def close(self) -> None:
        """End worker processes and threads."""


@dataclass(slots=True)
class BatchContender:
    """Runs `batches` as the protocol asks: whole epochs, whose samples and bytes are counted."""

    batches: Batches
    job: Job

    @property
    def setup(self) -> str:
        return self.batches.setup

    @property
    def packages(self) -> tuple[str, ...]:
        return self.batches.packages

    def verify(self) -> Mapping[str, Any]:
        return {"contents": check_contents(self._samples(), self.job.digests)}

    def measure(self, seconds: float) -> Measurement:
        epochs, elapsed = 0, 0.0
        while epochs == 0 or elapsed * (epochs + 0.5) / epochs < seconds:
            size = samples = 0
            started = time.perf_counter()
            for data, offsets in self.batches.epoch():
                size += len(data)
                samples += len(offsets) - 1
            elapsed += time.perf_counter() - started
            epochs += 1
            if samples != self.job.samples or size != self.job.bytes:
                raise VerificationFailed(f"{samples} samples of {size} bytes came; {self.job.samples} of {self.job.bytes} were expected")
        return Measurement(images=epochs * self.job.samples, seconds=elapsed, checks={"epochs": epochs})

    def close(self) -> None:
        self.batches.close()

    def _samples(self) -> Iterator[bytes]:
        for data, offsets in self.batches.epoch():
            if data.dtype != np.uint8 or not data.flags.c_contiguous or offsets[0] != 0 or offsets[-1] != len(data):
                raise VerificationFailed(f"a batch is {data.dtype} {data.shape}, with offsets up to {offsets[-1]}: not one buffer of bytes")
            for start, end in pairwise(offsets.tolist()):
                yield data[start:end].tobytes()


def opener(make: Callable[[Job], Batches]) -> Callable[[Mapping[str, Any]], BatchContender]:
    """What `serve` wants, from the class of one that gives batches."""

    def open_contender(job: Mapping[str, Any]) -> BatchContender:
        parsed = Job.from_json(job)
        return BatchContender(make(parsed), parsed)

    return open_contender
