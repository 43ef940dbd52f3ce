"""Many reads at once, with their results in order: for walks over a store that is far away."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from dataplane.store import Store, WrapperStore

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Ahead", "StoppableStore", "Stopped"]

T = TypeVar("T")


class Stopped(Exception):
    """Nobody waits for what this thread was reading."""


class Ahead:
    """So many threads that make calls before their results are asked for. Used by one thread, in a `with` block.

    Where the block ends with an error, or an interrupt, what was not begun is let go, and `stopped` is set for what is under way.
    """

    def __init__(self, threads: int) -> None:
        self.stopped = threading.Event()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="dataplane-ahead")

    def __call__(self, calls: Iterable[Callable[[], T]], most: int) -> Iterator[T]:
        """What the calls give, in their order, with up to `most` of them made ahead. They begin in their order, so one may wait for what an
        earlier one does; `calls` itself is advanced in the caller's thread. What a call raises is raised at its turn."""
        under_way: deque[Future[T]] = deque()
        for call in calls:
            under_way.append(self._pool.submit(call))
            if len(under_way) > most:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self.stopped.set()
        self._pool.shutdown(cancel_futures=True)


class StoppableStore(WrapperStore):
    """`inner`, whose reads of ranges raise `Stopped` once `stopped` is set: so a large object is not read to its end for nobody."""

    def __init__(self, inner: Store, stopped: threading.Event) -> None:
        super().__init__(inner)
        self._stopped = stopped

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> Buffer:
        self._check()
        return self.inner.get_range(path, start=start, end=end, length=length)

    def get_ranges(
        self, path: str, *, starts: Sequence[int], ends: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> Sequence[Buffer]:
        self._check()
        return self.inner.get_ranges(path, starts=starts, ends=ends, lengths=lengths)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise Stopped
