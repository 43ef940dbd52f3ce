"""A store that is far away: every request takes its time, and the line is only so wide."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dataplane.errors import InvalidArgument
from dataplane.ranges import coalesce, resolve
from dataplane.store.protocol import Store, WrapperStore

if TYPE_CHECKING:
    from obspec import GetOptions, GetResult, ListResult, ObjectMeta, PutResult
    from typing_extensions import Buffer

__all__ = ["LatencyStore"]

_MAX_GAP_BYTES: Final = 1 << 20
_MAX_REQUEST_BYTES: Final = 16 << 20


class LatencyStore(WrapperStore):
    """`inner`, with `request_seconds` before the answer to each request, and `bytes_per_second` for all of them together. Thread-safe.

    Nothing is random: n requests one after the other take n × `request_seconds`, n at once take one; bytes queue for the line in the order
    they are asked for. `get_ranges` makes one request for each neighbourhood (gaps up to 1 MiB, 16 MiB at most), all at once, as a store in
    a bucket does. `requests` and `bytes` count what was asked for.
    """

    def __init__(self, inner: Store, *, request_seconds: float = 0.0, bytes_per_second: float | None = None) -> None:
        if request_seconds < 0 or (bytes_per_second is not None and bytes_per_second <= 0):
            raise InvalidArgument(f"request_seconds is {request_seconds} and bytes_per_second {bytes_per_second}; both are above 0")
        super().__init__(inner)
        self.request_seconds = request_seconds
        self.bytes_per_second = bytes_per_second
        self.requests = 0
        self.bytes = 0
        self._free_at = 0.0
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forget the counts so far."""
        with self._lock:
            self.requests = self.bytes = 0

    def get(self, path: str, *, options: GetOptions | None = None) -> GetResult:
        result = self.inner.get(path, options=options)
        start, end = result.range
        self._wait(size=end - start)
        return result

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> Buffer:
        data = self.inner.get_range(path, start=start, end=end, length=length)
        self._wait(size=len(memoryview(data)))
        return data

    def get_ranges(
        self, path: str, *, starts: Sequence[int], ends: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> Sequence[Buffer]:
        spans = [span for span in resolve(starts, ends, lengths) if len(span)]
        requests = coalesce(spans, max_gap_bytes=_MAX_GAP_BYTES, max_request_bytes=_MAX_REQUEST_BYTES)
        pieces = self.inner.get_ranges(path, starts=starts, ends=ends, lengths=lengths)
        self._wait(requests=len(requests), size=sum(len(request.span) for request in requests))
        return pieces

    def put(self, path: str, file: Any, **options: Any) -> PutResult:
        self._wait(size=_size(file))
        return self.inner.put(path, file, **options)

    def head(self, path: str) -> ObjectMeta:
        self._wait()
        return self.inner.head(path)

    def list(self, prefix: str | None = None, *, offset: str | None = None) -> Iterator[Sequence[ObjectMeta]]:
        for chunk in self.inner.list(prefix, offset=offset):
            self._wait()
            yield chunk

    def list_with_delimiter(self, prefix: str | None = None) -> ListResult[Sequence[ObjectMeta]]:
        self._wait()
        return self.inner.list_with_delimiter(prefix)

    def delete(self, paths: str | Sequence[str]) -> None:
        self._wait()
        self.inner.delete(paths)

    def _wait(self, *, requests: int = 1, size: int = 0) -> None:
        """Sleep as long as these requests take, all at once, with `size` bytes in all."""
        if not requests:
            return
        now = time.monotonic()
        with self._lock:
            self.requests += requests
            self.bytes += size
            answered = now + self.request_seconds
            if self.bytes_per_second:
                answered = self._free_at = max(answered, self._free_at) + size / self.bytes_per_second
        time.sleep(max(0.0, answered - time.monotonic()))


def _size(file: Any) -> int:
    """How many bytes a put sends; 0 for a stream, whose bytes nobody knows before."""
    if isinstance(file, Path):
        return file.stat().st_size
    try:
        return memoryview(file).nbytes
    except TypeError:
        return 0
