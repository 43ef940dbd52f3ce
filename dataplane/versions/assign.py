"""Which split each sample goes into. Pure functions over arrays: one element a sample, and the number of its split as the answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from dataplane.ingest.splits import Splits, key_hash

__all__ = ["ascending", "dense_ranks", "fractions_of", "hashes", "in_strata", "shares", "within"]

Codes = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]


def hashes(texts: Iterable[str], *, seed: int) -> npt.NDArray[np.uint64]:
    """The hash that decides for each text; with seed 0 the one of `ingest`."""
    prefix = f"{seed}:" if seed else ""
    return np.fromiter((key_hash(prefix + text) for text in texts), np.uint64)


def fractions_of(splits: Splits) -> npt.NDArray[np.float64]:
    """The fraction of each split."""
    return np.diff(np.array([0, *splits.ends], object)).astype(np.float64) / splits.ends[-1]


def within(hashed: npt.NDArray[np.uint64], splits: Splits) -> Codes:
    """By where the hash lies, as `Splits.of` does it."""
    codes: Codes = np.searchsorted(np.array(splits.ends[:-1], np.uint64), hashed, "right").astype(np.int32)
    return codes


def shares(counts: Counts, fractions: npt.NDArray[np.float64], *, turns: Counts) -> Counts:
    """How many of each of `counts` go into each split, [counts, splits]: exact but for rounding, which the largest remainders decide. Where
    they are equal, `turns` says which split comes first: a number for each of `counts`, any at all."""
    splits = len(fractions)
    exact = counts[:, None] * fractions
    floors = np.floor(exact + 1e-9).astype(np.int64)
    after = (np.arange(splits) - turns[:, None]) % splits
    order = np.lexsort((after, -np.round(exact - floors, 9)), axis=1)
    rank = np.argsort(order, axis=1, kind="stable")
    more = rank < (counts - floors.sum(axis=1))[:, None]
    return np.asarray(floors + more, np.int64)


def in_strata(hashed: npt.NDArray[np.uint64], strata: npt.NDArray[Any], fractions: npt.NDArray[np.float64], *, turns: Counts) -> Codes:
    """Each stratum in the same proportions: its samples in the order of their hashes, the first ones into the first split. `strata` are
    positions in `turns` (see `shares`)."""
    order = np.lexsort((hashed, strata))
    present, counts = np.unique(strata, return_counts=True)
    each = shares(counts.astype(np.int64), fractions, turns=turns[present])
    codes = np.empty(len(hashed), np.int32)
    codes[order] = np.repeat(np.tile(np.arange(len(fractions), dtype=np.int32), len(counts)), each.ravel())
    return codes


def ascending(ranks: npt.NDArray[np.int64], fractions: npt.NDArray[np.float64]) -> Codes:
    """The lowest values into the first split, and so on. Equal ones stay together: a cut in them moves to the nearer end of their run."""
    values, counts = np.unique(ranks, return_counts=True)
    ends = np.cumsum(counts)  # how many samples there are up to each value
    cuts = np.cumsum(shares(np.array([len(ranks)]), fractions, turns=np.zeros(1, np.int64))[0])[:-1]
    above = np.searchsorted(ends, cuts, "left")  # the run that the cut lies in or at the end of
    last = ends[above]
    first = last - counts[above]
    begin = np.where((cuts - first < last - cuts) & (first > 0), above, above + 1)  # the first run behind the cut
    codes: Codes = np.searchsorted(begin, np.searchsorted(values, ranks), "right").astype(np.int32)
    return codes


def dense_ranks(column: Any) -> npt.NDArray[np.int64]:
    """The position of each value of an Arrow column among its distinct values, ascending."""
    ranks: npt.NDArray[np.int64] = pc.rank(column, sort_keys="ascending", tiebreaker="dense").to_numpy().astype(np.int64)
    return ranks
