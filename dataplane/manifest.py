"""Manifest parts: Parquet tables of the shards of a version and, one row a sample, of their metadata.

A commit names parts. A part is a pair: the table of shards, O(shards), read when a version is opened; and the table of metadata,
O(samples), read only for statistics, filters and the next ingest. A shard of which a version wants only some samples carries
their bitmap in `selected`: replacing or dropping a sample rewrites one small table, never a shard.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataplane.errors import CorruptObject, FormatTooNew, InvalidArgument
from dataplane.refs import Digest, Foreign, ObjectRef, ref_from_json, ref_to_json

__all__ = [
    "METADATA",
    "Part",
    "Piece",
    "ShardRow",
    "Shards",
    "open_table",
    "read_metadata",
    "read_shards",
    "write_metadata",
    "write_shards",
]

_FORMAT: Final = 1
_BATCH: Final = 4096  # rows that are looked at together
_SHARD_GROUP: Final = 1 << 10  # rows of a row group: what is decoded to look at one of them
_GROUPS_KEPT: Final = 8  # of those, decoded, a part: some 0.2 MB each
_METADATA_GROUP: Final = 1 << 20
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
        pa.field("source_blake3", pa.binary(32)),  # null where nobody has read the source yet: it was adopted
    ]
)
"""The columns that every metadata part has. `write_metadata` keeps further ones."""

_PIECE: Final = [
    ("format", pa.string()),
    ("blake3", pa.binary(32)),
    ("suffix", pa.string()),
    ("size", pa.int64()),
    ("url", pa.string()),
    ("etag", pa.string()),
    ("version_id", pa.string()),
    ("index_blake3", pa.binary(32)),
    ("index_size", pa.int64()),
]
_SHARDS: Final = pa.schema(
    [
        ("split", pa.string()),
        *_PIECE,
        ("samples", pa.int64()),
        ("selected", pa.binary()),
        ("bytes", pa.int64()),
        ("tokens", pa.int64()),
        ("median_bytes", pa.map_(pa.string(), pa.int64())),
        ("beside", pa.list_(pa.struct(_PIECE))),
    ]
)
_REPEATING: Final = ("split", "format", "suffix")  # columns of few values: kept as codes
_PLANNED: Final = ("split", "samples", "selected")  # what an epoch is planned from

Bitmap = bytes
Source = Callable[[], Any]
"""Opens the file of a table anew."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One object of a shard: some fields of all its samples, in a format, with the index that says where they lie."""

    format: str
    ref: ObjectRef
    index: Digest


