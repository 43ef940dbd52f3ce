"""A store whose process dies at a chosen call."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypeVar

from dataplane.store.protocol import Store, WrapperStore
from dataplane.testing.recording import Call

if TYPE_CHECKING:
    from obspec import GetOptions, GetResult, ListResult, ObjectMeta, PutResult
    from typing_extensions import Buffer

__all__ = ["WRITES", "CrashStore", "Crashed", "raise_crashed", "sigkill"]

When = Literal["before", "after"]

T = TypeVar("T")

WRITES: Final = ("put", "delete")
"""The verbs that change what a store holds."""


class Crashed(BaseException):
    """The process is dead. No `Exception`, so that nothing but a test handles it."""


def raise_crashed(call: Call) -> NoReturn:
    """Die by unwinding: quick, and in this process."""
    raise Crashed(f"killed at {call.verb} {call.path}")


def sigkill(_: Call) -> NoReturn:
    """Die for real, as by `kill -9`."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a process outlived SIGKILL")


class CrashStore(WrapperStore):
    """`inner`, until call number `at` (from 1): there the process dies, `when` it is before or after the call was carried out.

    From then on every call dies, so no `finally` or `__exit__` tidies up what a killed process would leave. A delete of several objects
    counts as one call for each: a process may die in the middle of it. `calls` is how many were made, `last` the newest. Thread-safe.
    """

    def __init__(self, inner: Store, at: int, when: When = "before", *, die: Callable[[Call], NoReturn] = raise_crashed) -> None:
        super().__init__(inner)
        self.calls = 0
        self.last: Call | None = None
        self.crashed = False
        self._at = at
        self._when = when
        self._die = die
        self._lock = threading.Lock()

    def get(self, path: str, *, options: GetOptions | None = None) -> GetResult:
        return self._call("get", path, lambda: self.inner.get(path, options=options))

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> Buffer:
        return self._call("get_range", path, lambda: self.inner.get_range(path, start=start, end=end, length=length))

    def get_ranges(
        self, path: str, *, starts: Sequence[int], ends: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> Sequence[Buffer]:
        return self._call("get_ranges", path, lambda: self.inner.get_ranges(path, starts=starts, ends=ends, lengths=lengths))

    def put(self, path: str, file: Any, **options: Any) -> PutResult:
        return self._call("put", path, lambda: self.inner.put(path, file, **options))

    def head(self, path: str) -> ObjectMeta:
        return self._call("head", path, lambda: self.inner.head(path))

    def list(self, prefix: str | None = None, *, offset: str | None = None) -> Iterator[Sequence[ObjectMeta]]:
        yield from self._call("list", prefix or "", lambda: list(self.inner.list(prefix, offset=offset)))

    def list_with_delimiter(self, prefix: str | None = None) -> ListResult[Sequence[ObjectMeta]]:
        return self._call("list_with_delimiter", prefix or "", lambda: self.inner.list_with_delimiter(prefix))

    def delete(self, paths: str | Sequence[str]) -> None:
        for path in [paths] if isinstance(paths, str) else paths:
            self._delete(path)

    def _delete(self, path: str) -> None:
        self._call("delete", path, lambda: self.inner.delete(path))

    def _call(self, verb: str, path: str, call: Callable[[], T]) -> T:
        now = Call(verb, path)
        with self._lock:
            if self.crashed:
                self._die(now)
            self.calls += 1
            self.last = now
            dying = self.crashed = self.calls == self._at
        if dying and self._when == "before":
            self._die(now)
        result = call()
        if dying:
            self._die(now)
        return result
