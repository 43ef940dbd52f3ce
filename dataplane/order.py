"""The order: a pure function from (shard counts, seed, epoch, lanes, window; position) to a sample.

1. The shards are permuted with key (seed, epoch) and laid end to end: places 0 … N-1.
2. With b = N div L and r = N mod L, lane ℓ owns b (+1 if ℓ < r) places from ℓ·b + min(ℓ, r).
3. Position p is in lane ℓ = p mod L at q = p div L, in the lane's window (q + ⌊ℓ·w/L⌋) div w, clipped to the lane. The windows are
   staggered so that lanes do not change window together. Inside one, a permutation keyed by (seed, epoch, ℓ, window) picks the place.
4. Rank k of R takes the positions p ≡ k (mod R): `rank_positions`.

So the sequence depends on neither world size, batch size nor thread count. When R divides L, ranks touch disjoint places; then only the
at most L-1 shards that a lane boundary cuts are touched by more than one rank. When it does not, each lane is read by R / gcd(R, L) ranks.

Permutations are forward Fisher-Yates shuffles driven by Philox (`dataplane.philox`). tests/data/order_vectors.json holds the order still.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dataplane.errors import InvalidArgument
from dataplane.jit import compiled
from dataplane.philox import Domain, derive, shuffle_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Order", "OrderWalker", "default_lanes", "default_window", "rank_positions"]

_MAX_SAMPLES = 2**48
_MAX_LANES = 2**31 - 1
_SHARDS = int(Domain.SHARDS)
_WINDOW = int(Domain.WINDOW)

# An open window of a lane: its first q in the lane, its number of places, how many shuffle steps were taken, the stream of its shuffle, and
# the first and last of the laid-out shards that hold its places.
_OPEN = np.dtype([(name, np.int64) for name in ("lane", "window", "begin", "size", "done", "stream", "low", "high")])


class _Layout(NamedTuple):
    """What the compiled code knows of an order: laid-out shard i is `shards[i]` and holds the places starts[i] … starts[i + 1] - 1."""

    seed: int
    epoch: int
    lanes: int
    window: int
    shards: NDArray[np.int64]
    starts: NDArray[np.int64]


def default_lanes(world: int) -> int:
    """The number of lanes for `world` ranks: the smallest multiple of lcm(world, 24) that is at least max(48, 4 · world)."""
    step = math.lcm(_integer("world", world, 1, _MAX_LANES), 24)
    return step * -(-max(48, 4 * world) // step)


def default_window(counts: NDArray[np.int64]) -> int:
    """The window, in places, for shards of `counts` samples: twice the median of the counts that are not zero, at least 1."""
    counts = _counts(counts)
    return max(1, int(2 * np.median(counts[counts > 0], overwrite_input=True))) if counts.any() else 1


def rank_positions(start: int, stop: int, rank: int, world: int) -> NDArray[np.int64]:
    """The positions in [start, stop) that belong to `rank` of `world`: those ≡ rank (mod world), ascending."""
    _check_rank(rank, world)
    return np.arange(start + (rank - start) % world, stop, world, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """The order of one epoch. Immutable, thread-safe, deterministic on every platform; it owns a copy of `counts`.

    `counts[s]` is the number of live samples of shard s (zeros allowed). Building costs O(S) time and memory. With `shuffle=False` the
    order is the source's: position p is place p, which is one lane with a window of one place; `lanes` and `window` are then 1
    whatever was passed. Bounds: 0 <= seed < 2^63, 0 <= epoch < 2^32, 1 <= lanes < 2^31, 1 <= window <= 2^48, N < 2^48.
    Raises `InvalidArgument`.
    """

    counts: NDArray[np.int64]
    seed: int = field(kw_only=True)
    epoch: int = field(kw_only=True)
    lanes: int = field(kw_only=True)
    window: int = field(kw_only=True)
    shuffle: bool = field(kw_only=True, default=True)
    _layout: _Layout = field(init=False, repr=False)

    def __post_init__(self) -> None:
        counts = _counts(self.counts)
        seed = _integer("seed", self.seed, 0, 2**63 - 1)
        epoch = _integer("epoch", self.epoch, 0, 2**32 - 1)
        lanes = _integer("lanes", self.lanes, 1, _MAX_LANES) if self.shuffle else 1
        window = _integer("window", self.window, 1, _MAX_SAMPLES) if self.shuffle else 1
        shards = np.arange(counts.size, dtype=np.int64)
        if self.shuffle:
            shuffle_steps(shards, 0, shards.size, derive(seed, _SHARDS, epoch, 0, 0))
        starts = np.zeros(counts.size + 1, np.int64)
        np.take(counts, shards, out=starts[1:], mode="clip")  # the default mode would make a copy: these are megabytes
        np.cumsum(starts[1:], out=starts[1:])
        counts.flags.writeable = False
        layout = _Layout(seed, epoch, lanes, window, shards, starts)
        values = {"counts": counts, "seed": seed, "epoch": epoch, "lanes": lanes, "window": window, "_layout": layout}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return int(self._layout.starts[-1])

    def at(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The samples at `positions[n]`, in any order and repeatedly: (shards[n], items[n]), item i of a shard being its i-th live sample.

        Pure random access: O(n log n), and O(w + log S) for each window that the positions touch. For consecutive batches a `walker` is
        faster, since it does not shuffle a window anew for every batch.
        """
        positions = _positions(positions)
        visit = np.argsort(positions % self.lanes * (len(self) // self.lanes + 1) + positions // self.lanes)
        shards, items = np.empty_like(positions), np.empty_like(positions)
        # Sorted by lane and window, the positions open each window once, so one open window is enough.
        shards[visit], items[visit] = _Windows(self, 1).at(positions[visit])
        return shards, items

    def walker(self) -> OrderWalker:
        """A reader of this order that remembers the open window of every lane."""
        return OrderWalker(self)

    def shards_from(self, position: int, *, rank: int = 0, world: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which shards `rank` of `world` needs from `position` on, soonest first: (shards[k], first[k]), each shard once, first ascending.

        `first[k]` >= position is a lower bound in closed form: where the first window of the shard that is still open or ahead begins
        or goes on. No position of the rank in [position, first[k]) needs the shard, and a shard that is not listed is not needed again in
        this epoch. When `world` divides `lanes` and that window lies ahead, the shard is needed within it, at most lanes · (window - 1)
        positions after first[k]; if it is open at `position`, the shard's part of it may have been delivered already. Ties are in the
        order of places. Pure; O(S log S + L), whatever N.
        """
        _check_rank(rank, world)
        position = _integer("position", position, 0, len(self))
        soonest = _soonest(self._layout, position, rank, math.gcd(world, self.lanes))
        laid = np.flatnonzero(soonest >= 0)
        laid = laid[np.argsort(soonest[laid], kind="stable")]
        return self._layout.shards[laid], soonest[laid]


class OrderWalker:
    """Reads an order and remembers the open window of every lane: for consecutive positions this costs O(1) a position.

    `at` returns exactly what `Order.at` returns, for any positions in any sequence; only the cost differs. Holds up to L · w places of 8
    bytes. Not thread-safe: one walker a thread.
    """

    __slots__ = ("_windows", "order")

    def __init__(self, order: Order) -> None:
        self.order = order
        self._windows = _Windows(order, max(1, min(order.lanes, len(order))))

    def at(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The samples at `positions[n]`: (shards[n], items[n]), as `Order.at`."""
        return self._windows.at(_positions(positions))


class _Windows:
    """`slots` open windows, lane ℓ in slot ℓ mod slots. Each is shuffled only as far as it has been read."""

    __slots__ = ("_layout", "_open", "_places")

    def __init__(self, order: Order, slots: int) -> None:
        longest_lane = -(-len(order) // order.lanes)
        self._layout = order._layout
        self._open = np.full(slots, -1, dtype=_OPEN)
        self._places = np.empty((slots, min(order.window, longest_lane)), dtype=np.int64)

    def at(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        out = np.empty_like(positions), np.empty_like(positions)
        bad = _locate(positions, self._layout, self._open, self._places, out)
        if bad >= 0:
            total = self._layout.starts[-1]
            raise InvalidArgument(f"position {positions[bad]} is outside this order of {total} samples; it must be 0 ≤ position < {total}")
        return out


@compiled
def _locate(
    positions: NDArray[np.int64],
    layout: _Layout,
    slots: NDArray[np.void],
    places: NDArray[np.int64],
    out: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> int:
    """Fill out = (shards, items) and return -1, or return the index of a position that is out of range."""
    shards, starts = layout.shards, layout.starts
    for n in range(positions.size):
        p = positions[n]
        if p < 0 or p >= starts[-1]:
            return n
        lane, q = p % layout.lanes, p // layout.lanes
        window = (q + _stagger(layout, lane)) // layout.window
        k = lane % slots.size
        slot = slots[k]
        if slot["lane"] != lane or slot["window"] != window:
            _open(layout, lane, window, slot, places[k])
        i = q - slot["begin"]
        if i >= slot["done"]:
            # One Philox block serves two steps: take both.
            stop = min(slot["size"], (i | 1) + 1)
            shuffle_steps(places[k, : slot["size"]], slot["done"], stop, slot["stream"])
            slot["done"] = stop
        laid = _laid_shard(starts, places[k, i], slot["low"], slot["high"])
        out[0][n] = shards[laid]
        out[1][n] = places[k, i] - starts[laid]
    return -1


@compiled
def _stagger(layout: _Layout, lane: int) -> int:
    """⌊ℓ·w/L⌋, without overflow of the product."""
    return lane * (layout.window // layout.lanes) + lane * (layout.window % layout.lanes) // layout.lanes


@compiled
def _open(layout: _Layout, lane: int, window: int, slot: np.void, places: NDArray[np.int64]) -> None:
    """Make (lane, window) the open window of a slot, with its places still in sequence."""
    starts = layout.starts
    base, rest = starts[-1] // layout.lanes, starts[-1] % layout.lanes
    begin = max(0, window * layout.window - _stagger(layout, lane))
    end = min(base + (1 if lane < rest else 0), (window + 1) * layout.window - _stagger(layout, lane))
    first = lane * base + min(lane, rest) + begin
    for i in range(end - begin):
        places[i] = first + i
    slot["lane"], slot["window"] = lane, window
    slot["begin"], slot["size"], slot["done"] = begin, end - begin, 0
    slot["stream"] = derive(layout.seed, _WINDOW, layout.epoch, lane, window)
    slot["low"] = _laid_shard(starts, first, 0, starts.size - 2)
    slot["high"] = _laid_shard(starts, first + end - begin - 1, slot["low"], starts.size - 2)


@compiled
def _laid_shard(starts: NDArray[np.int64], place: int, low: int, high: int) -> int:
    """The laid-out shard in [low, high] that holds `place`: the last one to start at or before it, since empty ones hold nothing."""
    while low < high:
        middle = (low + high + 1) // 2
        if starts[middle] <= place:
            low = middle
        else:
            high = middle - 1
    return low


@compiled
def _soonest(layout: _Layout, position: int, rank: int, common: int) -> NDArray[np.int64]:
    """`first` of `Order.shards_from` for each laid-out shard, -1 where it is not needed; `common` is gcd(world, lanes)."""
    starts = layout.starts
    base, rest = starts[-1] // layout.lanes, starts[-1] % layout.lanes
    soonest = np.full(starts.size - 1, -1, dtype=np.int64)
    lane, lane_begin, lane_end = 0, 0, base + (1 if rest else 0)
    for laid in range(soonest.size):
        place = starts[laid]
        while place < starts[laid + 1]:
            if place == lane_end:
                lane, lane_begin = lane + 1, lane_end
                lane_end += base + (1 if lane < rest else 0)
            stop = min(starts[laid + 1], lane_end)
            if (lane - rank) % common == 0:
                first = _soonest_in_lane(layout, position, lane, place - lane_begin, stop - lane_begin - 1)
                if first >= 0 and (soonest[laid] < 0 or first < soonest[laid]):
                    soonest[laid] = first
            place = stop
    return soonest


@compiled
def _soonest_in_lane(layout: _Layout, position: int, lane: int, begin: int, last: int) -> int:
    """A lower bound of the next position at or after `position` that picks one of the places begin … last of a lane; -1 if none is left."""
    stagger = _stagger(layout, lane)
    q = max(0, -((lane - position) // layout.lanes))
    window = (max(begin, q) + stagger) // layout.window
    delivered = q * layout.lanes + lane >= layout.starts[-1]
    if delivered or window > (last + stagger) // layout.window:
        return -1
    return max(q, window * layout.window - stagger) * layout.lanes + lane


def _integer(name: str, value: int, low: int, high: int) -> int:
    """`value` as an int, checked to be in [low, high]."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidArgument(f"{name} is {value!r}; it must be an integer") from None
    if not low <= number <= high:
        raise InvalidArgument(f"{name} is {number}; it must be {low} ≤ {name} ≤ {high}")
    return number


def _check_rank(rank: int, world: int) -> None:
    _integer("world", world, 1, _MAX_LANES)
    _integer("rank", rank, 0, world - 1)


def _integers(name: str, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """A fresh one-dimensional int64 array of `values`."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise InvalidArgument(f"{name} has shape {array.shape} and type {array.dtype}; it must be a one-dimensional array of integers")
    return array.astype(np.int64)


def _counts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    counts = _integers("counts", counts)
    if counts.size and counts.min() < 0:
        shard = int(counts.argmin())
        raise InvalidArgument(f"counts[{shard}] is {counts[shard]}; a shard holds 0 or more samples")
    if counts.sum(dtype=np.float64) >= _MAX_SAMPLES:
        raise InvalidArgument(f"counts sum to {counts.sum(dtype=np.float64):.0f}; an order has fewer than 2^48 samples")
    return counts


def _positions(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    return _integers("positions", positions)