@dataclass(frozen=True)
class ShardRow:
    """One shard of a version: an object that holds samples, and `beside` it, row for row, objects that hold more fields of theirs.

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
    beside: tuple[Piece, ...] = ()

    def __post_init__(self) -> None:
        if self.selected is not None and len(self.selected) != (self.samples + 7) // 8:
            raise InvalidArgument(f"shard {self.ref}: a bitmap of {len(self.selected)} bytes for {self.samples} samples")

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All objects of the shard."""
        return (Piece(self.format, self.ref, self.index), *self.beside)

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
            **({"beside": [_piece_to_json(piece) for piece in self.beside]} if self.beside else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ShardRow:
        """The inverse of `to_json`."""
        first = _piece_from_json(value)
        return cls(
            value["split"],
            first.format,
            first.ref,
            first.index,
            value["samples"],
            value["bytes"],
            median_bytes=value["median_bytes"],
            beside=tuple(_piece_from_json(piece) for piece in value.get("beside", ())),
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


class Shards(Sequence[ShardRow]):
    """The shards of a part, in columns: a row becomes a `ShardRow` when somebody looks at it, and columns that only rows need stay encoded
    until then. So a version of a million shards opens at once. Immutable and thread-safe.

    `samples`, `live`, `bytes` and `sizes` are int64 [shards].
    """

    def __init__(self, table: Any) -> None:
        self._read(table)
        self._decoded = table
        self._packed: _Packed | None = None

    @classmethod
    def packed(cls, source: Source, *, where: str) -> Shards:
        """The shards in a Parquet file, which `source` opens whenever some of it is needed."""
        packed = _Packed(source, where=where)
        shards = cls.__new__(cls)
        shards._read(packed.columns(_PLANNED))
        shards._decoded = None
        shards._packed = packed
        return shards

    def _read(self, table: Any) -> None:
        self.samples: npt.NDArray[np.int64] = _numbers(table, "samples")
        self._splits = table.column("split")
        self._bits, self._bits_from, self._whole = _bitmaps(table.column("selected"))
        self.live: npt.NDArray[np.int64] = self.samples
        if not self._whole.all():
            self.live = np.where(self._whole, self.samples, _ones(self._bits, self._bits_from))

    @property
    def _table(self) -> Any:
        """All columns."""
        return self._columns(_SHARDS.names)

    def _columns(self, names: Sequence[str]) -> Any:
        return self._packed.columns(names) if self._packed else self._decoded.select(list(names))

    @property
    def bytes(self) -> npt.NDArray[np.int64]:
        """Of all fields of all samples that each shard holds."""
        return _numbers(self._columns(["bytes"]), "bytes")

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Of the first object of each shard, in bytes."""
        return _numbers(self._columns(["size"]), "size")

    @classmethod
    def of(cls, rows: Iterable[ShardRow]) -> Shards:
        """The columns of rows at hand."""
        return rows if isinstance(rows, Shards) else cls(pa.Table.from_pylist([_to_row(row) for row in rows], schema=_SHARDS))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, item: Any) -> Any:
        """The row `item`, or a tuple of rows for a slice."""
        if isinstance(item, slice):
            return tuple(map(_from_row, self._table.take(pa.array(range(len(self))[item], pa.int64())).to_pylist()))
        i = range(len(self))[item]
        rows = self._packed.row(i) if self._packed else self._decoded.slice(i, 1)
        return _from_row(rows.to_pylist()[0])

    def __iter__(self) -> Iterator[ShardRow]:
        for batch in self._table.to_batches(max_chunksize=_BATCH):
            yield from map(_from_row, batch.to_pylist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shards) and self._table.equals(other._table)

    __hash__ = None  # type: ignore[assignment]

    @property
    def live_bytes(self) -> npt.NDArray[np.int64]:
        """`ShardRow.live_bytes` of every row."""
        held = self.bytes
        return np.where(self.live == self.samples, held, held * (self.live / np.maximum(1, self.samples))).astype(np.int64)

    @property
    def splits(self) -> list[str]:
        """The names of the splits that shards belong to, sorted."""
        return sorted(pc.unique(self._splits).to_pylist())

    def split_of(self, shards: npt.NDArray[np.int64]) -> Any:
        """The split of each of `shards`, as an Arrow array of strings."""
        return self._splits.take(pa.array(shards)).cast(pa.string()).combine_chunks()

    def in_split(self, name: str) -> npt.NDArray[np.int64]:
        """The rows of a split that a version wants anything of, ascending."""
        mine = pc.equal(self._splits, name).to_numpy()
        return np.flatnonzero(mine & (self.live > 0))

    def wants(self, shards: npt.NDArray[Any], rows: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Whether the version wants the sample in row `rows[n]` of shard `shards[n]`."""
        keep = np.asarray(self._whole[shards])
        some = np.flatnonzero(~keep)
        if len(some):
            at = self._bits_from[:-1][shards[some]] + rows[some] // 8
            keep[some] = (self._bits[at] >> (rows[some] % 8).astype(np.uint8)) & 1
        return keep

    def without(self, gone: Mapping[int, Iterable[int]]) -> Shards:
        """The same shards with some rows of some of them no longer wanted."""
        selected = self._table.column("selected").to_pylist()
        for shard, rows in gone.items():
            selected[shard] = self[shard].without(rows).selected
        return self.select(selected)

    def select(self, selected: Sequence[Bitmap | None]) -> Shards:
        """The same shards with other samples wanted: a bitmap for each, None for all it holds."""
        return self._with("selected", pa.array(selected, pa.binary()))

    def choose(self, shards: npt.NDArray[Any], rows: npt.NDArray[Any]) -> Shards:
        """The same shards with just these samples wanted, of those that are: the ones in row `rows[n]` of shard `shards[n]`."""
        mine = self.wants(shards, rows)
        return self._with_flags(self._flags(shards[mine], rows[mine]))

    def drop(self, shards: npt.NDArray[Any], rows: npt.NDArray[Any]) -> Shards:
        """The same shards with these samples no longer wanted, the one in row `rows[n]` of shard `shards[n]`."""
        wide = self._widths
        held = np.full(int(wide.sum()), 255, np.uint8)
        partly = self.samples % 8 > 0
        held[_starts(wide)[1:][partly] - 1] = (1 << (self.samples[partly] % 8)) - 1  # no bits behind the last row
        held[np.repeat(~self._whole, wide)] = self._bits
        return self._with_flags(held & ~self._flags(shards, rows))

    @property
    def _widths(self) -> npt.NDArray[np.int64]:
        """Bytes that a bitmap of each shard takes."""
        return (self.samples + 7) // 8

    def _flags(self, shards: npt.NDArray[Any], rows: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The bitmaps of all shards end to end, with the bits of these samples set."""
        starts = _starts(self._widths)
        flags = np.zeros(int(starts[-1]) * 8, np.uint8)
        flags[starts[shards] * 8 + rows] = 1
        return np.packbits(flags, bitorder="little")

    def _with_flags(self, bits: npt.NDArray[np.uint8]) -> Shards:
        """The same shards with other bitmaps, end to end. One of all samples becomes none."""
        wide = self._widths
        whole = _ones(bits, _starts(wide)) == self.samples
        offsets = _starts(np.where(whole, 0, wide)).astype(np.int32)
        pieces = [np.packbits(~whole, bitorder="little"), offsets, bits[np.repeat(~whole, wide)]]
        return self._with("selected", pa.Array.from_buffers(pa.binary(), len(self), [pa.py_buffer(piece) for piece in pieces]))

    def move(self, splits: Sequence[str]) -> Shards:
        """The same shards, in these splits."""
        return self._with("split", pa.array(splits, pa.string()).dictionary_encode())

    def _with(self, name: str, column: Any) -> Shards:
        return Shards(self._table.set_column(self._table.column_names.index(name), name, column))

    def take(self, shards: npt.NDArray[np.int64]) -> Shards:
        """Some of the shards, in this order."""
        return Shards(self._table.take(pa.array(shards)))

    def joined(self, others: Sequence[Shards]) -> Shards:
        """These shards with those of others behind them."""
        return Shards(pa.concat_tables([self._table, *(other._table for other in others)]).unify_dictionaries().combine_chunks())

    def refs(self) -> Iterator[ObjectRef]:
        """Every object that is needed: of shards that something is wanted of, what stands beside them, and the indexes."""
        named = self._table.select([*(name for name, _ in _PIECE), "beside"]).filter(pa.array(self.live > 0))
        for batch in named.to_batches(max_chunksize=_BATCH):
            for row in batch.to_pylist():
                for piece in (row, *(row["beside"] or ())):
                    found = _piece(piece)
                    yield found.ref
                    yield found.index

    def to_table(self) -> Any:
        """The columns, as they are stored."""
        return self._table.cast(_SHARDS)


def write_shards(rows: Iterable[ShardRow]) -> bytes:
    """The table of shards as a Parquet file."""
    return _write(Shards.of(rows).to_table(), _SHARD_GROUP)


class _Packed:
    """A table of shards as the file that it is, decoded as far as somebody asks. Thread-safe."""

    def __init__(self, source: Source, *, where: str) -> None:
        self._source = source
        self._where = where
        file = open_table(source(), where=where)
        self._absent = [name for name in ("beside",) if name not in file.schema_arrow.names]  # the first parts had none
        groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(groups, dtype=np.int64)])
        self._group = lru_cache(_GROUPS_KEPT)(self._decode)

    def columns(self, names: Sequence[str]) -> Any:
        """Some columns of all rows."""
        return self._read(names, None)

    def row(self, i: int) -> Any:
        """All columns of one row."""
        group = int(np.searchsorted(self._starts, i, "right")) - 1
        return self._group(group).slice(i - int(self._starts[group]), 1)

    def _decode(self, group: int) -> Any:
        return self._read(_SHARDS.names, group)

    def _read(self, names: Sequence[str], group: int | None) -> Any:
        wanted = [name for name in names if name not in self._absent]
        file = open_table(self._source(), where=self._where, dictionaries=_REPEATING)
        try:
            table = file.read(wanted, use_threads=False) if group is None else file.read_row_group(group, wanted, use_threads=False)
            for name in (name for name in names if name in self._absent):
                table = table.append_column(_SHARDS.field(name), pa.nulls(len(table), _SHARDS.field(name).type))
            return table.select(list(names))
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise CorruptObject(f"{self._where} is not a table of shards: {error}") from error


def read_shards(data: Any, *, where: str, path: Path | None = None) -> Shards:
    """The shards of a part. Raises `CorruptObject` or `FormatTooNew`, naming `where`.

    `data` is kept, a tenth of a kilobyte a shard, unless it lies in the file `path` too: then that is read when a row is looked at.
    """
    buffer = pa.py_buffer(data)
    return Shards.packed((lambda: pa.BufferReader(buffer)) if path is None else (lambda: pa.OSFile(str(path))), where=where)


def write_metadata(table: Any) -> bytes:
    """A metadata table (at least the columns of `METADATA`) as a Parquet file."""
    for wanted in METADATA:
        if wanted.name not in table.column_names or table.schema.field(wanted.name).type != wanted.type:
            raise InvalidArgument(f"metadata needs the column {wanted.name!r} of type {wanted.type}")
    return _write(table, _METADATA_GROUP)


def read_metadata(data: Any, *, where: str, columns: Sequence[str] | None = None) -> Any:
    """The metadata of a part as a `pyarrow.Table`, or just some of its columns."""
    return _read(data, where=where, columns=columns)


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
        version = int((footer.schema_arrow.metadata or {})[_VERSION_KEY])
        coded = [name for name in dictionaries if name in footer.schema_arrow.names]
        file = pq.ParquetFile(
            source, metadata=footer.metadata, read_dictionary=coded, page_checksum_verification=True, pre_buffer=pre_buffer
        )
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise CorruptObject(f"{where} is not a manifest part: {error}") from error
    if version > _FORMAT:
        raise FormatTooNew(f"{where} has format {version}; this release reads up to {_FORMAT}: upgrade dataplane")
    return file


def _read(data: Any, *, where: str, columns: Sequence[str] | None = None) -> Any:
    file = open_table(pa.BufferReader(pa.py_buffer(data)), where=where)
    try:
        return file.read(columns=None if columns is None else list(columns), use_threads=False)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise CorruptObject(f"{where} is not a manifest part: {error}") from error


def _numbers(table: Any, name: str) -> npt.NDArray[np.int64]:
    values: npt.NDArray[np.int64] = table.column(name).to_numpy()
    return values.astype(np.int64, copy=False)


def _bitmaps(column: Any) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """All bitmaps end to end, where each begins (one more than there are), and which rows have none."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    whole = array.is_null().to_numpy(zero_copy_only=False)
    if whole.all():
        return np.zeros(0, np.uint8), np.zeros(1, np.int64), whole
    lengths = pc.fill_null(pc.binary_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return np.frombuffer(b"".join(array.drop_null().to_pylist()), np.uint8), np.concatenate([[0], np.cumsum(lengths)]), whole


def _starts(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where each begins when they lie end to end, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _ones(bits: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    counted = np.concatenate([[0], np.cumsum(np.bitwise_count(bits), dtype=np.int64)])
    return np.diff(counted[starts])


def _to_row(row: ShardRow) -> dict[str, Any]:
    return {
        "split": row.split,
        **_columns(row.pieces[0]),
        "samples": row.samples,
        "selected": row.selected,
        "bytes": row.bytes,
        "tokens": row.tokens,
        "median_bytes": sorted(row.median_bytes.items()),
        "beside": [_columns(piece) for piece in row.beside] or None,
    }


def _from_row(row: Mapping[str, Any]) -> ShardRow:
    first = _piece(row)
    return ShardRow(
        row["split"],
        first.format,
        first.ref,
        first.index,
        row["samples"],
        row["bytes"],
        row["selected"],
        row["tokens"],
        dict(row["median_bytes"]),
        tuple(_piece(piece) for piece in row["beside"] or ()),
    )


def _columns(piece: Piece) -> dict[str, Any]:
    digest = piece.ref if isinstance(piece.ref, Digest) else None
    foreign = piece.ref if isinstance(piece.ref, Foreign) else None
    return {
        "format": piece.format,
        "blake3": bytes.fromhex(digest.hex) if digest else None,
        "suffix": digest.suffix if digest else None,
        "size": piece.ref.size,
        "url": foreign.url if foreign else None,
        "etag": foreign.etag if foreign else None,
        "version_id": foreign.version_id if foreign else None,
        "index_blake3": bytes.fromhex(piece.index.hex),
        "index_size": piece.index.size,
    }


def _piece(row: Mapping[str, Any]) -> Piece:
    ref: ObjectRef
    if row["blake3"] is not None:
        ref = Digest(row["blake3"].hex(), row["suffix"], row["size"])
    else:
        ref = Foreign(row["url"], row["size"], row["etag"], row["version_id"])
    return Piece(row["format"], ref, Digest(row["index_blake3"].hex(), ".idx", row["index_size"]))


def _piece_to_json(piece: Piece) -> dict[str, Any]:
    return {"format": piece.format, "ref": ref_to_json(piece.ref), "index": ref_to_json(piece.index)}


def _piece_from_json(value: Mapping[str, Any]) -> Piece:
    index = ref_from_json(value["index"])
    if not isinstance(index, Digest):
        raise CorruptObject(f"not a shard: {value!r}")
    return Piece(value["format"], ref_from_json(value["ref"]), index)
