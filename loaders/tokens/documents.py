"""The documents of a shard: how many tokens each has, and where the shard's tokens lie. From the index where it knows, else decoded."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from blake3 import blake3

from dataplane.arrays import one_array
from dataplane.dataset import Shard, Split
from dataplane.errors import CorruptObject, InvalidArgument
from dataplane.formats.index import ShardIndex
from dataplane.formats.parquet_plan import Layout
from dataplane.formats.parquet_read import Reader
from dataplane.formats.parquet_tokens import TOKEN_FIELDS, is_token_type, token_index
from dataplane.refs import Digest, ObjectRef
from dataplane.shards import starts
from loaders.patience import patiently

__all__ = ["TokenColumn", "column_of", "first_tokens", "lengths_of", "token_totals"]

_AT_ONCE: Final = 8  # shards whose documents are counted side by side
_EXACT: Final = "parquet-cpp-arrow"  # a writer that counts as nulls, in a list, just the places without a value
_COPIED: Final = {
    np.dtype(np.int8): np.int32,
    np.dtype(np.uint8): np.uint16,
    np.dtype(np.int16): np.int32,
    np.dtype(np.uint64): np.int64,  # what is beyond it is negative there: too large for everybody
}
"""What tokens of other types become, so that few kinds have to be compiled."""
_KEPT: Final = 1 << 14  # shards whose totals a process remembers


@dataclass(frozen=True, slots=True, eq=False)
class TokenColumn:
    """The token column of a shard, open. `values` are the bytes where the tokens of each row group begin, None where these have to be
    decoded; `lengths` the tokens of each row, None where nobody has counted them yet. Thread-safe."""

    shard: Shard
    field: str
    ref: ObjectRef
    index: ShardIndex
    reader: Reader
    values: npt.NDArray[np.int64] | None
    lengths: npt.NDArray[np.int64] | None

    @property
    def layout(self) -> Layout:
        """Where the values of its file lie."""
        return self.reader.layout

    @property
    def leaf(self) -> int:
        """The number of the column among the leaves of the file."""
        return self.layout.fields[self.field].start

    @property
    def type(self) -> Any:
        """Of a token, in Arrow."""
        return self.layout.schema.field(self.field).type.value_type

    def decode(self, group: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
        """The tokens of each row of a row group, and all of them end to end. Where there is a null among them, it is -1 there."""
        first, stop = int(self.layout.starts[group]), int(self.layout.starts[group + 1])
        column = one_array(self.reader.read_table(range(first, stop), [self.field]).column(self.field))
        return _taken_apart(column)

    def documents(self) -> Iterator[npt.NDArray[np.int64]]:
        """The tokens of each row, row group by row group, decoded."""
        for group in range(self.layout.groups):
            if not self.layout.is_empty(group):
                yield self.decode(group)[0]

    def counted(self) -> int | None:
        """How many tokens there are in all rows, as far as the footer says so."""
        metadata = self.layout.metadata
        if not str(metadata.created_by).startswith(_EXACT):
            return None
        total = 0
        for group in range(self.layout.groups):
            column = metadata.row_group(group).column(self.leaf)
            if column.statistics is None or not column.statistics.has_null_count:
                return None
            total += column.num_values - column.statistics.null_count
        return total


def column_of(shard: Shard, field: str) -> TokenColumn:
    """The token column `field` of a shard. Raises `InvalidArgument` where it is none, `NotFound`, `CorruptObject`."""
    piece, index, reader = shard.holding(field)
    if piece.format != "parquet":
        raise InvalidArgument(f"{piece.ref} is a {piece.format} shard; tokens are packed from Parquet: ingest lists of whole numbers")
    opened = cast(Reader, reader)
    kind = opened.schema.field(field).type
    if not is_token_type(kind):
        raise InvalidArgument(f"{piece.ref}: field {field!r} holds {kind}; tokens are lists of whole numbers")
    known = token_index(index)
    if known is None or known.field != field:
        return TokenColumn(shard, field, piece.ref, index, opened, None, None)
    if len(known.values) != opened.layout.groups:
        raise CorruptObject(f"{index.where} places the tokens of {len(known.values)} row groups; the shard has {opened.layout.groups}")
    return TokenColumn(shard, field, piece.ref, index, opened, known.values if isinstance(piece.ref, Digest) else None, known.lengths)


def lengths_of(column: TokenColumn) -> npt.NDArray[np.int64]:
    """The tokens of each row of the shard, also of those that the version does not want: int64 [rows]. Reads the whole column where the
    index does not say."""
    if column.lengths is not None:
        return column.lengths
    return np.concatenate([np.zeros(0, np.int64), *column.documents()])


def token_totals(split: Split, field: str) -> npt.NDArray[np.int64]:
    """The tokens that the version wants of each shard of a split: int64 [shards]. From the manifest where it knows; the other shards are
    opened, several at once, and what they say is remembered."""
    totals = split.tokens.copy() if _is_counted(split, field) else np.full(len(split.shards), -1, np.int64)
    unknown = np.flatnonzero(totals < 0).tolist()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dataplane-tokens") as threads:
        for number, total in zip(unknown, threads.map(lambda number: _total(split.shards[number], field), unknown), strict=True):
            totals[number] = total
    return totals


def _is_counted(split: Split, field: str) -> bool:
    """Whether the manifest's counts are of this field: those of a shard are of the first of the usual names that it has."""
    names = {each.name for each in split.dataset.schema.fields}
    return [name for name in TOKEN_FIELDS if name in names] == [field]


def _total(shard: Shard, field: str) -> int:
    rows = shard.row.rows
    if not len(shard):
        return 0
    chosen = None if shard.row.selected is None else blake3(shard.row.selected).digest()
    kept = _Kept(shard.row.ref, shard.row.index, field, chosen)
    total = _remembered(kept).get("total")
    if total is None:
        total = _remembered(kept)["total"] = patiently(lambda: _counted(shard, field, rows))
    return total


def _counted(shard: Shard, field: str, rows: npt.NDArray[np.int64] | None) -> int:
    column = column_of(shard, field)
    total = column.counted() if rows is None and column.lengths is None else None
    if total is None:
        lengths = lengths_of(column)
        total = int(lengths.sum() if rows is None else lengths[rows].sum())
    return total


@dataclass(frozen=True, slots=True)
class _Kept:
    """What decides how many tokens of a shard a version wants. `chosen`: a hash of the bitmap of its samples, which may be large."""

    ref: ObjectRef
    index: Digest
    field: str
    chosen: bytes | None


@lru_cache(_KEPT)
def _remembered(_of: _Kept) -> dict[str, int]:
    return {}


def _taken_apart(column: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """The lengths of the lists of an Arrow array, and their values end to end."""
    import pyarrow.compute as pc

    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0)).astype(np.int64)
    values = column.flatten()  # without what lies under nulls
    if values.null_count:
        values = pc.fill_null(values.cast(pa.int64(), safe=False), -1)  # uint64 beyond it becomes negative, as below
    found = values.to_numpy(zero_copy_only=True)
    return lengths, np.ascontiguousarray(found).astype(_COPIED.get(found.dtype, found.dtype), copy=False)


def first_tokens(layout: Layout, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The first token of each row group, and the number of all tokens: int64 [row groups + 1]."""
    return starts(lengths)[layout.starts]
