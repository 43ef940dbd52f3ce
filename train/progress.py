"""What a person sees of a run while it trains: a bar on standard error, or lines where that is a file or a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dataplane.output import err

__all__ = ["bar"]


@contextmanager
def bar(title: str, *, shown: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function for the rows of a run, which moves the bar, or prints a line where standard error is no terminal.

    `shown=False` shows nothing, for ranks other than the first.
    """
    if shown and not err.is_terminal:
        yield lambda row: err.print(_line(row), markup=False)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} samples/s, loss {task.fields[loss]:.4f}{task.fields[accuracy]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=not shown, transient=True) as progress:
        task = progress.add_task(title, total=None, rate=0.0, loss=float("nan"), accuracy="")

        def show(row: Mapping[str, Any]) -> None:
            if "loss" in row:
                progress.update(task, completed=row["samples"], total=row["total"], rate=row["samples_per_second"], loss=row["loss"])
            else:
                progress.update(task, accuracy=f", val accuracy {row['val_accuracy']:.3f}")

        yield show


def _line(row: Mapping[str, Any]) -> str:
    """A row as `step 60, epoch 3: …`, for logs and for programs that follow a run."""
    if "loss" in row:
        what = f"loss {row['loss']:.4f}, {row['samples_per_second']:,.0f} samples/s"
    else:
        what = f"val loss {row['val_loss']:.4f}, val accuracy {row['val_accuracy']:.3f}"
    return f"step {row['step']}, epoch {row['epoch']}: {what}"
