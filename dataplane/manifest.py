"""Manifest parts: Parquet tables of the shards of a version and, one row a sample, of their metadata.

A commit names parts. A part is a pair: the table of shards, O(shards), read when a version is opened; and the table of metadata,
O(samples), read only for statistics, filters and the next ingest. A shard of which a version wants only some samples carries
their bitmap in `selected`: replacing or dropping a sample rewrites one small table, never a shard.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dataplane.errors import CorruptObject, FormatTooNew, InvalidArgument
from dataplane.refs import Digest, Foreign, ObjectRef, ref_from_json, ref_to_json

__all__ = ["METADATA", "Part", "ShardRow", "read_metadata", "read_shards", "write_metadata", "write_shards"]

_FORMAT: Final = 1
_VERSION_KEY: Final = b"dataplane.manifest"

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
        pa.field("source_blake3", pa.binary(32), nullable=False),
    ]
)
"""The columns that every metadata part has. `write_metadata` keeps further ones."""

_SHARDS: Final = pa.schema(
    [
        ("split", pa.string()),
        ("format", pa.string()),
        ("blake3", pa.binary(32)),
        ("suffix", pa.string()),
        ("size", pa.int64()),
        ("url", pa.string()),
        ("etag", pa.string()),
        ("version_id", pa.string()),
        ("index_blake3", pa.binary(32)),
        ("index_size", pa.int64()),
        ("samples", pa.int64()),
        ("selected", pa.binary()),
        ("bytes", pa.int64()),
        ("tokens", pa.int64()),
        ("median_bytes", pa.map_(pa.string(), pa.int64())),
    ]
)


Bitmap = bytes


@dataclass(frozen=True)
class ShardRow:
    """One shard of a version.

    `samples` counts what the shard holds; `selected` is None where the version wants all of it, else a bitmap (bit i of byte i // 8,
    lowest first) over its rows. `bytes` are those of all fields of all samples it holds.
    """

    split: str
    format: str
    ref: ObjectRef
    index: Digest
    samples: int
    bytes: int
    selected: Bitmap | None = None
    tokens: int | None = None
    median_bytes: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.selected is not None and len(self.selected) != (self.samples + 7) // 8:
            raise InvalidArgument(f"shard {self.ref}: a bitmap of {len(self.selected)} bytes for {self.samples} samples")

    @cached_property
    def rows(self) -> npt.NDArray[np.int64] | None:
        """The rows that the version wants, ascending; None for all of them."""
        if self.selected is None:
            return None
        bits = np.unpackbits(np.frombuffer(self.selected, np.uint8), bitorder="little")
        return np.flatnonzero(bits[: self.samples]).astype(np.int64)

    @property
    def live(self) -> int:
        """How many samples of the shard the version has."""
        return self.samples if self.rows is None else len(self.rows)

    @property
    def live_bytes(self) -> int:
        """The bytes of those samples; proportional where only some are wanted."""
        return self.bytes if self.rows is None or not self.samples else self.bytes * self.live // self.samples

    def without(self, rows: Iterable[int]) -> ShardRow:
        """This shard with some rows no longer wanted."""
        keep = np.zeros(self.samples, bool)
        keep[slice(None) if self.rows is None else self.rows] = True
        keep[list(rows)] = False
        return replace(self, selected=np.packbits(keep, bitorder="little").tobytes())

    def to_json(self) -> dict[str, Any]:
        """The form a shard has in a writer's journal."""
        return {
            "split": self.split,
            "format": self.format,
            "ref": ref_to_json(self.ref),
            "index": ref_to_json(self.index),
            "samples": self.samples,
            "bytes": self.bytes,
            "median_bytes": dict(self.median_bytes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ShardRow:
        """The inverse of `to_json`."""
        index = ref_from_json(value["index"])
        if not isinstance(index, Digest):
            raise CorruptObject(f"not a shard: {value!r}")
        return cls(
            value["split"],
            value["format"],
            ref_from_json(value["ref"]),
            index,
            value["samples"],
            value["bytes"],
            median_bytes=value["median_bytes"],
        )


@dataclass(frozen=True, slots=True)
class Part:
    """A pair of tables in the lake, and what they add up to: live samples and shards that have any."""

    shards: Digest
    metadata: Digest
    samples: int

    def to_json(self) -> dict[str, Any]:
        """The form a part has in a commit."""
        return {"shards": ref_to_json(self.shards), "metadata": ref_to_json(self.metadata), "samples": self.samples}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Part:
        """The inverse of `to_json`."""
        shards, metadata = ref_from_json(value["shards"]), ref_from_json(value["metadata"])
        if not isinstance(shards, Digest) or not isinstance(metadata, Digest):
            raise CorruptObject(f"not a manifest part: {value!r}")
        return cls(shards, metadata, value["samples"])


def write_shards(rows: Sequence[ShardRow]) -> bytes:
    """The table of shards as a Parquet file."""
    return _write(pa.Table.from_pylist([_to_row(row) for row in rows], schema=_SHARDS))


def read_shards(data: Any, *, where: str) -> tuple[ShardRow, ...]:
    """The shards of a part. Raises `CorruptObject` or `FormatTooNew`, naming `where`."""
    return tuple(_from_row(row) for row in _read(data, where=where).to_pylist())


def write_metadata(table: Any) -> bytes:
    """A metadata table (at least the columns of `METADATA`) as a Parquet file."""
    for wanted in METADATA:
        if wanted.name not in table.column_names or table.schema.field(wanted.name).type != wanted.type:
            raise InvalidArgument(f"metadata needs the column {wanted.name!r} of type {wanted.type}")
    return _write(table)


def read_metadata(data: Any, *, where: str, columns: Sequence[str] | None = None) -> Any:
    """The metadata of a part as a `pyarrow.Table`, or just some of its columns."""
    return _read(data, where=where, columns=columns)


def _write(table: Any) -> bytes:
    sink = io.BytesIO()
    stamped = table.replace_schema_metadata({_VERSION_KEY: str(_FORMAT).encode()})
    pq.write_table(stamped, sink, compression="zstd", use_dictionary=True)
    return sink.getvalue()


def _read(data: Any, *, where: str, columns: Sequence[str] | None = None) -> Any:
    try:
        file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)))
        version = int((file.schema_arrow.metadata or {})[_VERSION_KEY])
        if version > _FORMAT:
            raise FormatTooNew(f"{where} has format {version}; this release reads up to {_FORMAT}: upgrade dataplane")
        return file.read(columns=None if columns is None else list(columns), use_threads=False)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        if isinstance(error, FormatTooNew):
            raise
        raise CorruptObject(f"{where} is not a manifest part: {error}") from error


