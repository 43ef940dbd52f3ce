"""How many lanes an order has where nobody says it."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dataplane.dataset import Split
from dataplane.order import default_lanes, default_window

__all__ = ["Spread", "choose_lanes", "warn_if_shared"]

_logger = logging.getLogger("loaders")


class Spread(NamedTuple):
    """How a feed lies in shards: the samples of each of its groups, int64, and the split whose shards have so many bytes."""

    counts: npt.NDArray[np.int64]
    split: Split


def choose_lanes(spreads: Sequence[Spread], *, world: int, window: int | None, limit_bytes: int | None) -> int:
    """As many as mix well, or fewer where the shards under way at one time would not fit a hot tier of `limit_bytes`. Ranks do not know
    each other's limits and must agree, so only a lone one decides that itself."""
    lanes = default_lanes(world)
    if limit_bytes is None or sum(int(spread.split.sizes.sum()) for spread in spreads) <= limit_bytes:
        return lanes
    fitting = max(world, int(limit_bytes / sum(_open_bytes(spread, window) for spread in spreads)) // world * world)
    if fitting >= lanes:
        return lanes
    text = f"the hot tier's limit of {limit_bytes:,} bytes holds the shards of {fitting} lanes, not of {lanes}"
    if world > 1:
        _logger.warning("%s: shards will be fetched more than once; give all ranks lanes=%d to shuffle within the limit", text, fitting)
        return lanes
    _logger.warning("%s: shuffling with %d", text, fitting)
    return fitting


def warn_if_shared(lanes: int, world: int, *, stacklevel: int) -> None:
    """Warn the caller's caller where ranks read the same shards."""
    readers = world // math.gcd(world, lanes)
    if readers > 1:
        text = f"lanes={lanes} is no multiple of world={world}: ranks share shards, so each shard is read by {readers} of them"
        warnings.warn(text, stacklevel=stacklevel + 1)


def _open_bytes(spread: Spread, window: int | None) -> float:
    """Of the shards that a lane has open at one time: it has about window / count + 1 of them."""
    window = default_window(spread.counts) if window is None else window
    return float(np.median(spread.split.sizes)) * (window / max(1.0, float(np.median(spread.counts))) + 1)
