"""Manifest parts: Parquet tables of the shards of a version and, one row a sample, of their metadata.

A commit names parts. A part is a pair: the table of shards, O(shards), read when a version is opened; and the table of metadata,
O(samples), read only for statistics, filters and the next ingest.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache, partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dataplane.errors import CorruptObject, FormatTooNew, InvalidArgument, NotFound
from dataplane.shards import SHARDS, ShardRow, Shards, starts

__all__ = ["METADATA", "Groups", "open_table", "read_metadata", "read_shards", "write_metadata", "write_shards"]

_FORMAT: Final = 1
_SHARD_GROUP: Final = 1 << 10  # rows of a row group: what is decoded to look at one of them
_GROUPS_KEPT: Final = 16  # of those, decoded, a version: some 0.2 MB each
_METADATA_GROUP: Final = 1 << 20
_VERSION_KEY: Final = b"dataplane.manifest"
_REPEATING: Final = ("split", "format", "suffix")  # columns of few values: kept as codes
_LATER: Final = frozenset({"beside"})  # columns that the first parts did not have

Source = Callable[[], Any]
"""Opens the file of a table anew."""

METADATA: Final = pa.schema(
    [
        pa.field("shard", pa.int32(), nullable=False),  # row in the part's table of shards
        pa.field("row", pa.int32(), nullable=False),  # row in that shard
        pa.field("key", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("width", pa.int32()),  # upright
        pa.field("height", pa.int32()),  # upright
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # path below the source's root
        pa.field("source_etag", pa.string(), nullable=False),  # changes when the source does
        pa.field("source_blake3", pa.binary(32)),  # null where nobody has read the source yet: it was adopted
    ]
)
"""The columns that every metadata part has. `write_metadata` keeps further ones."""


def write_shards(rows: Iterable[ShardRow]) -> bytes:
    """The table of shards as a Parquet file."""
    return _write(Shards.of(rows).to_table(), _SHARD_GROUP)


class Groups:
    """The row groups of tables of shards that were decoded last. The tables of a version share them: an epoch goes through all its shards
    at random, and what is kept must not grow with their number. Thread-safe."""

    def __init__(self) -> None:
        self.get = lru_cache(_GROUPS_KEPT)(_Stored.group)


class _Stored:
    """`Columns` of a table of shards as the file that it is, decoded as far as somebody asks."""

    def __init__(self, source: Source, groups: Groups, *, where: str) -> None:
        self._source = source
        self._groups = groups
        self._where = where

    def columns(self, names: Sequence[str]) -> Any:
        return self._decoded(self._open().read, names)

    def row(self, i: int) -> Any:
        number = int(np.searchsorted(self._starts, i, "right")) - 1
        return self._groups.get(self, number).slice(i - int(self._starts[number]), 1)

    def group(self, number: int) -> Any:
        """All columns of a row group."""
        return self._decoded(partial(self._open().read_row_group, number), SHARDS.names)

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        """Where each row group begins, and where the last one ends."""
        metadata = self._open().metadata
        return starts([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])

    def _open(self) -> Any:
        try:
            source = self._source()
        except FileNotFoundError as error:
            raise NotFound(f"{self._where} is gone: somebody expired its version while it was open, or the file was lost") from error
        return open_table(source, where=self._where, dictionaries=_REPEATING)

    def _decoded(self, read: Callable[..., Any], names: Sequence[str]) -> Any:
        try:
            table = read(columns=list(names), use_threads=False)  # which leaves out what is not there
            for name in _LATER.intersection(names).difference(table.column_names):
                table = table.append_column(SHARDS.field(name), pa.nulls(len(table), SHARDS.field(name).type))
            return table.select(list(names))
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise CorruptObject(f"{self._where} is not a table of shards: {error}") from error


def read_shards(data: Any, *, where: str) -> Shards:
    """The shards of a part. `data` is kept, a tenth of a kilobyte a shard. Raises `CorruptObject` or `FormatTooNew`, naming `where`."""
    buffer = pa.py_buffer(data)
    return open_shards(lambda: pa.BufferReader(buffer), Groups(), where=where)


def open_shards(source: Source, groups: Groups, *, where: str) -> Shards:
    """`read_shards` of a file that is kept elsewhere: `source` opens it when a row is looked at. `groups`: those of the other tables of the
    version."""
    return Shards(_Stored(source, groups, where=where))


def write_metadata(table: Any) -> bytes:
    """A metadata table (at least the columns of `METADATA`) as a Parquet file."""
    for wanted in METADATA:
        if wanted.name not in table.column_names or table.schema.field(wanted.name).type != wanted.type:
            raise InvalidArgument(f"metadata needs the column {wanted.name!r} of type {wanted.type}")
    return _write(table, _METADATA_GROUP)


def read_metadata(data: Any, *, where: str, columns: Sequence[str] | None = None) -> Any:
    """The metadata of a part as a `pyarrow.Table`, or just some of its columns."""
    file = open_table(pa.BufferReader(pa.py_buffer(data)), where=where)
    try:
        return file.read(columns=None if columns is None else list(columns), use_threads=False)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise CorruptObject(f"{where} is not a manifest part: {error}") from error


def _write(table: Any, group: int) -> bytes:
    sink = io.BytesIO()
    stamped = table.replace_schema_metadata({_VERSION_KEY: str(_FORMAT).encode()})
    pq.write_table(stamped, sink, compression="zstd", use_dictionary=True, row_group_size=group, write_page_checksum=True)
    return sink.getvalue()


def open_table(source: Any, *, where: str, dictionaries: Sequence[str] = (), pre_buffer: bool = False) -> Any:
    """A table of a part as a `pyarrow.parquet.ParquetFile`, for reading some columns of some rows: `source` is what that takes. Pages that
    are read are checked against their checksums. Raises `CorruptObject` or `FormatTooNew`, naming `where`."""
    try:
        footer = pq.ParquetFile(source)
        names = footer.schema_arrow.names
        version = int((footer.metadata.metadata or {})[_VERSION_KEY])
        coded = [name for name in dictionaries if name in names]
        file = pq.ParquetFile(
            source, metadata=footer.metadata, read_dictionary=coded, page_checksum_verification=True, pre_buffer=pre_buffer
        )
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise CorruptObject(f"{where} is not a manifest part: {error}") from error
    if version > _FORMAT:
        raise FormatTooNew(f"{where} has format {version}; this release reads up to {_FORMAT}: upgrade dataplane")
    return file
