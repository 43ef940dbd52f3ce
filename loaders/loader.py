"""`Loader`: batches of a dataset in the order of its epoch, or of a mixture, resumable at any sample by any number of ranks."""

from __future__ import annotations

import operator
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal

from dataplane.dataset import Split
from dataplane.errors import InvalidArgument, MissingExtra
from loaders.batch import Batch
from loaders.buffers import Allocate
from loaders.course import Course, Standing
from loaders.feed import Closes, FeedDescription
from loaders.filling import BatchFiller, Filling
from loaders.lanes import choose_lanes, warn_if_shared
from loaders.mixed import Mixed
from loaders.mixture import Mixture
from loaders.pipeline import Pipeline, Work
from loaders.policy import MAX_BAD, BadPolicy, OnError
from loaders.report import Report
from loaders.samples import Samples
from loaders.schedule import Schedule, Step, Tail
from loaders.single import Single
from loaders.stats import Stats
from loaders.tier import Tier
from loaders.transforms import FieldTransform, ImageTransform
from loaders.waiting.monitor import Monitor
from loaders.waiting.tuner import Tuner
from loaders.waiting.tuning import Limits
from tiering import Hot

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Loader"]

_JOBS_A_THREAD: Final = 4  # of one batch: small enough to balance, large enough for Python's share to be small


