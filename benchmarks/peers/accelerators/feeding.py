"""A contender that feeds emulated accelerators: how many of them, and that what they get is right."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.protocol import Measurement, VerificationFailed
from benchmarks.tasks.accelerators import MOST, STEP_SECONDS, UTILISATION, Job, check_batch

STEPS = 10
WARM_STEPS = 2
FREE_SECONDS = 1.0
STARTED = 4


class Feeder(Protocol):
    """What one file under `peers/accelerators/` provides."""

    @property
    def setup(self) -> str:
        """As in `RunningContender`."""

    @property
    def packages(self) -> tuple[str, ...]:
        """As in `RunningContender`."""

    def epochs(self, ahead: int) -> AbstractContextManager[Callable[[], Iterator[NDArray[np.uint8]]]]:
        """What starts an epoch, shuffled: its batches, uint8 [400, 114660], of which about `ahead` are loaded before they are asked for."""


class FeedContender:
    """Runs `feeder` as the protocol asks: a round finds the most accelerators that it feeds."""

    def __init__(self, feeder: Feeder, job: Job, *, most: int = MOST) -> None:
        self.feeder, self.job, self.most = feeder, job, min(most, max(job.samples // job.batch, 1))
        self.setup, self.packages = feeder.setup, feeder.packages
        self.fed: int | None = None  # in the last round

    def verify(self) -> Mapping[str, Any]:
        with self.feeder.epochs(STARTED) as epoch:
            numbers = np.concatenate([check_batch(np.asarray(batch)) for batch in epoch()])
        if not np.array_equal(np.sort(numbers), np.arange(self.job.samples)):
            raise VerificationFailed(
                f"an epoch gave {len(numbers)} samples, {len(np.unique(numbers))} different ones, of {self.job.samples}"
            )
        return {"samples": len(numbers)}

    def measure(self, seconds: float) -> Measurement:
        """The rate is the number of accelerators; where not one is fed, the share of what it asks for. `seconds` is not asked: the search
        decides how long a round is."""
        tried: dict[int, float] = {}

        def holds(accelerators: int) -> bool:
            tried[accelerators] = self._utilisation(accelerators)
            return tried[accelerators] >= UTILISATION

        self.fed = search(holds, start=self._guess() if self.fed is None else self.fed, most=self.most)
        busy = {str(count): round(share, 3) for count, share in tried.items()}
        return Measurement(images=max(self.fed, 1), seconds=1.0 if self.fed else UTILISATION / tried[1], checks={"busy": busy})

    def close(self) -> None:
        pass

    def _guess(self) -> int:
        """From the rate of a loader that nobody makes wait."""
        with self.feeder.epochs(STARTED) as epoch:
            batches = _endless(epoch)
            next(batches)
            started, count = time.perf_counter(), 0
            while (elapsed := time.perf_counter() - started) < FREE_SECONDS:
                next(batches)
                count += 1
        return round(count / elapsed * STEP_SECONDS / UTILISATION)

    def _utilisation(self, accelerators: int) -> float:
        """The share of the time in which they compute."""
        with self.feeder.epochs(accelerators) as epoch:
            batches = _endless(epoch)
            for _ in range(WARM_STEPS):
                _step(batches, accelerators)
            started = time.perf_counter()
            for _ in range(STEPS):
                _step(batches, accelerators)
            return STEPS * STEP_SECONDS / (time.perf_counter() - started)


def search(holds: Callable[[int], bool], *, start: int, most: int) -> int:
    """The most that `holds`, from 0 to `most`, begun at a guess: up while it does, else down until it does.

    >>> search(lambda n: n <= 5, start=3, most=9), search(lambda n: n <= 5, start=8, most=9), search(lambda n: False, start=2, most=9)
    (5, 5, 0)
    """
    count = min(max(start, 1), most)
    if holds(count):
        while count < most and holds(count + 1):
            count += 1
        return count
    while count > 1 and not holds(count - 1):
        count -= 1
    return count - 1


def _step(batches: Iterator[NDArray[np.uint8]], accelerators: int) -> None:
    for _ in range(accelerators):
        next(batches)
    time.sleep(STEP_SECONDS)


def _endless(epoch: Callable[[], Iterator[NDArray[np.uint8]]]) -> Iterator[NDArray[np.uint8]]:
    """Epoch after epoch, each begun when the last batch of the one before has been taken, so that it loads in that step already."""
    batches = epoch()
    held = next(batches)
    while True:
        following = next(batches, None)
        if following is None:
            batches = epoch()
            following = next(batches)
        yield held
        held = following


def opener(make: Callable[[Job], Feeder]) -> Callable[[Mapping[str, Any]], FeedContender]:
    """What `serve` wants, from the class of a feeder."""

    def open_contender(job: Mapping[str, Any]) -> FeedContender:
        parsed = Job.from_json(job)
        return FeedContender(make(parsed), parsed)

    return open_contender
