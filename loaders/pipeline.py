"""Threads that fill batches: jobs of several samples are done by any thread, batches are delivered in order.

No polling: threads and the consumer wait on queues. A pipeline ends when it is closed, when its consumer forgets it, when a job fails
(the error reaches the consumer in the failed batch's turn), and at interpreter exit. The garbage collector may be who finds it
forgotten, on any thread and in the middle of anything, so ending one takes no lock and does not wait for long. A job hears of the end
between two steps (`loaders.leaving`); one that is in the middle of a call to a store hears of it behind that, and touches nothing more.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Final, Generic, NamedTuple, TypeVar

from dataplane.errors import InvalidArgument
from dataplane.stages import Clock, Stage, clocked
from loaders.leaving import Leaving, listen

__all__ = ["Handed", "Pipeline", "Work"]

T = TypeVar("T")

_PATIENCE_SECONDS: Final = 0.5  # of whoever ends a pipeline, for jobs that run: after Ctrl-C everything is over within a second


@dataclass(slots=True, eq=False)
class Work(Generic[T]):
    """One batch under way: its jobs, each to be called once by some thread, and what is delivered when all are done."""

    jobs: Sequence[Callable[[], None]]
    result: T
    settled: bool = field(init=False)  # as far as the consumer knows
    error: BaseException | None = field(init=False, default=None)
    clock: Clock | None = field(init=False, default=None)  # of the thread that finished it
    _left: int = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._left = len(self.jobs)
        self.settled = not self.jobs

    def count(self, error: BaseException | None) -> bool:
        """Take note of a job that is done, or failed. Whether that settles the batch: true once, for the last job or the first failure."""
        with self._lock:
            self._left -= 1
            settles = self.error is None and (error is not None or not self._left)
            self.error = self.error or error
            return settles


class Handed(NamedTuple):
    """How a result came. Times are those of `perf_counter`: it was asked for, more work was handed out, it was there. `spent`: seconds by
    stage, between the latter two, of the thread that finished it; () where nobody had to wait."""

    asked: float
    planned: float
    got: float
    spent: Sequence[float]


class _Leave:
    """Takes the place of a job: whichever thread gets it ends."""


class _Shared(Generic[T]):
    """What the threads and the consumer share. The threads hold this and never the pipeline, so that a forgotten one can end."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.jobs: SimpleQueue[tuple[Work[T], Callable[[], None]] | _Leave | None] = SimpleQueue()  # None is the end, in both
        self.settled: SimpleQueue[Work[T] | None] = SimpleQueue()
        self.leaving = Leaving()