class Loader:
    """Iterates over one epoch of `data` a time, starting where the state stands.

    Arguments:
        data: what to load: a split, `lake.dataset("photos@7")["train"]`, or a description of what is made of one, as `Packed`, or a
            `Mixture` of several such.
        batch_size: samples a rank gets in one batch.
        transform: for each field to load, what to do with it. Names are those of the schema; "jpg;png" takes whichever a sample has.
            Sequences of tokens need none.
        seed: of the order and of every random parameter.
        shuffle: False delivers samples in the order they are stored in, for evaluation.
        tail: what happens to samples left over at the end of an epoch: "drop", a "short" batch, or one that is "pad"ded.
        hot: a hot tier to read through. Where its limit is small and `world` is 1, it lowers the default of `lanes`.
        rank, world: which share of every global batch is ours; by default torch.distributed's, where it runs, else 0 of 1.
        threads: that read and decode; by default one a usable core at first, and then as many as turn out well. 0 works on the caller's
            thread, for debuggers.
        prefetch: batches prepared while the consumer has one; by default 2 at first, and then as many as turn out well.
        limits: what `threads` and `prefetch` may become where they are not given.
        lanes, window: of the order; see docs/order.md.
        output: "numpy" arrays or "torch" tensors that share their memory.
        on_error: what becomes of a sample that cannot be used: "raise", "skip" it, which leaves zeros where `batch.valid` is False, or
            deliver a "substitute" drawn from the same dataset.
        max_bad: how many samples of an epoch may be skipped or substituted: a number, or as a float the share of all; beyond it,
            `BadSamples` is raised. A rank counts its own, since the epoch began or the loader resumed.

    Which samples come, in which order, and their random parameters depend on (version, seed, epoch, lanes, window) alone: not on
    the world size, the batch size or the threads. Not thread-safe: one consumer. Everything that cannot work is an `InvalidArgument` here,
    at construction; errors while loading name the sample, the shard and the version.
    """

    def __init__(
        self,
        data: Split | FeedDescription | Mixture,
        *,
        batch_size: int,
        transform: Mapping[str, FieldTransform | ImageTransform] | None = None,
        seed: int = 0,
        shuffle: bool = True,
        tail: Tail = "drop",
        hot: Hot | None = None,
        rank: int | None = None,
        world: int | None = None,
        threads: int | None = None,
        prefetch: int | None = None,
        limits: Limits | None = None,
        lanes: int | None = None,
        window: int | None = None,
        output: Literal["numpy", "torch"] = "numpy",
        on_error: OnError = "raise",
        max_bad: int | float = MAX_BAD,
    ) -> None:
        rank, world = _rank_and_world(rank, world)
        self._tier = Tier(hot)
        self._course = _course(data, transform or {}, self._tier)
        self._schedule = Schedule(self._course.samples, batch_size, rank, world, tail)
        threads = None if threads is None else _positive("threads", threads, least=0)
        prefetch = None if prefetch is None else _positive("prefetch", prefetch, least=1)
        policy = BadPolicy(on_error, max_bad)
        self._stats = Stats()
        self._tuner = Tuner(threads, prefetch, limits or Limits())
        keep = self._tuner.setting.prefetch + 2
        self._filler = BatchFiller(self._course.fields, on_error=on_error, keep=keep, stats=self._stats, reading=self._tier.reading)
        self._report = Report(self._course.name, samples=self.samples, allowed=policy.allowed(self.samples))
        self._to_output = _output(output)
        lanes = None if lanes is None else _positive("lanes", lanes, least=1)
        self._asked = {"lanes": lanes, "window": window}
        if lanes is None:
            limit = None if hot is None else hot.limit_bytes
            lanes = choose_lanes(self._course.spreads, world=world, window=window, limit_bytes=limit)
        if shuffle:
            warn_if_shared(lanes, world, stacklevel=2)
        self._state: Standing = self._course.begin(seed=seed, lanes=lanes, window=window, shuffle=shuffle)
        self._check_feasible()
        self._monitor = Monitor(self._course.name, rank, self._stats, self._tuner, self._tier.stats)
        self._began: int | None = None  # in which process
        self._turn = 0  # which iterator is the current one
        self._pipeline: Callable[[], Pipeline[Filling] | None] = lambda: None  # its pipeline

    def __len__(self) -> int:
        """Batches in a whole epoch, the same for every rank."""
        return self._schedule.count()

    def __repr__(self) -> str:
        return f"Loader({self._course.name}, batch_size={self._schedule.batch_size}, epoch={self.epoch}, position={self.position})"

    @property
    def split(self) -> Split:
        """What it loads, through the hot tier if there is one. Raises `InvalidArgument` for a mixture, which is several."""
        if len(self._course.spreads) > 1:
            raise InvalidArgument(f"{self._course.name} is no one split; ask the mixture for its components")
        return self._course.spreads[0].split

    @property
    def samples(self) -> int:
        """Of an epoch, all ranks together."""
        return self._course.samples

    @property
    def components(self) -> tuple[str, ...]:
        """The names of a mixture's components, by the numbers that `batch.components` has; of what is no mixture, one that is empty."""
        return self._course.names(self._state)

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
        if self._began not in (None, os.getpid()):
            raise InvalidArgument("this loader had begun before a fork, and its threads stayed behind; make one here, or use 'spawn'")
        self._end_iteration()
        return self._iterate(self._turn)

    def state_dict(self) -> dict[str, Any]:
        """What was delivered: a few integers and names, equal on every rank, plain JSON."""
        return self._state.to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue behind what `state` says was delivered, here with any world size, batch size and threads.

        Seed, lanes and window are the state's. Raises `StateMismatch` for a state of another version, split or order.
        """
        loaded = self._course.load(state, have=self._state, **self._asked)
        if loaded.lanes > 1:
            warn_if_shared(loaded.lanes, self._schedule.world, stacklevel=2)
        self._go_on_from(loaded)

    def restart(self, *, epoch: int = 0) -> None:
        """Begin `epoch` from its first sample."""
        self._go_on_from(self._course.restarted(self._state, epoch))

    def set_weights(self, weights: Mapping[str, int | float]) -> None:
        """Mix by other weights, by component, from the next `iter()` on. All ranks have to do it at the same position.

        An iterator that has begun goes on as it was, and `state_dict()` has the new weights once they are in force. Raises
        `InvalidArgument`.
        """
        self._course.weigh(weights)

    def stats(self) -> dict[str, Any]:
        """Totals since this loader was made: samples, bytes by tier, seconds by stage, what batches were waited for, with p50 and p99 of
        the newest steps, and what bounds the run; see docs/waiting.md. Any thread may ask."""
        return self._monitor.to_dict()

    def metrics(self) -> str:
        """What `stats` says, in the text form that Prometheus reads."""
        return self._monitor.metrics()

    def watch(self, console: Console | None = None) -> AbstractContextManager[None]:
        """While its block runs, show where the time goes on the terminal, or on a console of rich's."""
        return self._monitor.watch(console)

    def view(self) -> RenderableType:
        """What `watch` shows, as it is now, for a console of rich's."""
        return self._monitor.view()

    def trace(self, file: str | os.PathLike[str]) -> AbstractContextManager[None]:
        """Write what every thread did while its block ran to `file`: JSON that ui.perfetto.dev opens."""
        return self._monitor.trace(file)

    def report(self, *, after: int = 0) -> dict[str, Any]:
        """The bad samples that this rank was to deliver, as plain JSON: `count` since this loader was made, `in_epoch` of them in the
        newest epoch, and the `samples` behind the first `after` of them, at most a thousand: what `loaders.report.Bad` says of each."""
        return self._report.to_json(after=after)

    def check_bad(self, count: int) -> None:
        """Raise `BadSamples` where `count`, of all ranks together in one epoch, is more than `max_bad` allows."""
        self._report.check(count)

    def ready(self) -> bool:
        """Whether the current iterator has its next batch already, so that asking for it would not wait."""
        pipeline = self._pipeline()
        return pipeline is not None and pipeline.ready()

    def allocate_with(self, allocate: Allocate, *, again: bool = True) -> None:
        """From now on, have batches in memory that `allocate(shape, dtype)` gives, such as pinned memory. It is used again once the last
        view of a batch is gone; not so without `again`, for an allocator that keeps what comes back by itself."""
        self._filler.allocate_with(allocate, again=again)

    def copied(self, seconds: float) -> None:
        """For who moves batches on, to a device: so much of the time since the newest one went into that, and was not the consumer's."""
        self._stats.copied(seconds)

    def close(self) -> None:
        """End the current iterator and worker processes, and let go of the hot tier. The loader can be used again only with hot=None."""
        self._end_iteration()
        for feed in self._course.feeds:
            if isinstance(feed, Closes):
                feed.close()
        self._tier.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # ------------------------------------------------------------------ iteration

    def _go_on_from(self, state: Standing) -> None:
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
        self._began = os.getpid() if self._tuner.setting.threads else None
        self._state = self._course.upcoming(self._state)
        if not self._schedule.count(self._state.position):  # a state saved with another batch size can leave less than a batch
            self._state = self._state.next_epoch()
        state = self._state
        self._report.begin(state.epoch)
        self._stats.begin()
        works, setting = self._works(state), self._tuner.setting
        with closing(Pipeline(works, threads=setting.threads, depth=setting.prefetch + 1, clock=self._stats.clock)) as pipeline:
            self._pipeline = weakref.ref(pipeline)
            while turn == self._turn:
                filling = next(pipeline, None)
                if filling is None:
                    return
                self._report.add(filling.bad)
                batch = filling.batch(self._to_output)
                after = self._after(state, filling.step)
                if after.epoch != state.epoch:
                    self._report.end(state.epoch)
                self._count(pipeline, filling)
                self._state = after  # the last thing: an interrupt before it loses nothing
                del filling
                yield batch
                del batch

    def _count(self, pipeline: Pipeline[Filling], filling: Filling) -> None:
        """Take note of a batch, and now and then of what it says about threads and prefetch."""
        lap = self._stats.delivered(pipeline.handed, samples=len(filling.step.positions))
        if lap and self._tuner.step(pipeline, self._stats, sum(array.nbytes for array in filling.arrays.values())):
            self._filler.keep(self._tuner.setting.prefetch + 2)

    def _after(self, state: Standing, step: Step) -> Standing:
        """The state once `step` is delivered."""
        moved = state.moved(step.stop)
        return moved if self._schedule.count(step.stop) else moved.next_epoch()

    def _works(self, state: Standing) -> Iterator[Work[Filling]]:
        walker = self._course.walker(state)
        for step in self._schedule.steps(state.position):
            filling = self._filler.begin(state.epoch, step, walker.at(step.positions), self._course.parts)
            n = len(step.positions)
            size = max(min(part.feed.grain for part in self._course.parts), n // self._jobs())
            jobs = [partial(self._filler.fill, filling, start, min(n, start + size)) for start in range(0, n, size)]
            yield Work(jobs, filling)

    def _jobs(self) -> int:
        """How many a batch is to have: some for each thread that can compute; for those beyond the cores, which wait for a store, one."""
        threads = max(1, self._tuner.setting.threads)
        return max(threads, min(threads, self._tuner.cores) * _JOBS_A_THREAD)

    def _check_feasible(self) -> None:
        if not self.samples:
            raise InvalidArgument(f"{self._course.name} is empty: there is nothing to load")
        if not len(self):
            need = self._schedule.global_batch
            raise InvalidArgument(
                f"{self._course.name} has {self.samples} samples, fewer than one global batch of {need}; "
                "use tail='short' or a smaller batch_size"
            )


def _course(data: Split | FeedDescription | Mixture, transform: Mapping[str, Any], tier: Tier) -> Course[Any]:
    """The way through what a user hands a loader."""
    if isinstance(data, Mixture):
        return Mixed(data, transform, tier)
    description = Samples(data) if isinstance(data, Split) else data
    split = tier.through(description.split)
    feed = description.feed(split, transform)
    unknown = [name for name in transform if name not in feed.fields]
    if unknown:
        raise InvalidArgument(f"{feed.name} has no field {unknown[0]!r} for a transform; it has {', '.join(sorted(feed.fields))}")
    return Single(split, feed)


def _rank_and_world(rank: int | None, world: int | None) -> tuple[int, int]:
    if (rank is None) != (world is None):
        raise InvalidArgument("give rank and world together, or neither")
    if rank is not None and world is not None:
        return rank, world
    torch = sys.modules.get("torch")  # a job that uses torch.distributed has imported it
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return int(torch.distributed.get_rank()), int(torch.distributed.get_world_size())
    return 0, 1


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
