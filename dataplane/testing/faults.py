"""A store that fails on purpose, the way real ones do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from dataplane.errors import InvalidArgument, NotFound, StorageFull, StoreUnavailable
from dataplane.store.protocol import Store, WrapperStore
from dataplane.store.result import BufferResult
from dataplane.testing.listing import Past

if TYPE_CHECKING:
    from obspec import GetOptions, GetResult, ListResult, ObjectMeta, PutResult
    from typing_extensions import Buffer

__all__ = ["KINDS", "Fault", "FaultStore"]

Verb = Literal["get", "get_range", "get_ranges", "put", "head", "list", "list_with_delimiter", "delete"]
Kind = Literal["unavailable", "throttled", "timeout", "lost", "full", "flipped", "short", "stale"]

T = TypeVar("T")

_ALWAYS: Final[tuple[Kind, ...]] = ("unavailable", "throttled", "timeout", "lost")
_READING: Final[tuple[Kind, ...]] = (*_ALWAYS, "flipped", "short")

KINDS: Final[Mapping[Verb, tuple[Kind, ...]]] = {
    "get": _READING,
    "get_range": _READING,
    "get_ranges": _READING,
    "head": _ALWAYS,
    "put": (*_ALWAYS, "full"),
    "delete": _ALWAYS,
    "list": (*_ALWAYS, "stale"),
    "list_with_delimiter": (*_ALWAYS, "stale"),
}
"""What can go wrong with each verb."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with `times` calls of `verb` whose path contains `path`, after `skip` of them went well.

    * "unavailable": `StoreUnavailable`, and nothing was done;
    * "throttled": the same, and `retry_after` of the error says how many seconds the server asks to wait;
    * "timeout": the same, after `timeout_seconds` of the store;
    * "lost": the call was carried out, and its acknowledgement is lost: `StoreUnavailable` all the same;
    * "full": `StorageFull`, and nothing was done;
    * "flipped": the lowest bit of the middle byte of what is read (of the last range, where there are several) is wrong;
    * "short": only the first half of what is read (of the last range) comes, and no error;
    * "stale": a listing as it was `stale_writes` writes ago.

    Raises `InvalidArgument` for a kind that the verb cannot have (see `KINDS`).
    """

    verb: Verb
    kind: Kind
    times: int = 1
    path: str = ""
    skip: int = 0

    def __post_init__(self) -> None:
        if self.verb not in KINDS:
            raise InvalidArgument(f"no verb of a store: {self.verb!r}; allowed are {', '.join(KINDS)}")
        if self.kind not in KINDS[self.verb]:
            raise InvalidArgument(f"{self.verb} cannot be {self.kind!r}; allowed are {', '.join(KINDS[self.verb])}")


class FaultStore(WrapperStore):
    """`inner`, with `faults`; where several fit a call, the first that is not used up strikes. Thread-safe.

    `retry_after_seconds` is what a throttling server asks for, `timeout_seconds` how long a call takes that times out, `stale_writes` how
    many of the last writes through this store a stale listing does not know of: None for all of them.
    """

    def __init__(
        self,
        inner: Store,
        faults: Sequence[Fault],
        *,
        retry_after_seconds: float = 0.01,
        timeout_seconds: float = 0.0,
        stale_writes: int | None = None,
    ) -> None:
        super().__init__(inner)
        self._faults = tuple(faults)
        self._left = [fault.times for fault in faults]
        self._skip = [fault.skip for fault in faults]
        self._retry_after_seconds = retry_after_seconds
        self._timeout_seconds = timeout_seconds
        self._past = Past(stale_writes) if any(fault.kind == "stale" for fault in faults) else None
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """How many faults have not struck yet."""
        return sum(self._left)

    def get(self, path: str, *, options: GetOptions | None = None) -> GetResult:
        result, kind = self._call("get", path, lambda: self.inner.get(path, options=options))
        return BufferResult(_damaged(result.buffer(), kind), result.meta, result.range[0]) if kind else result

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> Buffer:
        data, kind = self._call("get_range", path, lambda: self.inner.get_range(path, start=start, end=end, length=length))
        return _damaged(data, kind)

    def get_ranges(
        self, path: str, *, starts: Sequence[int], ends: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> Sequence[Buffer]:
        pieces, kind = self._call("get_ranges", path, lambda: self.inner.get_ranges(path, starts=starts, ends=ends, lengths=lengths))
        return [*pieces[:-1], _damaged(pieces[-1], kind)] if kind and pieces else pieces

    def put(self, path: str, file: Any, **options: Any) -> PutResult:
        self._note(path)
        return self._call("put", path, lambda: self.inner.put(path, file, **options))[0]

    def head(self, path: str) -> ObjectMeta:
        return self._call("head", path, lambda: self.inner.head(path))[0]

    def list(self, prefix: str | None = None, *, offset: str | None = None) -> Iterator[Sequence[ObjectMeta]]:
        kind = self._before("list", prefix or "")
        if kind == "stale" and self._past:
            yield self._past.list(self.inner, prefix, offset)
        else:
            yield from self.inner.list(prefix, offset=offset)
        self._after(kind, prefix or "")

    def list_with_delimiter(self, prefix: str | None = None) -> ListResult[Sequence[ObjectMeta]]:
        kind = self._before("list_with_delimiter", prefix or "")
        if kind == "stale" and self._past:
            return self._past.list_with_delimiter(self.inner, prefix)
        result = self.inner.list_with_delimiter(prefix)
        self._after(kind, prefix or "")
        return result

    def delete(self, paths: str | Sequence[str]) -> None:
        for path in [paths] if isinstance(paths, str) else paths:  # one by one: a fault in the middle leaves the rest
            self._delete(path)

    def _delete(self, path: str) -> None:
        self._note(path)
        self._call("delete", path, lambda: self.inner.delete(path))

    def _call(self, verb: Verb, path: str, call: Callable[[], T]) -> tuple[T, Kind | None]:
        kind = self._before(verb, path)
        result = call()
        self._after(kind, path)
        return result, kind

    def _before(self, verb: Verb, path: str) -> Kind | None:
        """The fault that strikes, where the call is made all the same."""
        kind = self._strike(verb, path)
        where = f"{self.url}/{path}"
        if kind == "unavailable":
            raise StoreUnavailable(f"{where}: 503 Service Unavailable, injected")
        if kind == "throttled":
            raise StoreUnavailable(f"{where}: 503 Slow Down, injected", retry_after=self._retry_after_seconds)
        if kind == "timeout":
            time.sleep(self._timeout_seconds)
            raise StoreUnavailable(f"{where}: timed out after {self._timeout_seconds} s, injected")
        if kind == "full":
            raise StorageFull(f"{where}: no space left, injected")
        return kind

    def _after(self, kind: Kind | None, path: str) -> None:
        if kind == "lost":
            raise StoreUnavailable(f"{self.url}/{path}: the connection closed before the response came, injected")

    def _strike(self, verb: Verb, path: str) -> Kind | None:
        with self._lock:
            for i, fault in enumerate(self._faults):
                if self._left[i] and fault.verb == verb and fault.path in path:
                    if self._skip[i]:
                        self._skip[i] -= 1
                        continue
                    self._left[i] -= 1
                    return fault.kind
        return None

    def _note(self, path: str) -> None:
        if self._past:
            self._past.note(path, _meta(self.inner, path))


def _meta(store: Store, path: str) -> ObjectMeta | None:
    try:
        return store.head(path)
    except (NotFound, InvalidArgument):  # of a path that no store takes, the call itself says so
        return None


def _damaged(data: Buffer, kind: Kind | None) -> Buffer:
    view = memoryview(data).cast("B")
    if kind == "short":
        return view[: len(view) // 2]
    if kind != "flipped" or not view:
        return data
    wrong = bytearray(view)
    wrong[len(wrong) // 2] ^= 1
    return bytes(wrong)
