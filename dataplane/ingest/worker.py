"""One task: read the sources of a shard, look at them, write the shard, and put it and its index into the lake."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dataplane.group import Group
from dataplane.ingest.bulk import take_together
from dataplane.ingest.gathered import CLASS_ID, COLUMNS, RESERVED
from dataplane.ingest.options import Bad, Pictures
from dataplane.ingest.plan import Task, Todo
from dataplane.ingest.reading import read_ahead
from dataplane.ingest.source import Source, Together
from dataplane.ingest.taker import Taker
from dataplane.journal import Finished
from dataplane.objects import Objects
from dataplane.prep.options import PictureOptions
from dataplane.prep.sample import FileKind
from dataplane.store import Store
from dataplane.store.local import translated

__all__ = ["CLASS_ID", "COLUMNS", "RESERVED", "Context", "Done", "Tick", "do_task"]

_TICK_SECONDS: Final = 0.2
_MANY: Final = 2048
_MANY_COLD: Final = 4096  # photographs: loading numba and compiled code takes about as long as reading so many together saves

Tick = Callable[[int, int], None]
"""Hears of samples done and bytes read since it was last called."""


@dataclass(frozen=True, slots=True)
class Context:
    """What every task of an ingest needs. It is sent once to each worker process. `writing`: what the writers of the formats are given.
    `files`: how many all tasks have."""

    source: Source
    store: Store
    class_ids: dict[str, int]
    kind: FileKind
    decode: bool
    max_pixels: int
    pictures: PictureOptions
    writing: Mapping[str, Mapping[str, Any]]
    scratch: Path
    files: int = 0

    @property
    def light(self) -> bool:
        """What is done to files holds the interpreter for little of the time: `recode` lets go of it, decoding and encoding here do not."""
        return not self.decode and self.kind != "arrays" and not (self.kind == "pictures" and self.pictures.encodes)

    @property
    def looks(self) -> bool:
        """Files are only looked at on their way."""
        return self.light and not (self.kind == "pictures" and self.pictures.changes)

    def do(self, task: Task, tick: Tick) -> Done:
        """Make one shard. Raises `StoreError` where the lake or the whole source fails; what is wrong with one file is in `Done.bad`."""
        return do_task(self, task, tick)


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a task. `finished` is None where no sample was left to write; `same` samples are in the dataset with equal bytes."""

    task: int
    finished: Finished | None
    bad: tuple[Bad, ...]
    same: int
    renamed: int
    pictures: Pictures


def do_task(context: Context, task: Task, tick: Tick) -> Done:
    """Make one shard. Raises `StoreError` where the lake or the whole source fails; what is wrong with one file is in `Done.bad`."""
    folder = context.scratch / f"{task.number}"
    with translated(folder):
        folder.mkdir(exist_ok=True)
    with translated(folder), Group(folder, options=context.writing, store=context.store) as group:
        taker = Taker(context, group)
        _take_all(taker, task.todo, _Ticker(tick))
        gathered = taker.gathered
        shard = group.finish(Objects(context.store), task.split) if len(gathered) else None
    finished = Finished(shard, gathered.metadata(), group.fields) if shard else None
    return Done(task.number, finished, tuple(gathered.bad), gathered.same, gathered.renamed, gathered.pictures)


def _take_all(taker: Taker, todo: Sequence[Todo], ticker: _Ticker) -> None:
    context, done = taker.context, 0
    if isinstance(context.source, Together) and context.looks and _worth_it(context.files):
        done = take_together(taker, context.source, todo, ticker.some)
    if done < len(todo):
        with closing(read_ahead(context.source, context.kind, todo[done:])) as outcomes:
            for item, outcome in outcomes:
                taker.take(item, outcome)
                ticker.some([item])
    ticker.flush()


def _worth_it(files: int) -> bool:
    """Whether so many files make up for what reading them together has to load, once a process. Most of that is numba, which others may
    have loaded."""
    return files >= (_MANY if "numba" in sys.modules else _MANY_COLD)


class _Ticker:
    """Passes progress on, but not for every sample."""

    def __init__(self, tick: Tick) -> None:
        self._tick = tick
        self._samples = self._bytes = 0
        self._last = time.monotonic()

    def some(self, done: Sequence[Todo]) -> None:
        self._samples += len(done)
        self._bytes += sum(item.wanted.entry.size for item in done)
        if time.monotonic() - self._last >= _TICK_SECONDS:
            self.flush()

    def flush(self) -> None:
        self._tick(self._samples, self._bytes)
        self._samples = self._bytes = 0
        self._last = time.monotonic()
