"""What a run recorded while it trained, as the report shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from train.demo.story import Crash, Interval, TimeUse, Validation

__all__ = ["intervals", "times", "validations"]

Row = Mapping[str, Any]


def intervals(rows: Sequence[Row], crash: Crash) -> tuple[Interval, ...]:
    """Loss, speed and hit rate of each logged interval. A loss that was no number is left out."""
    logged = [[row for row in rows if "loader" in row and (row["step"] <= crash.resumed_step) == before] for before in (True, False)]
    return tuple(
        Interval(
            row["step"], row["loss"], row["samples_per_second"], _hit_rate(row["loader"]["hot"], then["loader"]["hot"] if then else None)
        )
        for of_process in logged  # counters begin at 0 in each process
        for then, row in pairwise([None, *of_process])
        if row and row["loss"] is not None
    )


def validations(rows: Sequence[Row]) -> tuple[Validation, ...]:
    """Each validation."""
    return tuple(Validation(row["step"], row["val_loss"], row["val_accuracy"]) for row in rows if row.get("val_loss") is not None)


def times(rows: Sequence[Row], crash: Crash) -> tuple[TimeUse, ...]:
    """The totals of the killed process at its last checkpoint, and of the one that went on at its end."""
    parts = (
        ("Before the kill", [row for row in rows if "loader" in row and row["step"] <= crash.resumed_step]),
        ("After the resume", [row for row in rows if "loader" in row and row["step"] > crash.resumed_step]),
    )
    keys = ("wait_seconds", "consumer_seconds", "read_seconds", "decode_seconds")
    return tuple(TimeUse(name, *(of_process[-1]["loader"][key] for key in keys)) for name, of_process in parts if of_process)


def _hit_rate(now: Row | None, then: Row | None) -> float | None:
    if now is None:
        return None
    hits, misses = (now[name] - (then[name] if then else 0) for name in ("hits", "misses"))
    return hits / (hits + misses) if hits + misses else None
