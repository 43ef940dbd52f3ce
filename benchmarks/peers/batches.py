"""A contender that delivers batches of the JPEG task: how its epochs are timed, and how they are verified."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.protocol import Measurement
from benchmarks.tasks.jpeg import (
    Box,
    Job,
    check_batch,
    check_labels,
    check_pixels,
    check_statistics,
    normalised,
    statistics_of,
)

SKIPPED_SHARE = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """`images`, as the job's form says, is a view that holds until the next batch is asked for; `labels` [B] is the consumer's own."""

    images: NDArray[Any]
    labels: NDArray[np.int64]


class Batches(Protocol):
    """What one file under `peers/` provides."""

    @property
    def setup(self) -> str:
        """As in `RunningContender`."""

    @property
    def packages(self) -> tuple[str, ...]:
        """As in `RunningContender`."""

    def epoch(self) -> Iterator[Batch]:
        """The next epoch: every sample once, in a new random order."""

    def close(self) -> None:
        """End worker processes and threads."""


@runtime_checkable
class KnownBoxes(Protocol):
    """A contender that can say which box it cut."""

    def cut(self) -> Iterable[tuple[Path, Box, NDArray[Any]]]:
        """A few photographs through the contender's own transform, each with its file and the box that was cut."""


@dataclass(slots=True)
class BatchContender:
    """Runs `batches` as the protocol asks.

    What is timed is the steady state: an epoch's first eighth is delivered before the clock starts, so that neither starting an epoch nor
    batches that were prefetched while other contenders had their turn count for or against anybody.
    """

    batches: Batches
    job: Job

    @property
    def setup(self) -> str:
        return self.batches.setup

    @property
    def packages(self) -> tuple[str, ...]:
        return self.batches.packages

    def verify(self) -> Mapping[str, Any]:
        total = np.zeros((3, 3))
        labels: list[NDArray[np.int64]] = []
        for batch in self.batches.epoch():
            check_batch(batch.images, batch.labels, batch=self.job.batch, form=self.job.form)
            total += statistics_of(normalised(batch.images, self.job.form)).sum(axis=0)
            labels.append(batch.labels)
        checks: dict[str, Any] = {"labels": check_labels(np.concatenate(labels), self.job.repeats)}
        checks["statistics"] = check_statistics(total / self.job.samples, self.job.reference, samples=self.job.samples)
        if isinstance(self.batches, KnownBoxes):
            checks["pixels"] = check_pixels(self.batches.cut(), self.job.form)
        return checks

    def measure(self, seconds: float) -> Measurement:
        images, elapsed, epochs = 0, 0.0, 0
        while epochs == 0 or elapsed * (epochs + 0.5) / epochs < seconds:
            epoch = self._timed_epoch()
            images, elapsed, epochs = images + epoch.images, elapsed + epoch.seconds, epochs + 1
        return Measurement(images=images, seconds=elapsed, checks={"epochs": epochs})

    def close(self) -> None:
        self.batches.close()

    def _timed_epoch(self) -> Measurement:
        skipped = max(self.job.samples // self.job.batch // SKIPPED_SHARE, 1)
        labels: list[NDArray[np.int64]] = []
        started = ended = 0.0
        for i, batch in enumerate(self.batches.epoch(), start=1):
            labels.append(batch.labels)
            ended = time.perf_counter()
            if i == skipped:
                started = ended
        check_labels(np.concatenate(labels), self.job.repeats)
        return Measurement(images=sum(map(len, labels[skipped:])), seconds=ended - started)
