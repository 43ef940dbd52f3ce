"""What a format is: a module with `SUFFIX`, a `Writer`, and `open(objects, ref, index)`, the same verbs in each.

A writer makes one shard in a local scratch file; a reader reads one that lies in the lake, or where it was adopted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from dataplane.refs import Digest

__all__ = ["ShardReader", "ShardWriter", "Value"]

Value = Any
"""What a field of a sample holds: `bytes` in a tar; a Python value or an array in Parquet; an array in Zarr."""


class ShardReader(Protocol):
    """One shard, open for reading. Immutable and thread-safe; it holds no file."""

    @property
    def fields(self) -> Sequence[str]:
        """The names of the fields it can give, sorted."""
        ...

    def __len__(self) -> int: ...

    def keys(self) -> list[str]:
        """The keys of the samples, in the shard's order."""
        ...

    def read(self, row: int, fields: Sequence[str] | None = None) -> dict[str, Value]:
        """`read_many` of one row."""
        ...

    def read_many(self, rows: Sequence[int], fields: Sequence[str] | None = None) -> list[dict[str, Value]]:
        """Samples in the order asked for, or just some of their fields. Neighbours share a request, and what was read is checked. A field
        that a sample lacks is absent from its mapping. Raises `NotFound` for a field that the shard does not have, `CorruptObject` for
        bytes that are not what was written, `SourceChanged` for an adopted object that is no longer the same."""
        ...

    def verify(self) -> None:
        """Read everything and check it. Raises what `read_many` raises."""
        ...


class ShardWriter(Protocol):
    """Writes one shard to a local file. Not thread-safe; use it in a `with` block.

    The file is plain scratch: durability is the business of the store that takes it. Equal samples give equal bytes.
    """

    size: int
    """Bytes that the shard holds so far, about."""

    def add(self, key: str, fields: Mapping[str, Value]) -> None:
        """Append a sample. Raises `InvalidArgument`, naming the key and the field, for a value that the format cannot hold."""
        ...

    def check(self, key: str, fields: Mapping[str, Value]) -> None:
        """Raise `InvalidArgument` for a sample that `add` would refuse: so several writers can take a row together, or none."""
        ...

    def finish(self) -> tuple[Digest, bytes]:
        """End the file. The digest of the shard, and the bytes of its index."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
