"""The obspec `GetResult` of stores that read through Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obspec import Attributes, ObjectMeta
    from typing_extensions import Buffer

__all__ = ["BufferResult"]


class BufferResult:
    """Bytes already in memory, in the shape of an obspec `GetResult`."""

    def __init__(self, data: Buffer, meta: ObjectMeta, start: int = 0) -> None:
        self._data = memoryview(data)
        self._meta = meta
        self._start = start

    @property
    def attributes(self) -> Attributes:
        return {}

    @property
    def meta(self) -> ObjectMeta:
        return self._meta

    @property
    def range(self) -> tuple[int, int]:
        return self._start, self._start + len(self._data)

    def buffer(self) -> Buffer:
        return self._data

    def __iter__(self) -> Iterator[Buffer]:
        yield self._data
