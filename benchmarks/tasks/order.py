"""Shuffle quality, live shards and speed of the order: `python -m benchmarks.tasks.order [--json]`.

Quality is counted over whole epochs, against a uniform shuffle of the same samples:

* same-label pairs in a batch, with labels random over the shards (what ingest in hash order gives) and with labels sorted over the shards
  (the worst that source order gives), and same-shard pairs in a batch: each as a multiple of what a uniform shuffle has on average;
* live shards: needed at least once before or at a position, and at least once at or after it;
* new shards: those first needed within a block of 4,096 samples, the first block (which opens every lane) left out.

Every measurement checks itself: an order must deliver each sample once, and a uniform shuffle, measured with the same code, must show the
analytic numbers of pairs within five standard errors.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from dataplane.order import Order

BATCH = 256
BLOCK = 4096
LABELS = 100
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Case:
    """`shards` shards of `count` samples, read with `lanes` and `window`; `staggered=False` is the counter-example."""

    shards: int
    count: int
    lanes: int
    window: int
    staggered: bool = True

    def __str__(self) -> str:
        text = f"S={self.shards} c={self.count} L={self.lanes} w={self.window / self.count:g}c"
        return text if self.staggered else f"{text}, not staggered"


@dataclass(frozen=True, slots=True)
class Quality:
    """One epoch of a case. Pairs are multiples of a uniform shuffle's; shards are numbers of shards."""

    label_pairs: float
    sorted_label_pairs: float
    shard_pairs: float
    live_mean: float
    live_max: int
    new_mean: float
    new_max: int


UNITS = {
    "label_pairs": "× uniform",
    "sorted_label_pairs": "× uniform",
    "shard_pairs": "× uniform",
    "live_mean": "shards",
    "live_max": "shards",
    "new_mean": f"shards / {BLOCK} samples",
    "new_max": f"shards / {BLOCK} samples",
}
CASES = (
    Case(24, 600, 48, 1200),
    Case(200, 600, 48, 1200),
    Case(2000, 600, 48, 1200),
    Case(2000, 600, 48, 1200, staggered=False),
    Case(2000, 600, 48, 600),
    Case(2000, 600, 48, 2400),
    Case(2000, 600, 96, 1200),
    Case(2000, 600, 24, 1200),
    Case(2000, 600, 8, 600),
    Case(2000, 600, 1, 9600),
)


def measure(case: Case, epoch: int) -> Quality:
    """One epoch of a case, checked."""
    shards, items = _sequence(case, epoch)
    samples = shards * case.count + items
    total = case.shards * case.count
    if not np.array_equal(np.bincount(samples, minlength=total), np.ones(total, dtype=np.int64)):
        raise AssertionError(f"{case}: the order does not deliver every sample once")
    rng = np.random.default_rng(epoch)
    by_source = np.arange(total) * LABELS // total
    by_hash = rng.permutation(by_source)
    by_shard = np.arange(total) // case.count
    uniform = rng.permutation(total)
    ratios = []
    for groups in (by_hash, by_source, by_shard):
        expected = _expected_pairs(np.bincount(groups))
        _check_uniform(_pairs(groups[uniform]), expected)
        ratios.append(float(_pairs(groups[samples]).mean() / expected))
    live_mean, live_max = _live(shards, case.shards)
    new_mean, new_max = _new(shards, case.shards)
    return Quality(ratios[0], ratios[1], ratios[2], live_mean, live_max, new_mean, new_max)


