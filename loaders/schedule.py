"""Which positions make which batch: pure planning of global batches, ranks and the tail of an epoch. No I/O happens here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from dataplane.errors import InvalidArgument
from dataplane.order import rank_positions

__all__ = ["Schedule", "Step", "Tail"]

Tail = Literal["drop", "short", "pad"]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One batch of one rank.

    `positions` int64 [B]: where in the epoch its samples stand. `valid` bool [B]: False for samples that only fill up a padded batch.
    `stop`: the epoch's position once every rank has delivered this step.
    """

    positions: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_]
    stop: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The steps of an epoch of `samples` samples for one rank. Every rank makes the same number of steps.

    A global batch is `batch_size · world` consecutive positions; rank k takes those ≡ k (mod world). What is left at the end is not
    delivered ("drop"), makes a smaller global batch of which a rank's share may be empty ("short"), or is filled up from the start of the
    epoch ("pad").
    """

    samples: int
    batch_size: int
    rank: int
    world: int
    tail: Tail

    def __post_init__(self) -> None:
        for what in ("batch_size", "rank", "world"):
            if not isinstance(getattr(self, what), int | np.integer):
                raise InvalidArgument(f"{what} is {getattr(self, what)!r}; it must be an integer")
        if self.batch_size < 1:
            raise InvalidArgument(f"batch_size is {self.batch_size}; it must be at least 1")
        if self.world < 1 or not 0 <= self.rank < self.world:
            raise InvalidArgument(f"rank {self.rank} of world {self.world}; it must be 0 <= rank < world")
        if self.tail not in get_args(Tail):
            raise InvalidArgument(f"tail is {self.tail!r}; it must be one of {', '.join(get_args(Tail))}")

    @property
    def global_batch(self) -> int:
        """Samples that all ranks together deliver in one full step."""
        return self.batch_size * self.world

    def count(self, position: int = 0) -> int:
        """How many steps are left from `position`."""
        left = max(0, self.samples - position)
        return left // self.global_batch if self.tail == "drop" else -(-left // self.global_batch)

    def steps(self, position: int) -> Iterator[Step]:
        """The steps from `position` to the end of the epoch."""
        for start in range(position, position + self.count(position) * self.global_batch, self.global_batch):
            end = start + self.global_batch
            stop = min(end, self.samples)
            positions = rank_positions(start, end if self.tail == "pad" else stop, self.rank, self.world)
            yield Step(positions % max(1, self.samples), positions < self.samples, stop)
