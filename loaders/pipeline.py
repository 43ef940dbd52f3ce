"""Threads that fill batches: jobs of several samples are done by any thread, batches are delivered in order.

No polling: workers and the consumer wait on conditions. A pipeline ends when it is closed, when its consumer forgets it, when a job
fails (the error reaches the consumer in the failed batch's turn), and at interpreter exit.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Pipeline", "Work"]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Work(Generic[T]):
    """One batch under way: its jobs, each to be called once by some thread, and what is delivered when all are done."""

    jobs: Sequence[Callable[[], None]]
    result: T
    left: int = field(init=False)
    error: BaseException | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.left = len(self.jobs)


class _Shared(Generic[T]):
    """What the threads and the consumer share. The threads hold this and never the pipeline, so that a forgotten one can end."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ready = threading.Condition(self.lock)  # a job, or the end
        self.done = threading.Condition(self.lock)  # a batch, or an error
        self.jobs: deque[tuple[Work[T], Callable[[], None]]] = deque()
        self.closed = False


class Pipeline(Generic[T]):
    """Iterates over the results of `works` in order, with at most `depth` of them under way, on `threads` threads.

    `works` is advanced on the consumer's thread. With `threads=0` jobs run there too, for debuggers. Not thread-safe: one consumer.
    """

    def __init__(self, works: Iterator[Work[T]], *, threads: int, depth: int) -> None:
        self._works = works
        self._depth = depth
        self._ahead: deque[Work[T]] = deque()
        self._shared: _Shared[T] = _Shared()
        self._threads = [
            threading.Thread(target=_serve, args=(self._shared,), name=f"dataplane-loader-{n}", daemon=True) for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()
        self._finalizer = weakref.finalize(self, _stop, self._shared, self._threads)  # at exit too, before daemon threads freeze

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
        """Stop the threads; a job that is running finishes first. Idempotent."""
        self._finalizer()
        self._ahead.clear()

    def _submit(self) -> None:
        """Top up the work under way."""
        while len(self._ahead) < self._depth:
            work = next(self._works, None)
            if work is None:
                return
            self._ahead.append(work)
            if self._threads:
                with self._shared.lock:
                    self._shared.jobs.extend((work, job) for job in work.jobs)
                    self._shared.ready.notify(len(work.jobs))

    def _finish(self, work: Work[T]) -> None:
        """Wait for a batch, and raise what went wrong in it."""
        if not self._threads:
            for job in work.jobs:
                job()
            return
        with self._shared.lock:
            self._shared.done.wait_for(lambda: not work.left or work.error is not None)
        if work.error is not None:
            raise work.error


def _serve(shared: _Shared[T]) -> None:
    while True:
        with shared.lock:
            shared.ready.wait_for(lambda: shared.jobs or shared.closed)
            if shared.closed:
                return
            work, job = shared.jobs.popleft()
        error: BaseException | None = None
        try:
            job()
        except BaseException as raised:
            error = raised
        with shared.lock:
            work.left -= 1
            work.error = work.error or error
            if not work.left or error is not None:
                shared.done.notify()
        del work, job  # hold no batch while waiting


def _stop(shared: _Shared[T], threads: Sequence[threading.Thread]) -> None:
    with shared.lock:
        shared.closed = True
        shared.jobs.clear()
        shared.ready.notify_all()
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()
