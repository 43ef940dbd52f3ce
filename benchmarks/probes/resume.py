"""A Loader takes a state far into an epoch of very many samples. See `benchmarks.tasks.resume`."""

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.limits import answer, memory
from benchmarks.tasks.shards import DATASET
from dataplane import Lake
from dataplane.dataset import Split
from dataplane.order import Order, default_lanes, default_window
from loaders import HorizontalFlip, Int64, Loader, Normalize, RandomResizedCrop

EPOCH = 3  # not the one that a new Loader begins with, so that its order has to be drawn
TRANSFORM: Mapping[str, Any] = {"jpg": (RandomResizedCrop(224), HorizontalFlip(), Normalize.imagenet()), "cls": Int64()}


def probe(job: dict[str, Any]) -> dict[str, Any]:
    """The figures of one process."""
    _compile()
    imports = memory("VmRSS")
    started = time.perf_counter()
    split = Lake(job["lake"]).dataset(f"{DATASET}@1")["train"]
    opened = time.perf_counter()
    text = _state(split, job)  # of the job that was ended: it has nothing to do with the one that resumes
    made = time.perf_counter()
    loader = _loader(split, job["batch"])
    loader.load_state_dict(json.loads(text))
    shards, items = _next_batch(loader, job["batch"])
    planned = time.perf_counter()
    rows = [split.shards[number].rows(np.array([item])) for number, item in zip(shards.tolist(), items.tolist(), strict=True)]
    located = time.perf_counter()
    if len(split) != job["samples"] or loader.position != job["position"] or len(rows) != job["batch"]:
        raise AssertionError(f"{loader} over {len(split)} samples, of which {len(rows)} come next: not what was asked for")
    peak = memory("VmHWM")
    loader.close()
    figures = {
        "resume": (planned - made) * 1e3,
        "references": (located - planned) * 1e3,
        "memory": peak - imports,
        "state": float(len(text)),
        "opened": opened - started,
        "whole process": peak,
    }
    return {"figures": figures, "notes": {"samples": f"{job['samples']:,}", "position": f"{job['position']:,}"}}


def _loader(split: Split, batch: int) -> Loader:
    return Loader(split, batch_size=batch, transform=TRANSFORM, seed=0, lanes=default_lanes(1), window=default_window(split.counts))


def _state(split: Split, job: dict[str, Any]) -> str:
    with _loader(split, job["batch"]) as loader:
        return json.dumps({**loader.state_dict(), "epoch": EPOCH, "position": job["position"]})


def _next_batch(loader: Loader, batch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Shards and items of the samples of the next batch: what the loader finds before it asks where those shards lie."""
    course: Any = loader._course
    order: Order = course._order(loader._state)
    return order.walker().at(np.arange(loader.position, loader.position + batch))


def _compile() -> None:
    """Load the order's machine code, which is compiled when it is used for the first time after an installation."""
    Order(np.array([4, 4]), seed=0, epoch=0, lanes=1, window=2).walker().at(np.arange(8))


if __name__ == "__main__":
    answer(probe)
