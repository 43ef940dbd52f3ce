"""A contender that is started again and again: how this is timed and verified."""

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.peers.batches import Batch
from benchmarks.peers.protocol import Measurement, VerificationFailed
from benchmarks.tasks.jpeg import check_batch, normalise
from benchmarks.tasks.start import Job

LEAST_CORRELATION = 0.5


class Starter(Protocol):
    """What one file under `peers/start/` provides."""

    @property
    def setup(self) -> str:
        """As in `RunningContender`."""

    @property
    def packages(self) -> tuple[str, ...]:
        """As in `RunningContender`."""

    def first(self, cache: Path) -> AbstractContextManager[Batch]:
        """Open everything anew, shuffled, with `cache`, an empty folder, for local copies; the first batch. Closing is not timed."""


class StartContender:
    """Runs `starter` as the protocol asks: a round is as many starts as fit into it."""

    def __init__(self, starter: Starter, job: Job) -> None:
        self.starter, self.job = starter, job
        self.setup, self.packages = starter.setup, starter.packages
        self.starts = 0

    def verify(self) -> Mapping[str, Any]:
        """Its images are those of the photographs that its labels name: their colours go together."""
        _, batch = self._start()
        sources = [self.job.photographs.sources[label] for label in batch.labels]
        found, expected = batch.images.mean(axis=(2, 3)), np.stack([_mean_colour(Path(path)) for path in sources])
        correlation = float(np.corrcoef(found.ravel(), expected.ravel())[0, 1])
        if not correlation >= LEAST_CORRELATION:
            raise VerificationFailed(f"colours of images and photographs correlate by {correlation:.2f} (at least {LEAST_CORRELATION})")
        return {"photographs": len(np.unique(batch.labels)), "correlation": round(correlation, 2)}

    def measure(self, seconds: float) -> Measurement:
        starts, elapsed = 0, 0.0
        while starts == 0 or elapsed < seconds:
            elapsed += self._start()[0]
            starts += 1
        return Measurement(images=starts, seconds=elapsed)

    def close(self) -> None:
        shutil.rmtree(self.job.cache, ignore_errors=True)

    def _start(self) -> tuple[float, Batch]:
        """Seconds of one start, and what came, copied."""
        self.starts += 1
        cache = Path(self.job.cache) / f"{type(self.starter).__name__}-{self.starts}"
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        started = time.perf_counter()
        with self.starter.first(cache) as batch:
            elapsed = time.perf_counter() - started
            check_batch(batch.images, batch.labels, batch=self.job.batch, form=self.job.photographs.form)
            if len(batch.images) != self.job.batch:
                raise VerificationFailed(f"the first batch has {len(batch.images)} images, not {self.job.batch}")
            copied = Batch(batch.images.copy(), batch.labels.copy())
        shutil.rmtree(cache, ignore_errors=True)
        return elapsed, copied


def _mean_colour(path: Path) -> NDArray[np.float64]:
    with Image.open(path) as image:
        colour: NDArray[np.float64] = normalise(np.asarray(image.convert("RGB"))).mean(axis=(1, 2), dtype=np.float64)
        return colour


def opener(make: Callable[[Job], Starter]) -> Callable[[Mapping[str, Any]], StartContender]:
    """What `serve` wants, from the class of a starter."""

    def open_contender(job: Mapping[str, Any]) -> StartContender:
        parsed = Job.from_json(job)
        return StartContender(make(parsed), parsed)

    return open_contender
