"""A contender of the reading task: how its epochs are timed and verified."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.peers.protocol import Measurement, VerificationFailed
from benchmarks.tasks.random import Job
from benchmarks.tasks.write import check_contents


class Reader(Protocol):
    """What one file under `peers/random/` provides."""

    @property
    def setup(self) -> str:
        """As in `RunningContender`."""

    @property
    def packages(self) -> tuple[str, ...]:
        """As in `RunningContender`."""

    def epoch(self) -> Iterator[Any]:
        """The bytes of every sample once, in a new random order. A buffer may be used again for the next one."""


@dataclass(slots=True)
class ReadContender:
    """Runs `reader` as the protocol asks: whole epochs, whose samples and bytes are counted."""

    reader: Reader
    job: Job

    @property
    def setup(self) -> str:
        return self.reader.setup

    @property
    def packages(self) -> tuple[str, ...]:
        return self.reader.packages

    def verify(self) -> Mapping[str, Any]:
        return {"contents": check_contents(self.reader.epoch(), self.job.digests)}

    def measure(self, seconds: float) -> Measurement:
        epochs, elapsed = 0, 0.0
        while epochs == 0 or elapsed * (epochs + 0.5) / epochs < seconds:
            size = samples = 0
            started = time.perf_counter()
            for data in self.reader.epoch():
                size += len(data)
                samples += 1
            elapsed += time.perf_counter() - started
            epochs += 1
            if samples != self.job.samples or size != self.job.bytes:
                raise VerificationFailed(f"{samples} samples of {size} bytes came; {self.job.samples} of {self.job.bytes} were expected")
        return Measurement(images=epochs * self.job.samples, seconds=elapsed, checks={"epochs": epochs})

    def close(self) -> None:
        pass


def opener(make: Callable[[Job], Reader]) -> Callable[[Mapping[str, Any]], ReadContender]:
    """What `serve` wants, from the class of a reader."""

    def open_contender(job: Mapping[str, Any]) -> ReadContender:
        parsed = Job.from_json(job)
        return ReadContender(make(parsed), parsed)

    return open_contender
