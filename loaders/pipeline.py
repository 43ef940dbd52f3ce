"""Threads that fill batches: jobs of several samples are done by any thread, batches are delivered in order.

No polling: threads and the consumer wait on queues. A pipeline ends when it is closed, when its consumer forgets it, when a job fails
(the error reaches the consumer in the failed batch's turn), and at interpreter exit. The garbage collector may be who finds it
forgotten, on any thread and in the middle of anything, so ending one takes no lock and does not wait for ever.
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
from typing import Final, Generic, TypeVar

from dataplane.errors import InvalidArgument

__all__ = ["Pipeline", "Work"]

T = TypeVar("T")

_PATIENCE_SECONDS: Final = 10.0  # of whoever ends a pipeline, for jobs that run: he may hold what one of them waits for


@dataclass(slots=True, eq=False)
class Work(Generic[T]):
    """One batch under way: its jobs, each to be called once by some thread, and what is delivered when all are done."""

    jobs: Sequence[Callable[[], None]]
    result: T
    settled: bool = field(init=False)  # as far as the consumer knows
    error: BaseException | None = field(init=False, default=None)
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


class _Shared(Generic[T]):
    """What the threads and the consumer share. The threads hold this and never the pipeline, so that a forgotten one can end."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.jobs: SimpleQueue[tuple[Work[T], Callable[[], None]] | None] = SimpleQueue()  # None is the end, in both
        self.settled: SimpleQueue[Work[T] | None] = SimpleQueue()
        self.closed = False


class Pipeline(Generic[T]):
    """Iterates over the results of `works` in order, with at most `depth` of them under way, on `threads` threads.

    `works` is advanced on the consumer's thread. With `threads=0` jobs run there too, for debuggers. Not thread-safe: one consumer,
    though anybody may close it. In a forked child, which has none of the threads, it raises `InvalidArgument`.
    """

    def __init__(self, works: Iterator[Work[T]], *, threads: int, depth: int) -> None:
        self._works = works
        self._depth = depth
        self._ahead: deque[Work[T]] = deque()
        self._pid = os.getpid()
        self._shared: _Shared[T] = _Shared()
        self._finalizer = weakref.finalize(self, _stop, self._shared)  # at exit too, before daemon threads freeze
        for n in range(threads):
            thread = threading.Thread(target=_serve, args=(self._shared,), name=f"dataplane-loader-{n}", daemon=True)
            thread.start()
            self._shared.threads.append(thread)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            self._submit()
            if not self._ahead:
                raise StopIteration
            work = self._ahead.popleft()
            self._finish(work)
            return work.result
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the threads; jobs that are running are waited for, up to ten seconds. Idempotent."""
        self._finalizer()
        self._works = iter(())
        self._ahead.clear()

    def _submit(self) -> None:
        """Top up the work under way."""
        while len(self._ahead) < self._depth:
            work = next(self._works, None)
            if work is None:
                return
            self._ahead.append(work)
            if self._shared.threads:
                for job in work.jobs:
                    self._shared.jobs.put((work, job))

    def _finish(self, work: Work[T]) -> None:
        """Wait for a batch, and raise what went wrong in it."""
        if not self._shared.threads:
            for job in work.jobs:
                job()
            return
        if self._pid != os.getpid():
            raise InvalidArgument("this iterator was begun before a fork, and its threads stayed behind; start processes with 'spawn'")
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


def _serve(shared: _Shared[T]) -> None:
    while (item := shared.jobs.get()) is not None and not shared.closed:
        work, job = item
        error: BaseException | None = None
        try:
            job()
        except BaseException as raised:
            error = raised
        if work.count(error):
            shared.settled.put(work)
        del item, work, job, error  # hold no batch while waiting
    shared.jobs.put(None)  # for the next thread


def _stop(shared: _Shared[T]) -> None:
    shared.closed = True
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
