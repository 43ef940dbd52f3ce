"""Opens a version of very many shards and walks about in it. See `benchmarks.tasks.shards`."""

import time
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.limits import answer, memory
from benchmarks.tasks.shards import DATASET, SAMPLES_A_SHARD, table_of_shards
from dataplane import Lake
from dataplane.catalog import Change, Version
from dataplane.dataset import Dataset, Split
from dataplane.manifest import METADATA
from dataplane.order import Order, default_lanes, default_window
from dataplane.parts import merged, split_counts, store_part

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
        "append": _append(lake, dataset) * 1e3,
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


def _append(lake: Lake, dataset: Dataset) -> float:
    """Seconds for one more commit. The new shards are made before: they would be in the lake when a writer commits."""
    rng = np.random.default_rng(time.time_ns())
    new = table_of_shards(NEW_SHARDS, rng)
    rows = NEW_SHARDS * SAMPLES_A_SHARD
    keys = pa.array([f"{i:012d}" for i in rng.integers(10**12, size=rows)])
    columns = {
        "shard": pa.array(np.repeat(np.arange(NEW_SHARDS, dtype=np.int32), SAMPLES_A_SHARD)),
        "row": pa.array(np.tile(np.arange(SAMPLES_A_SHARD, dtype=np.int32), NEW_SHARDS)),
        "key": keys,
        "label": pa.nulls(rows, pa.string()),
        "width": pa.array(np.full(rows, 500, np.int32)),
        "height": pa.array(np.full(rows, 375, np.int32)),
        "bytes": pa.array(rng.integers(90_000, 120_000, rows)),
        "source": keys,
        "source_etag": keys,
        "source_blake3": pa.Array.from_buffers(pa.binary(32), rows, [None, pa.py_buffer(rng.bytes(32 * rows))]),
    }
    metadata = pa.table(columns, schema=METADATA)

    def make(newest: Version | None) -> Change:
        assert newest is not None
        parts = [*dataset.parts, store_part(lake.objects, new, metadata)]
        kept = merged(lake.objects, [part for part, _ in parts])
        return Change("ingest", {}, newest.schema, tuple(kept), split_counts(parts), newest.bad)

    started = time.perf_counter()
    lake.catalog.commit(DATASET, make)
    return time.perf_counter() - started


def _compile() -> None:
    """Load the order's machine code, which is compiled when it is used for the first time after an installation."""
    order = Order(np.array([4, 4]), seed=0, epoch=0, lanes=1, window=2)
    order.walker().at(np.arange(8))


if __name__ == "__main__":
    answer(probe)
