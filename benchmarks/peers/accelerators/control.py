"""No input: the same batch again and again, so that what is measured is the emulation."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.accelerators.feeding import FeedContender
from benchmarks.peers.protocol import serve
from benchmarks.tasks.accelerators import Job, check_batch, sample


class Control:
    packages = ()

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = "one batch in memory, again and again; a run asks for no more accelerators than this"
        rows = [np.frombuffer(sample(number), np.uint8) for number in range(job.batch)]
        self.batch: NDArray[np.uint8] = np.stack(rows)

    @contextmanager
    def epochs(self, ahead: int) -> Iterator[Callable[[], Iterator[NDArray[np.uint8]]]]:
        yield lambda: repeat(self.batch, self.job.samples // self.job.batch)


class ControlContender(FeedContender):
    """One batch is all there is to verify."""

    def verify(self) -> dict[str, int]:
        with self.feeder.epochs(1) as epoch:
            return {"samples": len(check_batch(next(epoch())))}


if __name__ == "__main__":
    serve(lambda job: ControlContender(Control(Job.from_json(job)), Job.from_json(job)))