def _to_row(row: ShardRow) -> dict[str, Any]:
    digest = row.ref if isinstance(row.ref, Digest) else None
    foreign = row.ref if isinstance(row.ref, Foreign) else None
    return {
        "split": row.split,
        "format": row.format,
        "blake3": bytes.fromhex(digest.hex) if digest else None,
        "suffix": digest.suffix if digest else None,
        "size": row.ref.size,
        "url": foreign.url if foreign else None,
        "etag": foreign.etag if foreign else None,
        "version_id": foreign.version_id if foreign else None,
        "index_blake3": bytes.fromhex(row.index.hex),
        "index_size": row.index.size,
        "samples": row.samples,
        "selected": row.selected,
        "bytes": row.bytes,
        "tokens": row.tokens,
        "median_bytes": sorted(row.median_bytes.items()),
    }


def _from_row(row: Mapping[str, Any]) -> ShardRow:
    ref: ObjectRef
    if row["blake3"] is not None:
        ref = Digest(row["blake3"].hex(), row["suffix"], row["size"])
    else:
        ref = Foreign(row["url"], row["size"], row["etag"], row["version_id"])
    return ShardRow(
        row["split"],
        row["format"],
        ref,
        Digest(row["index_blake3"].hex(), ".idx", row["index_size"]),
        row["samples"],
        row["bytes"],
        row["selected"],
        row["tokens"],
        dict(row["median_bytes"]),
    )
