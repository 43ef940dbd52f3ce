"""The shards of a version: one as a row, and those of a part as columns.

A version of a million shards is planned from a few columns; a row becomes an object when somebody looks at it. A shard of which a version
wants only some samples carries their bitmap in `selected`: replacing or dropping a sample rewrites one small table, never a shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataplane.arrays import numbers, one_array, valid
from dataplane.errors import CorruptObject, InvalidArgument
from dataplane.refs import Digest, Foreign, ObjectRef, ref_from_json, ref_to_json

__all__ = ["SHARDS", "Columns", "Piece", "ShardRow", "Shards", "starts"]

_BATCH: Final = 4096  # rows that are looked at together

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
SHARDS: Final = pa.schema(
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
_PLANNED: Final = ("split", "samples", "selected")  # what an epoch is planned from

Bitmap = bytes


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
    lowest first) over its rows. `bytes` are those of all fields of all samples it holds, `tokens` those of its token column (see
    `formats.parquet_tokens`), None where it has none or nobody counted them.
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
            **({} if self.tokens is None else {"tokens": self.tokens}),
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
            tokens=value.get("tokens"),
            median_bytes=value["median_bytes"],
            beside=tuple(_piece_from_json(piece) for piece in value.get("beside", ())),
        )


class Columns(Protocol):
    """A table of shards with the columns of `SHARDS`, which need not be in memory. Thread-safe."""

    def columns(self, names: Sequence[str]) -> Any:
        """Some columns of all rows, as a `pyarrow.Table`."""

    def row(self, i: int) -> Any:
        """All columns of one row."""


@dataclass(frozen=True, slots=True)
class _Table:
    """A table in memory."""

    table: Any

    def columns(self, names: Sequence[str]) -> Any:
        return self.table.select(list(names))

    def row(self, i: int) -> Any:
        return self.table.slice(i, 1)


class Shards(Sequence[ShardRow]):
    """The shards of a part, in columns: a row becomes a `ShardRow` when somebody looks at it, and columns that only rows need are asked for
    then. So a version of a million shards opens at once. Immutable and thread-safe.

    `samples`, `live`, `bytes` and `sizes` are int64 [shards].
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        planned = columns.columns(_PLANNED)
        self.samples: npt.NDArray[np.int64] = _int64(planned.column("samples"))
        self._names, self._split = _coded(planned.column("split"))
        self._bits, self._bits_from, self._whole = _bitmaps(planned.column("selected"))
        self.live: npt.NDArray[np.int64] = self.samples
        if not self._whole.all():
            self.live = np.where(self._whole, self.samples, _ones(self._bits, self._bits_from))

    @classmethod
    def of(cls, rows: Iterable[ShardRow]) -> Shards:
        """The columns of rows at hand."""
        return rows if isinstance(rows, Shards) else cls.of_table(pa.Table.from_pylist([_to_row(row) for row in rows], schema=SHARDS))

    @classmethod
    def of_table(cls, table: Any) -> Shards:
        """The shards in a `pyarrow.Table` with the columns of `SHARDS`."""
        return cls(_Table(table))

    @property
    def _table(self) -> Any:
        """All columns."""
        return self._columns.columns(SHARDS.names)

    @property
    def bytes(self) -> npt.NDArray[np.int64]:
        """Of all fields of all samples that each shard holds."""
        return _int64(self._columns.columns(["bytes"]).column("bytes"))

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Of the first object of each shard, in bytes."""
        return _int64(self._columns.columns(["size"]).column("size"))

    @property
    def tokens(self) -> npt.NDArray[np.int64]:
        """Those that the version wants of each shard's token column; -1 where nobody counted them, or where it wants only some samples."""
        counted = numbers(self._columns.columns(["tokens"]).column("tokens"), null=-1)
        return np.where(self.live == self.samples, counted, -1).astype(np.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, item: Any) -> Any:
        """The row `item`, or a tuple of rows for a slice."""
        if isinstance(item, slice):
            return tuple(map(_from_row, self._table.take(pa.array(range(len(self))[item], pa.int64())).to_pylist()))
        return _from_row(self._columns.row(range(len(self))[item]).to_pylist()[0])

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
        return sorted(self._names[code] for code in np.flatnonzero(np.bincount(self._split)))

    def split_of(self, shards: npt.NDArray[np.int64]) -> Any:
        """The split of each of `shards`, as an Arrow array of strings."""
        return pa.DictionaryArray.from_arrays(pa.array(self._split[shards]), pa.array(self._names, pa.string())).cast(pa.string())

    def in_split(self, name: str) -> npt.NDArray[np.int32]:
        """The rows of a split that a version wants anything of, ascending."""
        if name not in self._names:
            return np.zeros(0, np.int32)
        return np.flatnonzero((self._split == self._names.index(name)) & (self.live > 0)).astype(np.int32)

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
        held[starts(wide)[1:][partly] - 1] = (1 << (self.samples[partly] % 8)) - 1  # no bits behind the last row
        held[np.repeat(~self._whole, wide)] = self._bits
        return self._with_flags(held & ~self._flags(shards, rows))

    @property
    def _widths(self) -> npt.NDArray[np.int64]:
        """Bytes that a bitmap of each shard takes."""
        return (self.samples + 7) // 8

    def _flags(self, shards: npt.NDArray[Any], rows: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The bitmaps of all shards end to end, with the bits of these samples set."""
        begin = starts(self._widths)
        flags = np.zeros(int(begin[-1]) * 8, np.uint8)
        flags[begin[shards] * 8 + rows] = 1
        return np.packbits(flags, bitorder="little")

    def _with_flags(self, bits: npt.NDArray[np.uint8]) -> Shards:
        """The same shards with other bitmaps, end to end. One of all samples becomes none."""
        wide = self._widths
        whole = _ones(bits, starts(wide)) == self.samples
        offsets = starts(np.where(whole, 0, wide)).astype(np.int32)
        pieces = [np.packbits(~whole, bitorder="little"), offsets, bits[np.repeat(~whole, wide)]]
        return self._with("selected", pa.Array.from_buffers(pa.binary(), len(self), [pa.py_buffer(piece) for piece in pieces]))

    def move(self, splits: Sequence[str]) -> Shards:
        """The same shards, in these splits."""
        return self._with("split", pa.array(splits, pa.string()).dictionary_encode())

    def _with(self, name: str, column: Any) -> Shards:
        return Shards.of_table(self._table.set_column(self._table.column_names.index(name), name, column))

    def take(self, shards: npt.NDArray[np.int64]) -> Shards:
        """Some of the shards, in this order."""
        return Shards.of_table(self._table.take(pa.array(shards)))

    def joined(self, others: Sequence[Shards]) -> Shards:
        """These shards with those of others behind them."""
        tables = [self._table, *(other._table for other in others)]
        return Shards.of_table(pa.concat_tables(tables).unify_dictionaries().combine_chunks())

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
        return self._table.cast(SHARDS)


def _int64(column: Any) -> npt.NDArray[np.int64]:
    return numbers(column).astype(np.int64, copy=False)


def _coded(column: Any) -> tuple[list[str], npt.NDArray[np.unsignedinteger]]:
    """The different values of a column, and which of them each row has."""
    array = one_array(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    names = array.dictionary.to_pylist()
    return names, np.from_dlpack(array.indices).astype(np.min_scalar_type(len(names)))


def _bitmaps(column: Any) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """All bitmaps end to end, where each begins (one more than there are), and which rows have none."""
    array = one_array(column)
    held = valid(array)
    if not held.any():
        return np.zeros(0, np.uint8), np.zeros(1, np.int64), ~held
    _, offsets, bits = (np.frombuffer(buffer or b"", np.uint8) for buffer in array.buffers())
    begin = offsets.view(np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    lengths = np.diff(begin)
    return bits[begin[0] : begin[-1]][np.repeat(held, lengths)], starts(np.where(held, lengths, 0)), ~held


def starts(lengths: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Where each begins when they lie end to end, and where the last one ends."""
    found = np.zeros(np.size(lengths) + 1, np.int64)
    np.cumsum(lengths, dtype=np.int64, out=found[1:])
    return found


def _ones(bits: npt.NDArray[np.uint8], begin: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many bits are set in each of the bitmaps that begin there."""
    return np.diff(starts(np.bitwise_count(bits))[begin])


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
