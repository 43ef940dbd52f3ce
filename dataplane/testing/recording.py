"""A store that remembers what was asked of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataplane.store.protocol import Store, WrapperStore

if TYPE_CHECKING:
    from obspec import GetOptions, GetResult, ListResult, ObjectMeta, PutResult
    from typing_extensions import Buffer

__all__ = ["Call", "RecordingStore"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a store: the verb, and the path (or prefix) it was about."""

    verb: str
    path: str


class RecordingStore(WrapperStore):
    """`inner`, keeping `calls` in the order they were made, and `bytes_read`: what reads of ranges gave. Thread-safe."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.calls: list[Call] = []
        self.bytes_read = 0
        self._lock = threading.Lock()

    def paths(self, verb: str) -> list[str]:
        """The paths that one verb was called with."""
        with self._lock:
            return [call.path for call in self.calls if call.verb == verb]

    def clear(self) -> None:
        """Forget the calls so far."""
        with self._lock:
            self.calls.clear()
            self.bytes_read = 0

    def get(self, path: str, *, options: GetOptions | None = None) -> GetResult:
        self._note("get", path)
        return self.inner.get(path, options=options)

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> Buffer:
        self._note("get_range", path)
        return self._count([self.inner.get_range(path, start=start, end=end, length=length)])[0]

    def get_ranges(
        self, path: str, *, starts: Sequence[int], ends: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> Sequence[Buffer]:
        self._note("get_ranges", path)
        return self._count(self.inner.get_ranges(path, starts=starts, ends=ends, lengths=lengths))

    def put(self, path: str, file: Any, **options: Any) -> PutResult:
        self._note("put", path)
        return self.inner.put(path, file, **options)

    def head(self, path: str) -> ObjectMeta:
        self._note("head", path)
        return self.inner.head(path)

    def list(self, prefix: str | None = None, *, offset: str | None = None) -> Iterator[Sequence[ObjectMeta]]:
        self._note("list", prefix or "")
        return self.inner.list(prefix, offset=offset)

    def list_with_delimiter(self, prefix: str | None = None) -> ListResult[Sequence[ObjectMeta]]:
        self._note("list_with_delimiter", prefix or "")
        return self.inner.list_with_delimiter(prefix)

    def delete(self, paths: str | Sequence[str]) -> None:
        for path in [paths] if isinstance(paths, str) else paths:
            self._note("delete", path)
        self.inner.delete(paths)

    def _count(self, pieces: Sequence[Buffer]) -> Sequence[Buffer]:
        with self._lock:
            self.bytes_read += sum(memoryview(piece).nbytes for piece in pieces)
        return pieces

    def _note(self, verb: str, path: str) -> None:
        with self._lock:
            self.calls.append(Call(verb, path))
