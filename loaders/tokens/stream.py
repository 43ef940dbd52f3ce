"""Concatenate and split: an epoch's documents end to end as one stream of tokens, cut into sequences. Pure; no I/O happens here.

The shards are permuted by (seed, epoch), their documents stay in their stored order, and sequence s is tokens [s·T, (s+1)·T). So every
epoch has as many sequences, the tail that is left out is shorter than one, and cutting points move from epoch to epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from dataplane.philox import Domain, derive, shuffle_steps
from dataplane.shards import starts

__all__ = ["Laid", "even_groups"]


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """The shards of one epoch end to end: `order` int64 [S], `starts` int64 [S + 1] where each begins in the stream, and its end."""

    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, totals: npt.NDArray[np.int64], *, seed: int | None, epoch: int) -> Self:
        """For shards of `totals` tokens each. Without a seed they stay in their stored order."""
        order = np.arange(len(totals), dtype=np.int64)
        if seed is not None:
            shuffle_steps(order, 0, len(order), derive(seed, int(Domain.STREAM), epoch, 0, 0))
        return cls(order, starts(totals[order]))

    def shards(self, first: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
        """The shards that sequences of `length` tokens touch that begin at the places `first`, each at least once."""
        low = np.searchsorted(self.starts, first, "right") - 1
        high = np.searchsorted(self.starts, first + (length - 1), "right") - 1
        places = np.concatenate([low, high])
        if (high - low).max(initial=0) > 1:  # shards that are shorter than a sequence lie between
            places = np.concatenate([np.arange(a, b + 1) for a, b in zip(low.tolist(), high.tolist(), strict=True)])
        return np.asarray(self.order[places])


def even_groups(sequences: int, groups: int) -> npt.NDArray[np.int64]:
    """How many of the sequences of a stream are in each group: int64 [groups], as even as it goes. A group is about one shard long, so an
    order over these groups keeps few shards under way, and is the same in every epoch whatever the shards are."""
    each, more = divmod(sequences, max(1, groups))
    return (each + (np.arange(groups, dtype=np.int64) < more)).astype(np.int64)
