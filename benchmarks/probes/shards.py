"""Opens a version of very many shards and walks about in it. See `benchmarks.tasks.shards`."""

import time
from typing import Any

import numpy as np

from benchmarks.limits import answer, memory
from benchmarks.tasks.shards import DATASET, FIELDS, metadata_of, table_of_shards
from dataplane import Lake
from dataplane.dataset import Split
from dataplane.order import Order, default_lanes, default_window

BATCH = 256
SEEKS = 20
NEW_SHARDS = 16


def probe(job: dict[str, Any]) -> dict[str, Any]:
    """The figures of one process."""
    _compile()
    imports = memory("VmRSS")
    lake = Lake(job["lake"])
    started = time.perf_counter()
    dataset = lake.dataset(f"{DATASET}@1")
    split = dataset["train"]
    opened = time.perf_counter()
    order = _order(split, epoch=0)
    _place(split, order, 0, BATCH)
    planned = time.perf_counter()
    if dataset.version.samples != job["samples"] or len(split) != dataset.version.splits["train"].samples:
        raise AssertionError(f"{dataset} has {dataset.version.samples} samples; {job['samples']} were expected")
    seeks = [_seek(split, order, int(position)) for position in np.random.default_rng(1).integers(len(order), size=SEEKS)]
    peak = memory("VmHWM")
    figures = {
        "open and plan": planned - started,
        "peak memory": peak,
        "seek": max(seeks) * 1e3,
        "append": _append(lake) * 1e3,
        "imports": imports,
        "open": opened - started,
    }
    return {"figures": figures, "notes": {"shards": f"{job['shards']:,}", "samples": f"{job['samples']:,}"}}


def _order(split: Split, *, epoch: int) -> Order:
    return Order(split.counts, seed=0, epoch=epoch, lanes=default_lanes(1), window=default_window(split.counts))


def _place(split: Split, order: Order, start: int, stop: int) -> None:
    """The shards and rows of these positions, and the references that a reader needs."""
    shards, items = order.walker().at(np.arange(start, min(stop, len(order))))
    for number, item in zip(shards.tolist(), items.tolist(), strict=True):
        shard = split.shards[number]
        shard.rows(np.array([item]))


def _seek(split: Split, order: Order, position: int) -> float:
    started = time.perf_counter()
    _place(split, order, position, position + 1)
    return time.perf_counter() - started


def _append(lake: Lake) -> float:
    """Seconds for what ends a write of so many new shards. They are made before: they would be in the lake by then."""
    from dataplane.journal import Finished  # what a reader does not load
    from dataplane.writer import WriteOptions, commit

    rng = np.random.default_rng(time.time_ns())
    finished = [Finished(row, metadata_of(row, rng), FIELDS) for row in table_of_shards(NEW_SHARDS, rng)]
    started = time.perf_counter()
    commit(lake, DATASET, finished, WriteOptions(new_keys=True))
    return time.perf_counter() - started


def _compile() -> None:
    """Load the order's machine code, which is compiled when it is used for the first time after an installation."""
    order = Order(np.array([4, 4]), seed=0, epoch=0, lanes=1, window=2)
    order.walker().at(np.arange(8))


if __name__ == "__main__":
    answer(probe)
