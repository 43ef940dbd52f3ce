"""`Loader`: batches of a split in the order of its epoch, resumable at any sample by any number of ranks."""

from __future__ import annotations

import logging
import math
import operator
import os
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal

import numpy as np

from dataplane.dataset import Split
from dataplane.errors import InvalidArgument, MissingExtra, StateMismatch
from dataplane.order import Order, default_lanes, default_window
from dataplane.store import Store
from loaders.batch import Batch
from loaders.fields import compile_transform
from loaders.filling import BatchFiller, Filling
from loaders.patience import patiently
from loaders.pipeline import Pipeline, Work
from loaders.policy import MAX_BAD, BadPolicy, OnError
from loaders.report import Report
from loaders.schedule import Schedule, Step, Tail
from loaders.source import SampleSource
from loaders.state import State
from loaders.stats import Stats
from loaders.transforms import FieldTransform, ImageTransform
from tiering import Hot

__all__ = ["Loader"]

_JOBS_A_THREAD: Final = 4  # of one batch: small enough to balance, large enough for Python's share to be small
_logger = logging.getLogger("loaders")


class Loader:
    """Iterates over one epoch of `split` a time, starting where the state stands.

    Arguments:
        split: what to load, `lake.dataset("photos@7")["train"]`.
        batch_size: samples a rank gets in one batch.
        transform: for each field to load, what to do with it. Names are those of the schema; "jpg;png" takes whichever a sample has.
        seed: of the order and of every random parameter.
        shuffle: False delivers samples in the order they are stored in, for evaluation.
        tail: what happens to samples left over at the end of an epoch: "drop", a "short" batch, or one that is "pad"ded.
        hot: a hot tier to read through. Where its limit is small and `world` is 1, it lowers the default of `lanes`.
        rank, world: which share of every global batch is ours; by default torch.distributed's, where it runs, else 0 of 1.
        threads: that read and decode; by default one a usable core. 0 works on the caller's thread, for debuggers.
        prefetch: batches prepared while the consumer has one.
        lanes, window: of the order; see docs/order.md.
        output: "numpy" arrays or "torch" tensors that share their memory.
        on_error: what becomes of a sample that cannot be used: "raise", "skip" it, which leaves zeros where `batch.valid` is False, or
            deliver a "substitute" drawn from the split.
        max_bad: how many samples of an epoch may be skipped or substituted: a number, or as a float the share of all; beyond it,
            `BadSamples` is raised. A rank counts its own, since the epoch began or the loader resumed.

    Which samples come, in which order, and their random parameters depend on (version, seed, epoch, lanes, window) alone: not on
    the world size, the batch size or the threads. Not thread-safe: one consumer. Everything that cannot work is an `InvalidArgument` here,
    at construction; errors while loading name the sample, the shard and the version.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        transform: Mapping[str, FieldTransform | ImageTransform],
        seed: int = 0,
        shuffle: bool = True,
        tail: Tail = "drop",
        hot: Hot | None = None,
        rank: int | None = None,
        world: int | None = None,
        threads: int | None = None,
        prefetch: int = 2,
        lanes: int | None = None,
        window: int | None = None,
        output: Literal["numpy", "torch"] = "numpy",
        on_error: OnError = "raise",
        max_bad: int | float = MAX_BAD,
    ) -> None:
        rank, world = _rank_and_world(rank, world)
        self._hot = None if hot is None else hot.wrap(split.dataset.store)
        self.split = split if self._hot is None else patiently(partial(_through, split, self._hot))
        self._schedule = Schedule(len(split), batch_size, rank, world, tail)
        self._threads = _positive("threads", len(os.sched_getaffinity(0)) if threads is None else threads, least=0)
        self._prefetch = _positive("prefetch", prefetch, least=1)
        fillers = compile_transform(transform)
        source = SampleSource(self.split, tuple(transform))
        policy = BadPolicy(on_error, max_bad)
        self._stats = Stats()
        self._filler = BatchFiller(source, fillers, on_error=on_error, keep=self._prefetch + 2, stats=self._stats)
        self._report = Report(str(split), samples=len(split), allowed=policy.allowed(len(split)))
        self._to_output = _output(output)
        self._asked = (lanes, window)
        window = default_window(self.split.counts) if window is None else window
        lanes = self._default_lanes(window, hot) if lanes is None else lanes
        if shuffle:
            _warn_if_shared(lanes, world, stacklevel=3)
        version = split.dataset.version
        self._state = State(version.name, version.number, version.id, split.name, len(split), seed, 0, 0, lanes, window, shuffle)
        self._order(self._state)  # raises for what is out of range
        self._check_feasible()
        self._closed = False
        self._hot_stats: dict[str, Any] | None = None  # the last ones, once closed
        self._turn = 0  # which iterator is the current one
        self._pipeline: Callable[[], Pipeline[Filling] | None] = lambda: None  # its pipeline

    def __len__(self) -> int:
        """Batches in a whole epoch, the same for every rank."""
        return self._schedule.count()

    def __repr__(self) -> str:
        return f"Loader({self.split}, batch_size={self._schedule.batch_size}, epoch={self.epoch}, position={self.position})"

    @property
    def epoch(self) -> int:
        """The epoch that the next batch is of."""
        return self._state.epoch

    @property
    def position(self) -> int:
        """How many samples of this epoch all ranks together have delivered."""
        return self._state.position

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the current epoch. An older iterator of this loader ends; after `break`, a new one continues."""
        self._end_iteration()
        return self._iterate(self._turn)

    def state_dict(self) -> dict[str, Any]:
        """What was delivered: a few integers and names, equal on every rank, plain JSON."""
        return self._state.to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue behind what `state` says was delivered, here with any world size, batch size and threads.

        Seed, lanes and window are the state's. Raises `StateMismatch` for a state of another version, split or order.
        """
        loaded = State.from_dict(state)
        for what in ("dataset", "version", "commit", "split", "samples", "shuffle"):
            got, have = getattr(loaded, what), getattr(self._state, what)
            if got != have:
                raise StateMismatch(f"the state is of {what} {got!r}, this loader of {have!r}; open what the state names")
        for what, asked in zip(("lanes", "window"), self._asked, strict=True):
            if asked is not None and asked != getattr(loaded, what):
                raise StateMismatch(f"the state has {what}={getattr(loaded, what)}, this loader {asked}; leave the argument out to resume")
        if not 0 <= loaded.position <= loaded.samples:
            raise StateMismatch(f"the state stands at position {loaded.position} of {loaded.samples} samples")
        if loaded.shuffle:
            _warn_if_shared(loaded.lanes, self._schedule.world, stacklevel=3)
        self._go_on_from(loaded)

    def restart(self, *, epoch: int = 0) -> None:
        """Begin `epoch` from its first sample."""
        self._go_on_from(replace(self._state, epoch=epoch, position=0))

    def stats(self) -> dict[str, Any]:
        """Totals since this loader was made: samples, bytes, seconds by stage and, with a hot tier, its counters."""
        hot = self._hot_stats if self._hot is None or self._closed else self._hot.stats().to_json()
        return {**self._stats.to_dict(), "hot": hot}

    def report(self, *, after: int = 0) -> dict[str, Any]:
        """The bad samples that this rank was to deliver, as plain JSON: `count` since this loader was made, `in_epoch` of them in the
        newest epoch, and the `samples` behind the first `after` of them, at most a thousand: what `loaders.report.Bad` says of each."""
        return self._report.to_json(after=after)

    def check_bad(self, count: int) -> None:
        """Raise `BadSamples` where `count`, of all ranks together in one epoch, is more than `max_bad` allows."""
        self._report.check(count)

    def close(self) -> None:
        """End the current iterator and let go of the hot tier. The loader can be used again only with hot=None."""
        self._end_iteration()
        if self._hot is not None and not self._closed:
            self._hot_stats = self._hot.stats().to_json()
            self._hot.close()
        self._closed = True

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------ iteration

    def _go_on_from(self, state: State) -> None:
        self._order(state)  # raises for what is out of range
        self._state = state
        self._report.begin(state.epoch, jump=True)
        self._end_iteration()

    def _end_iteration(self) -> None:
        """Stop the threads of the current iterator, which ends at its next step. The next one is the current one."""
        self._turn += 1
        pipeline = self._pipeline()
        if pipeline is not None:
            pipeline.close()

    def _iterate(self, turn: int) -> Iterator[Batch]:
        if turn != self._turn:
            return
        if not self._schedule.count(self._state.position):  # a state saved with another batch size can leave less than a batch
            self._state = replace(self._state, epoch=self._state.epoch + 1, position=0)
        state = self._state
        self._report.begin(state.epoch)
        with closing(Pipeline(self._works(state), threads=self._threads, depth=self._prefetch + 1)) as pipeline:
            self._pipeline = weakref.ref(pipeline)
            away = 0.0
            while turn == self._turn:
                asked = time.perf_counter()
                filling = next(pipeline, None)
                got = time.perf_counter()
                if filling is None:
                    return
                self._stats.delivered(wait_seconds=got - asked, consumer_seconds=away)
                self._report.add(filling.bad)
                batch = filling.batch(self._to_output)
                after = self._after(state, filling.step)
                if after.epoch != state.epoch:
                    self._report.end(state.epoch)
                self._state = after  # the last thing: an interrupt before it loses nothing
                del filling
                yield batch
                del batch
                away = time.perf_counter() - got

    def _after(self, state: State, step: Step) -> State:
        """The state once `step` is delivered."""
        if self._schedule.count(step.stop):
            return replace(state, position=step.stop)
        return replace(state, epoch=state.epoch + 1, position=0)

    def _works(self, state: State) -> Iterator[Work[Filling]]:
        walker = self._order(state).walker()
        for step in self._schedule.steps(state.position):
            filling = self._filler.begin(state, step, walker.at(step.positions))
            n = len(step.positions)
            size = max(1, n // (max(1, self._threads) * _JOBS_A_THREAD))
            jobs = [partial(self._filler.fill, filling, start, min(n, start + size)) for start in range(0, n, size)]
            yield Work(jobs, filling)

    # ------------------------------------------------------------------ construction

    def _order(self, state: State) -> Order:
        return Order(self.split.counts, seed=state.seed, epoch=state.epoch, lanes=state.lanes, window=state.window, shuffle=state.shuffle)

    def _default_lanes(self, window: int, hot: Hot | None) -> int:
        """As many as mix well, or fewer where the shards under way at one time would not fit the hot tier: a lane has about
        window / count + 1 of them open. Ranks do not know each other's limits and must agree, so only a lone one decides that itself."""
        world = self._schedule.world
        lanes = default_lanes(world)
        sizes = self.split.sizes
        if hot is None or sizes.sum() <= hot.limit_bytes:
            return lanes
        open_bytes = float(np.median(sizes)) * (window / max(1.0, float(np.median(self.split.counts))) + 1)
        fitting = max(world, int(hot.limit_bytes / open_bytes) // world * world)
        if fitting >= lanes:
            return lanes
        text = f"the hot tier's limit of {hot.limit_bytes:,} bytes holds the shards of {fitting} lanes, not of {lanes}"
        if world > 1:
            _logger.warning("%s: shards will be fetched more than once; give all ranks lanes=%d to shuffle within the limit", text, fitting)
            return lanes
        _logger.warning("%s: shuffling with %d", text, fitting)
        return fitting

    def _check_feasible(self) -> None:
        if not len(self.split):
            raise InvalidArgument(f"{self.split} is empty: there is nothing to load")
        if not len(self):
            need = self._schedule.global_batch
            raise InvalidArgument(
                f"{self.split} has {len(self.split)} samples, fewer than one global batch of {need}; "
                "use tail='short' or a smaller batch_size"
            )


def _through(split: Split, store: Store) -> Split:
    return split.dataset.through(store)[split.name]


def _rank_and_world(rank: int | None, world: int | None) -> tuple[int, int]:
    if (rank is None) != (world is None):
        raise InvalidArgument("give rank and world together, or neither")
    if rank is not None and world is not None:
        return rank, world
    torch = sys.modules.get("torch")  # a job that uses torch.distributed has imported it
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_rank()), int(torch.distributed.get_world_size())
    return 0, 1


def _warn_if_shared(lanes: int, world: int, *, stacklevel: int) -> None:
    readers = world // math.gcd(world, lanes)
    if readers > 1:
        text = f"lanes={lanes} is no multiple of world={world}: ranks share shards, so each shard is read by {readers} of them"
        warnings.warn(text, stacklevel=stacklevel)


def _positive(what: str, value: int, *, least: int) -> int:
    try:
        value = operator.index(value)
    except TypeError:
        raise InvalidArgument(f"{what} is {value!r}; it must be an integer") from None
    if value < least:
        raise InvalidArgument(f"{what} is {value}; it must be at least {least}")
    return value


def _output(output: str) -> Any:
    if output == "numpy":
        return lambda array: array
    if output != "torch":
        raise InvalidArgument(f"output is {output!r}; it must be 'numpy' or 'torch'")
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("output='torch' needs PyTorch; install it with: pip install 'dataplane[torch]'") from error
    return torch.from_numpy
