"""Batches under way: threads read and decode samples into their places, and put something else where one is bad."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dataplane.errors import DataplaneError
from loaders.batch import Batch
from loaders.buffers import BufferPool
from loaders.fields import Draw, Filler
from loaders.policy import ATTEMPTS, OnError, is_bad, substitutes
from loaders.report import Bad
from loaders.schedule import Step
from loaders.source import FieldBytes, Reader, SampleSource, Spot
from loaders.state import State
from loaders.stats import Spent, Stats

__all__ = ["BatchFiller", "Filling"]

_REASON: Final = 300  # characters of it in a report


class Filling:
    """A batch that is being filled: its step, its samples, and the arrays they go to. Every sample is one thread's business."""

    __slots__ = ("arrays", "bad", "keys", "spots", "state", "step", "valid")

    def __init__(self, state: State, step: Step, spots: list[Spot], arrays: dict[str, npt.NDArray[Any]]) -> None:
        self.state = state
        self.step = step
        self.spots = spots
        self.arrays = arrays
        self.keys = [""] * len(spots)
        self.valid = step.valid.copy()
        self.bad: list[Bad] = []  # of positions that are this step's own, not of those that only pad it

    def batch(self, to_output: Any) -> Batch:
        """What is delivered, once it is filled."""
        fields = {name: to_output(array) for name, array in self.arrays.items()}
        return Batch(fields, self.state.epoch, self.step.positions, tuple(self.keys), self.valid)


class BatchFiller:
    """Fills batches. Thread-safe: each thread gets a reader and workspaces of its own. What it puts where is a function of the version and
    the filling's state and positions alone."""

    def __init__(self, source: SampleSource, fillers: Mapping[str, Filler], *, on_error: OnError, keep: int, stats: Stats) -> None:
        self._source = source
        self._fillers = fillers
        self._on_error = on_error
        self._stats = stats
        self._pool = BufferPool(keep=keep)
        self._local = threading.local()

    def begin(self, state: State, step: Step, where: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]) -> Filling:
        """A batch of the samples that the order puts at the step's positions: `where` is (shards, items)."""
        spots = self._source.locate(*where)
        arrays = {name: self._pool.take((len(spots), *filler.shape), filler.dtype) for name, filler in self._fillers.items()}
        return Filling(state, step, spots, arrays)

    def fill(self, filling: Filling, start: int, stop: int) -> None:
        """Read and decode samples [start, stop) of a batch into their places."""
        tools = self._tools()
        spent = Spent()
        clock = time.perf_counter()
        for i, fields in enumerate(tools.reader.read(filling.spots[start:stop]), start):
            read = time.perf_counter()
            try:
                spent.bytes += self._place(filling, i, filling.spots[i], fields, tools)
            except DataplaneError as error:
                spent.bytes += self._replace(filling, i, error, tools)
            done = time.perf_counter()
            spent.samples += 1
            spent.read_seconds += read - clock
            spent.decode_seconds += done - read
            clock = done
        self._stats.add(spent)

    def _place(self, filling: Filling, i: int, spot: Spot, fields: Mapping[str, FieldBytes] | DataplaneError, tools: _Tools) -> int:
        """Put the sample at `spot` into place `i`, with the random parameters of that place's position. How many bytes it had."""
        if isinstance(fields, DataplaneError):
            raise fields
        state = filling.state
        draw = Draw(state.seed, 0, state.epoch, int(filling.step.positions[i]))
        for name, filler in self._fillers.items():
            filler.fill(fields[name], draw, filling.arrays[name][i : i + 1], tools.workspaces[name])
        filling.keys[i] = spot.key
        return sum(len(fields[name].data) for name in self._fillers)

    def _replace(self, filling: Filling, i: int, error: DataplaneError, tools: _Tools) -> int:
        """Do with place `i`, whose own sample failed, what `on_error` says. How many bytes there are in it now."""
        spot = filling.spots[i]
        if self._on_error == "raise" or not is_bad(error):
            raise self._blaming(spot, error) from error
        key, size = _key(spot), 0
        if self._on_error == "skip":
            for array in filling.arrays.values():
                array[i] = 0  # its memory may hold a part of this sample, or an older batch
            filling.keys[i], filling.valid[i] = key or "", False
        else:
            size = self._substitute(filling, i, error, tools)
        if filling.step.valid[i]:
            substitute = None if self._on_error == "skip" else filling.keys[i]
            where = filling.state.epoch, int(filling.step.positions[i])
            filling.bad.append(Bad(*where, key, str(spot.shard.row.ref), str(error)[:_REASON], substitute))
        return size

    def _substitute(self, filling: Filling, i: int, error: DataplaneError, tools: _Tools) -> int:
        """Put the first good one of the position's substitutes into place `i`. How many bytes it had."""
        state = filling.state
        for index in substitutes(state.seed, state.epoch, int(filling.step.positions[i]), state.samples):
            spot = self._source.at(index)
            (fields,) = tools.reader.read([spot])
            try:
                return self._place(filling, i, spot, fields, tools)
            except DataplaneError as other:
                if not is_bad(other):
                    raise self._blaming(spot, other) from other
        tried = f"{error}; and none of the {ATTEMPTS} samples that were tried in its place can be used"
        raise self._blaming(filling.spots[i], type(error)(tried)) from error

    def _blaming(self, spot: Spot, error: DataplaneError) -> DataplaneError:
        """The same error, naming the version, the sample and the shard."""
        key = _key(spot)
        which = f"the sample in row {spot.row}" if key is None else f"sample {key!r}"
        return type(error)(f"{self._source.split}: {which} of shard {spot.shard.row.ref}: {error}")

    def _tools(self) -> _Tools:
        tools: _Tools | None = getattr(self._local, "tools", None)
        if tools is None:
            tools = _Tools(self._source.reader(), {name: filler.workspace() for name, filler in self._fillers.items()})
            self._local.tools = tools
        return tools


class _Tools:
    """What one thread works with."""

    __slots__ = ("reader", "workspaces")

    def __init__(self, reader: Reader, workspaces: Mapping[str, Any]) -> None:
        self.reader = reader
        self.workspaces = workspaces


def _key(spot: Spot) -> str | None:
    """The sample's key, or None where the index that has it cannot be read."""
    try:
        return spot.key
    except DataplaneError:
        return None
