"""Filters a version of very many samples. See `benchmarks.tasks.where`."""

import time
import uuid
from typing import Any

import duckdb  # noqa: F401  (what `where` would import is no part of its figures)

from benchmarks.limits import answer, memory
from benchmarks.tasks.where import CONDITION, DATASET
from dataplane import Lake
from dataplane.versions.where import where


def probe(job: dict[str, Any]) -> dict[str, Any]:
    """The figures of one process."""
    imports = memory("VmRSS")
    lake = Lake(job["lake"])
    started = time.perf_counter()
    counted = where(lake, f"{DATASET}@1", CONDITION)
    found = time.perf_counter()
    view = where(lake, f"{DATASET}@1", CONDITION, to=f"view-{uuid.uuid4().hex}")
    committed = time.perf_counter()
    for result in (counted, view):
        if result.samples != job["matching"]:
            raise AssertionError(f"{result.samples} samples were found; the condition is true of {job['matching']}")
    peak = memory("VmHWM")
    figures = {"count": found - started, "commit": committed - found, "memory": peak - imports, "peak memory": peak}
    return {"figures": figures, "notes": {"samples": f"{job['samples']:,}", "matching": f"{job['matching']:,}"}}


if __name__ == "__main__":
    answer(probe)