class Pipeline(Generic[T]):
    """Iterates over the results of `works` in order, with at most `depth` of them under way, on `threads` threads.

    `works` is advanced on the consumer's thread. With `threads=0` jobs run there too, for debuggers. Not thread-safe: one consumer,
    though anybody may close it. In a forked child, which has none of the threads, it raises `InvalidArgument`.

    `clock` makes the clock of a thread from its name; it is ended when the thread does, or never starts.
    """

    handed: Handed
    """How the newest result came."""

    def __init__(self, works: Iterator[Work[T]], *, threads: int, depth: int, clock: Callable[[str], Clock] = Clock) -> None:
        self._works = works
        self._depth = depth
        self._clock = clock
        self._own = None if threads else clock("dataplane-loader-caller")
        self._clocks: list[Clock] = []
        self._started = 0  # threads so far
        self._threads = 0  # those that are to stay
        self._ahead: deque[Work[T]] = deque()
        self._pid = os.getpid()
        self._shared: _Shared[T] = _Shared()
        self._finalizer = weakref.finalize(self, _stop, self._shared)  # at exit too, before daemon threads freeze
        while self._threads < threads:
            self._start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            asked = perf_counter()
            self._submit()
            planned = perf_counter()
            try:
                work = self._ahead.popleft()
            except IndexError:  # there is no more, or somebody closed it
                raise StopIteration from None
            spent = self._finish(work)
            self.handed = Handed(asked, planned, perf_counter(), spent)
            return work.result
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the threads; steps that are running are waited for, up to half a second. Idempotent."""
        self._finalizer()
        if self._own is not None:
            self._own.end()
        self._works = iter(())
        self._ahead.clear()

    def ready(self) -> bool:
        """Whether the next result is there, so that asking for it would not wait. With `threads=0` it never is."""
        try:
            return self._own is None and self._is_settled(self._ahead[0])
        except IndexError:  # nothing is under way, or somebody closed it
            return False

    def resize(self, *, threads: int, depth: int) -> None:
        """Go on with other numbers: a thread that is too many ends behind the jobs that are queued. Nothing changes in what comes, nor in
        whose threads do it: from or to none at all is an `InvalidArgument`. Where no more threads can be started, it stays with fewer."""
        if (threads > 0) != (self._threads > 0):
            raise InvalidArgument(f"a pipeline of {self._threads} threads cannot go on with {threads}; begin another")
        self._depth = depth
        self._shared.threads[:] = [thread for thread in self._shared.threads if thread.is_alive()]
        self._clocks = [clock for clock in self._clocks if not clock.ended]
        while self._threads > threads:
            self._threads -= 1
            self._shared.jobs.put(_Leave())
        with suppress(RuntimeError):  # the machine has no more
            while self._threads < threads and not self._shared.leaving.told:
                self._start()

    @property
    def threads(self) -> int:
        """That work for it, or will when those that are to end have."""
        return self._threads

    def _start(self) -> None:
        """One thread more."""
        name = f"dataplane-loader-{self._started}"
        clock = self._clock(name)
        thread = threading.Thread(target=_serve, args=(self._shared, clock), name=name, daemon=True)
        try:
            thread.start()
        except BaseException:
            clock.end()
            raise
        self._clocks.append(clock)
        self._shared.threads.append(thread)
        self._started += 1
        self._threads += 1

    def _submit(self) -> None:
        """Top up the work under way."""
        while len(self._ahead) < self._depth:
            work = next(self._works, None)
            if work is None:
                return
            self._ahead.append(work)
            if self._own is None:
                for job in work.jobs:
                    self._shared.jobs.put((work, job))

    def _work(self, work: Work[T], clock: Clock) -> Sequence[float]:
        """Do the jobs here. Seconds that took, by stage."""
        before, totals = clocked(clock), clock.totals()
        try:
            clock.enter(Stage.PLAN)
            for job in work.jobs:
                job()
        finally:
            clock.enter(Stage.IDLE)
            clocked(before)
        return _since(clock, totals)

    def _is_settled(self, work: Work[T]) -> bool:
        """Whether a batch is settled by now, as far as threads have told."""
        with suppress(Empty):
            while not work.settled:
                settled = self._shared.settled.get_nowait()
                if settled is None:  # closed: it stays there for who waits
                    self._shared.settled.put(None)
                    return False
                settled.settled = True
        return work.settled

    def _finish(self, work: Work[T]) -> Sequence[float]:
        """Wait for a batch, and raise what went wrong in it. What the thread that finished it spent meanwhile, in seconds by stage."""
        if self._own is not None:
            return self._work(work, self._own)
        if self._pid != os.getpid():
            raise InvalidArgument("this iterator was begun before a fork, and its threads stayed behind; start processes with 'spawn'")
        before = [] if self._is_settled(work) else [(clock, clock.totals()) for clock in self._clocks]
        while not work.settled:
            settled = self._shared.settled.get()
            if settled is None:  # closed by somebody else
                raise StopIteration
            settled.settled = True
        if work.error is not None:
            try:
                raise work.error
            finally:
                work.error = None  # through its traceback it would hold itself, and the batch
        return next((_since(clock, totals) for clock, totals in before if clock is work.clock), ())


def _since(clock: Clock, totals: Sequence[float]) -> Sequence[float]:
    """Seconds by stage since the clock had these."""
    return [max(0.0, now - then) for now, then in zip(clock.totals(), totals, strict=True)]


def _serve(shared: _Shared[T], clock: Clock) -> None:
    clocked(clock)
    listen(shared.leaving)
    while (item := shared.jobs.get()) is not None and not shared.leaving.told:
        if isinstance(item, _Leave):
            break
        work, job = item
        error: BaseException | None = None
        clock.enter(Stage.PLAN)
        try:
            job()
        except BaseException as raised:
            error = raised
        clock.enter(Stage.IDLE)
        if work.count(error):
            work.clock = clock
            shared.settled.put(work)
        del item, work, job, error  # hold no batch while waiting
    clock.end()
    if not isinstance(item, _Leave):
        shared.jobs.put(None)  # for the next thread
    del shared  # it keeps errors, whose frames keep this one, and what they had in hand


def _stop(shared: _Shared[T]) -> None:
    shared.leaving.tell()
    with suppress(Empty):
        while True:
            shared.jobs.get_nowait()
    shared.jobs.put(None)
    shared.settled.put(None)
    if threading.current_thread() in shared.threads:  # one of them collected the pipeline: they end by themselves
        return
    until = time.monotonic() + _PATIENCE_SECONDS
    for thread in shared.threads:
        thread.join(max(0.0, until - time.monotonic()))
