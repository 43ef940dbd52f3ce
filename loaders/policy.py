"""What becomes of a bad sample. Pure: which errors make one, how many may be bad, and where to look for substitutes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from dataplane.errors import BadSample, CorruptObject, DataplaneError, InvalidArgument, NotFound
from dataplane.philox import Domain, bounded, derive

__all__ = ["ATTEMPTS", "MAX_BAD", "BadPolicy", "OnError", "is_bad", "substitutes"]

OnError = Literal["raise", "skip", "substitute"]

MAX_BAD: Final = 0.01
"""The share of an epoch's samples that may be bad, unless it is said."""

ATTEMPTS: Final = 16
"""Samples that are tried in the place of one bad sample: where a third of a split is bad, one in 40 million finds none."""


@dataclass(frozen=True, slots=True)
class BadPolicy:
    """What to do with bad samples, and how many of them one epoch may have: a number, or as a float the share of its samples.

    Raises `InvalidArgument`.
    """

    on_error: OnError
    max_bad: int | float

    def __post_init__(self) -> None:
        if self.on_error not in get_args(OnError):
            raise InvalidArgument(f"on_error is {self.on_error!r}; it must be one of {', '.join(get_args(OnError))}")
        if isinstance(self.max_bad, bool) or not isinstance(self.max_bad, int | float):
            raise InvalidArgument(f"max_bad is {self.max_bad!r}; it must be a number of samples (int) or a share of them (float)")
        if not 0 <= self.max_bad < math.inf or (isinstance(self.max_bad, float) and self.max_bad > 1):
            raise InvalidArgument(f"max_bad is {self.max_bad!r}; it must be at least 0, and at most 1.0 where it is a share (float)")

    def allowed(self, samples: int) -> int:
        """How many of an epoch's `samples` may be bad; a share is rounded up."""
        return math.ceil(self.max_bad * samples) if isinstance(self.max_bad, float) else self.max_bad


def is_bad(error: DataplaneError) -> bool:
    """Whether an error says that a sample cannot be used, now and later: its bytes are no picture, damaged or gone.

    Everything else must stop the run: a store that is unavailable for now (it was waited for), refused credentials, an adopted object that
    was changed, a wrong call. To deliver something else then would hide a fault that is not the sample's.
    """
    return isinstance(error, BadSample | CorruptObject | NotFound)


def substitutes(seed: int, epoch: int, position: int, samples: int) -> Iterator[int]:
    """Which samples of the split (0 … samples - 1, in stored order) to try, one after the other, in place of the one at `position`.

    A function of the arguments alone: neither the rank, the batch, the lanes nor what was bad before has a part in it.
    """
    for attempt in range(1, ATTEMPTS + 1):
        yield bounded(derive(seed, int(Domain.SUBSTITUTE), epoch, attempt, position), 0, samples)
