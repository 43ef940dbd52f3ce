"""A contender of the packing task: how its epochs are timed and verified."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from benchmarks.peers.protocol import Measurement, VerificationFailed
from benchmarks.tasks.tokens import VOCABULARY, Job

VERIFY_SECONDS = 60
LEFT_OUT = 0.02  # of all tokens, at most: tails of a stream, or of every thousand documents


class Packer(Protocol):
    """What one file under `peers/tokens/` provides."""

    @property
    def setup(self) -> str:
        """As in `RunningContender`."""

    @property
    def packages(self) -> tuple[str, ...]:
        """As in `RunningContender`."""

    def epoch(self) -> Iterator[Any]:
        """Batches of token sequences, [B, length] arrays of int32, in a new random order."""


@dataclass(slots=True)
class PackContender:
    """Runs `packer` as the protocol asks: whole epochs, whose sequences are counted."""

    packer: Packer
    job: Job
    batches: Iterator[Any] | None = None

    @property
    def setup(self) -> str:
        return self.packer.setup

    @property
    def packages(self) -> tuple[str, ...]:
        return self.packer.packages

    def verify(self) -> Mapping[str, Any]:
        """A whole epoch, or as much of it as comes in a minute: no token more often than it is there, and of a whole epoch nearly all."""
        have, found = np.load(self.job.counts), np.zeros(VOCABULARY, np.int64)
        until, whole = time.monotonic() + VERIFY_SECONDS, True
        for batch in self.packer.epoch():
            if batch.shape[1:] != (self.job.length,) or batch.dtype != np.int32:
                raise VerificationFailed(f"a batch is {batch.dtype}{batch.shape}; it must be int32 [B, {self.job.length}]")
            found += np.bincount(batch.reshape(-1), minlength=VOCABULARY)
            if time.monotonic() > until:
                whole = False
                break
        if (found > have).any() or (whole and found.sum() < (1 - LEFT_OUT) * have.sum()):
            raise VerificationFailed(f"{found.sum()} tokens came of {have.sum()}, and {int((found > have).sum())} came too often")
        much = "a whole epoch" if whole else f"the first {VERIFY_SECONDS} s of an epoch"
        return {"tokens": f"{found.sum()} of {have.sum()} tokens in {much}, none more often than it is there"}

    def measure(self, seconds: float) -> Measurement:
        """Epochs one after the other, the last of them begun in the round before and not ended in this one: some take minutes."""
        sequences, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            if self.batches is None:
                self.batches = iter(self.packer.epoch())
            batch = next(self.batches, None)
            if batch is None:
                self.batches = None
            else:
                sequences += len(batch)
        return Measurement(images=sequences, seconds=elapsed)

    def close(self) -> None:
        pass


def opener(make: Callable[[Job], Packer]) -> Callable[[Mapping[str, Any]], PackContender]:
    """What `serve` wants, from the class of a packer."""

    def open_contender(job: Mapping[str, Any]) -> PackContender:
        parsed = Job.from_json(job)
        return PackContender(make(parsed), parsed)

    return open_contender
