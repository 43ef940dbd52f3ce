"""Reading the files of a task one by one, ahead of who needs them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Final

from blake3 import blake3

from dataplane.errors import BadSample
from dataplane.ingest.plan import Todo
from dataplane.ingest.source import Entry, Source
from dataplane.prep.sample import FileKind, check_start, start_bytes

__all__ = ["Loaded", "Outcome", "read_ahead", "read_one"]

_REUSED_BYTES: Final = 31 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """A file that was read: its bytes, its etag, and their BLAKE3."""

    data: bytes
    etag: str
    digest: bytes


Outcome = Loaded | BadSample


def read_one(source: Source, kind: FileKind, entry: Entry) -> Outcome:
    """A file, or why not. One that is large is read only if its start is that of its kind."""
    try:
        first = start_bytes(kind, entry.size)
        if first is not None:
            check_start(kind, source.read(entry, first)[0])
        data, etag = source.read(entry)
    except BadSample as error:
        return error
    return Loaded(data, etag, blake3(data).digest())


def read_ahead(source: Source, kind: FileKind, todo: Sequence[Todo]) -> Generator[tuple[Todo, Outcome], None, None]:
    """Files in order, read by a few threads, a few files at a time where they are near."""
    _reuse_memory()

    def read_bunch(bunch: Sequence[Todo]) -> list[tuple[Todo, Outcome]]:
        return [(item, read_one(source, kind, item.wanted.entry)) for item in bunch]

    with ThreadPoolExecutor(source.readers, thread_name_prefix="dataplane-read") as pool:
        waiting: deque[Future[list[tuple[Todo, Outcome]]]] = deque()
        try:
            for start in range(0, len(todo), source.bunch):
                waiting.append(pool.submit(read_bunch, todo[start : start + source.bunch]))
                if len(waiting) > 2 * source.readers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@cache
def _reuse_memory() -> None:
    """Once a process: glibc gives back to the system what is larger than the largest block that was given back so far. Files would get
    new pages each time."""
    bytes(_REUSED_BYTES)
