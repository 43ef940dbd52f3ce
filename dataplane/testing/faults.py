"""A store that fails on purpose, the way real ones do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from dataplane.errors import StorageFull, StoreUnavailable
from dataplane.store.protocol import Store, WrapperStore
from dataplane.store.result import BufferResult

if TYPE_CHECKING:
    from obspec import GetOptions, GetResult, ObjectMeta, PutResult
    from typing_extensions import Buffer

__all__ = ["Fault", "FaultStore"]

Verb = Literal["get", "get_range", "get_ranges", "put", "head"]
Kind = Literal["unavailable", "lost", "full", "flipped"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with the next `times` calls of `verb` whose path contains `path`.

    * "unavailable": `StoreUnavailable`, and nothing was done;
    * "lost": the call was carried out, and its acknowledgement is lost: `StoreUnavailable` all the same;
    * "full": `StorageFull`, and nothing was done;
    * "flipped": the lowest bit of the middle byte of what is read (of the last range, where there are several) is wrong.
    """

    verb: Verb
    kind: Kind
    times: int = 1
    path: str = ""


class FaultStore(WrapperStore):
    """`inner`, with `faults`; where several fit a call, the first that is not used up strikes. Thread-safe."""

    def __init__(self, inner: Store, faults: Sequence[Fault]) -> None:
        super().__init__(inner)
        self._faults = tuple(faults)
        self._left = [fault.times for fault in faults]
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """How many faults have not struck yet."""
        return sum(self._left)

    def get(self, path: str, *, options: GetOptions | None = None) -> GetResult:
        result, flip = self._call("get", path, lambda: self.inner.get(path, options=options))
        return BufferResult(_flipped(result.buffer()), result.meta, result.range[0]) if flip else result

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> Buffer:
        data, flip = self._call("get_range", path, lambda: self.inner.get_range(path, start=start, end=end, length=length))
        return _flipped(data) if flip else data

    def get_ranges(
        self, path: str, *, starts: Sequence[int], ends: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> Sequence[Buffer]:
        pieces, flip = self._call("get_ranges", path, lambda: self.inner.get_ranges(path, starts=starts, ends=ends, lengths=lengths))
        return [*pieces[:-1], _flipped(pieces[-1])] if flip else pieces

    def put(self, path: str, file: Any, **options: Any) -> PutResult:
        return self._call("put", path, lambda: self.inner.put(path, file, **options))[0]

    def head(self, path: str) -> ObjectMeta:
        return self._call("head", path, lambda: self.inner.head(path))[0]

    def _call(self, verb: Verb, path: str, call: Callable[[], T]) -> tuple[T, bool]:
        kind = self._strike(verb, path)
        where = f"{self.url}/{path}"
        if kind == "unavailable":
            raise StoreUnavailable(f"{where}: 503 Service Unavailable, injected")
        if kind == "full":
            raise StorageFull(f"{where}: no space left, injected")
        result = call()
        if kind == "lost":
            raise StoreUnavailable(f"{where}: the connection closed before the response came, injected")
        return result, kind == "flipped"

    def _strike(self, verb: Verb, path: str) -> Kind | None:
        with self._lock:
            for i, fault in enumerate(self._faults):
                if self._left[i] and fault.verb == verb and fault.path in path:
                    self._left[i] -= 1
                    return fault.kind
        return None


def _flipped(data: Buffer) -> bytes:
    wrong = bytearray(data)
    wrong[len(wrong) // 2] ^= 1
    return bytes(wrong)