def _sequence(case: Case, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(shards, items) of every position."""
    if not case.staggered:
        return _sequence_without_stagger(case, epoch)
    order = Order(np.full(case.shards, case.count), seed=0, epoch=epoch, lanes=case.lanes, window=case.window)
    return order.walker().at(np.arange(len(order)))


def _sequence_without_stagger(case: Case, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same order if all lanes changed window together (lanes of equal length only)."""
    rng = np.random.default_rng(epoch)
    length = case.shards * case.count // case.lanes
    if length * case.lanes != case.shards * case.count:
        raise AssertionError(f"{case}: lanes are not of one length")
    lanes = [
        np.concatenate([rng.permutation(np.arange(q, min(q + case.window, length))) for q in range(0, length, case.window)]) + lane * length
        for lane in range(case.lanes)
    ]
    places = np.stack(lanes, axis=1).ravel()
    return rng.permutation(case.shards)[places // case.count], places % case.count


def _pairs(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of pairs of one group in each whole batch."""
    batches = np.sort(groups[: groups.size // BATCH * BATCH].reshape(-1, BATCH), axis=1)
    # A run of n equal values holds n (n - 1) / 2 pairs: each element pairs with those before it in its run.
    index = np.arange(BATCH)
    run_starts = np.maximum.accumulate(np.where(np.diff(batches, axis=1, prepend=-1) != 0, index, 0), axis=1)
    pairs: NDArray[np.int64] = (index - run_starts).sum(axis=1)
    return pairs


def _expected_pairs(sizes: NDArray[np.int64]) -> float:
    """The mean number of pairs of one group in a batch of a uniform shuffle."""
    total = int(sizes.sum())
    return BATCH * (BATCH - 1) / 2 * float((sizes * (sizes - 1)).sum()) / (total * (total - 1))


def _check_uniform(pairs: NDArray[np.int64], expected: float) -> None:
    error = pairs.std() / np.sqrt(pairs.size)
    if abs(pairs.mean() - expected) > 5 * error:
        raise AssertionError(f"a uniform shuffle shows {pairs.mean():.3f} ± {error:.3f} pairs; {expected:.3f} were expected")


def _live(shards: NDArray[np.int64], number: int) -> tuple[float, int]:
    """The mean and the largest number of live shards over the positions."""
    positions = np.arange(shards.size)
    first, last = np.empty(number, dtype=np.int64), np.empty(number, dtype=np.int64)
    last[shards] = positions
    first[shards[::-1]] = positions[::-1]
    opened = np.cumsum(np.bincount(first, minlength=shards.size))
    closed = np.cumsum(np.bincount(last + 1, minlength=shards.size + 1))[:-1]
    return float((opened - closed).mean()), int((opened - closed).max())


def _new(shards: NDArray[np.int64], number: int) -> tuple[float, int]:
    """The mean and the largest number of new shards in the whole blocks after the first."""
    first = np.empty(number, dtype=np.int64)
    first[shards[::-1]] = np.arange(shards.size)[::-1]
    blocks = np.bincount(first // BLOCK, minlength=shards.size // BLOCK)[1 : shards.size // BLOCK]
    return (float(blocks.mean()), int(blocks.max())) if blocks.size else (0.0, 0)


def speed() -> dict[str, tuple[str, list[float]]]:
    """How fast the order is computed: name → (unit, one value a round)."""
    order = Order(np.full(2000, 600), seed=0, epoch=0, lanes=48, window=1200)
    batches = [np.arange(k, k + 64) for k in range(0, 640_000, 64)]
    million = np.full(10**6, 600)
    large = Order(million, seed=0, epoch=0, lanes=48, window=1200)

    def read(at: Callable[[NDArray[np.int64]], object], chosen: list[NDArray[np.int64]]) -> float:
        begin = time.perf_counter()
        for positions in chosen:
            at(positions)
        return 64 * len(chosen) / (time.perf_counter() - begin)

    def once(work: Callable[[], object]) -> float:
        begin = time.perf_counter()
        work()
        return (time.perf_counter() - begin) * 1e3

    def build_and_seek() -> None:
        Order(million, seed=0, epoch=0, lanes=48, window=1200).at(np.array([500_000_000]))

    rounds: dict[str, tuple[str, Callable[[], float]]] = {
        "walker, batches of 64": ("positions/s", lambda: read(order.walker().at, batches)),
        "bare at, batches of 64": ("positions/s", lambda: read(order.at, batches[:500])),
        "plan of 2,000 shards": ("ms", lambda: once(lambda: order.shards_from(500_000))),
        "build and seek, 10^6 shards": ("ms", lambda: once(build_and_seek)),
        "plan of 10^6 shards": ("ms", lambda: once(lambda: large.shards_from(300_000_000))),
    }
    for _, run in rounds.values():
        run()  # compile, or load what was compiled
    return {name: (unit, [run() for _ in range(ROUNDS)]) for name, (unit, run) in rounds.items()}


def report() -> dict[str, Any]:
    """Everything measured, as one document for programs."""
    results: list[dict[str, Any]] = []
    for case in CASES:
        epochs = [asdict(measure(case, epoch)) for epoch in range(ROUNDS)]
        results += [_result(str(case), name, unit, [epoch[name] for epoch in epochs]) for name, unit in UNITS.items()]
    results += [_result("speed", name, unit, values) for name, (unit, values) in speed().items()]
    versions = {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__}
    hardware = {"machine": platform.machine(), "cores": numba.config.NUMBA_DEFAULT_NUM_THREADS}
    return {"task": "order", "hardware": hardware, "versions": versions, "rounds": ROUNDS, "batch": BATCH, "results": results}


def _result(contender: str, metric: str, unit: str, values: list[float]) -> dict[str, Any]:
    return {
        "contender": contender,
        "metric": metric,
        "unit": unit,
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
    }


def tables(document: dict[str, Any]) -> list[Table]:
    """The document for people: quality a case, and speed."""
    results = document["results"]
    quality = Table(title=f"Batches of {BATCH}; pairs are multiples of a uniform shuffle's; medians of {ROUNDS} epochs")
    for heading in ("case", "same label", "same label, sorted", "same shard", "live shards", "most", f"new / {BLOCK}", "most"):
        quality.add_column(heading, justify="left" if heading == "case" else "right")
    for case in CASES:
        medians = {row["metric"]: row["median"] for row in results if row["contender"] == str(case)}
        texts = [f"{medians[f.name]:.3f}" if "pairs" in f.name else f"{medians[f.name]:.1f}".removesuffix(".0") for f in fields(Quality)]
        quality.add_row(str(case), *texts)
    fast = Table(title="Speed, one thread")
    for heading in ("what", "median", "low", "high", "unit"):
        fast.add_column(heading, justify="right" if heading in {"median", "low", "high"} else "left")
    for row in results:
        if row["contender"] == "speed":
            numbers = [f"{row[key]:,.0f}" if row[key] >= 100 else f"{row[key]:.2g}" for key in ("median", "low", "high")]
            fast.add_row(row["metric"], *numbers, row["unit"])
    return [quality, fast]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Shuffle quality, live shards and speed of the order.")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    options = parser.parse_args(arguments)
    document = report()
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        console = Console(width=None if sys.stdout.isatty() else 140)
        for table in tables(document):
            console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
