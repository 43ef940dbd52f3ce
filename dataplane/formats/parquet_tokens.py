"""Token columns of Parquet shards: lists of whole numbers that lie side by side, so that any run of them is a span of bytes.

A shard that is written here keeps its token column uncompressed and plain, one page a row group. Its index says in three sections which
column that is, how many tokens each row has, and where the values of each row group begin. A file of somebody else has none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dataplane.errors import CorruptObject
from dataplane.formats.index import ShardIndex
from dataplane.formats.parquet_pages import Footer, parse_pages
from dataplane.formats.parquet_plan import Layout

__all__ = ["TOKEN_FIELDS", "TokenIndex", "TokenTally", "is_token_type", "token_field", "token_index", "width"]

TOKEN_FIELDS: Final = ("tokens", "input_ids")
"""The names of token columns, the first that a shard has and that holds lists of whole numbers being its one. Nobody else's names tell a
list of tokens from any other list."""
_FIELD: Final = "tokens.field"
_LENGTHS: Final = "tokens.lengths"  # uint32 [rows]
_VALUES: Final = "tokens.values"  # int64 [row groups]
_MOST: Final = 1 << 32  # tokens of a row


def is_token_type(kind: Any) -> bool:
    """Whether an Arrow type is a list of whole numbers."""
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(lists and pa.types.is_integer(kind.value_type))


def token_field(schema: Any) -> str | None:
    """The token column of a shard with these columns (a `pyarrow.Schema`), None where it has none."""
    return next((name for name in TOKEN_FIELDS if name in schema.names and is_token_type(schema.field(name).type)), None)


@dataclass(frozen=True, slots=True, eq=False)
class TokenIndex:
    """What the index of a shard says of its token column `field`: `lengths` int64 [rows]; `values` int64 [row groups], the bytes of the
    file where the tokens of each begin."""

    field: str
    lengths: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]


def token_index(index: ShardIndex) -> TokenIndex | None:
    """What `index` says of the shard's token column, None where it says nothing. Raises `CorruptObject`."""
    sections = index.sections
    if _FIELD not in sections:
        return None
    lengths, values = sections.get(_LENGTHS, b""), sections.get(_VALUES, b"")
    if len(lengths) != 4 * len(index) or len(values) % 8:
        raise CorruptObject(f"{index.where}: {len(lengths)} bytes of token counts for {len(index)} samples; make the index anew")
    return TokenIndex(sections[_FIELD].decode(), np.frombuffer(lengths, "<u4").astype(np.int64), np.frombuffer(values, "<i8"))


class TokenTally:
    """Counts the tokens of a shard while it is written."""

    def __init__(self, field: str) -> None:
        self.field = field
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._whole = True  # no row has a null among its tokens

    def add(self, column: Any) -> None:
        """Count the rows of a `pyarrow.ChunkedArray`, in the order in which they are written."""
        for chunk in column.chunks:
            lengths = pc.fill_null(pc.list_value_length(chunk), 0)
            self._lengths.append(np.asarray(lengths).astype(np.int64))
            self._whole = self._whole and chunk.flatten().null_count == 0

    def sections(self, layout: Layout, data: memoryview) -> tuple[int | None, Mapping[str, bytes]]:
        """How many tokens there are, None where there are nulls among them; and what the index says of them, of a file with this layout and
        these bytes: nothing where they do not lie as one run a row group."""
        lengths = np.concatenate([np.zeros(0, np.int64), *self._lengths])
        if not self._whole:
            return None, {}
        values = self._values(layout, data, lengths) if lengths.max(initial=0) < _MOST else None
        if values is None:
            return int(lengths.sum()), {}
        sections = {_FIELD: self.field.encode(), _LENGTHS: lengths.astype("<u4").tobytes(), _VALUES: values.astype("<i8").tobytes()}
        return int(lengths.sum()), sections

    def _values(self, layout: Layout, data: memoryview, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
        """Where the tokens of each row group begin: in a page, they come last."""
        (leaf,) = layout.fields[self.field]
        footer = Footer(layout.tail)
        found = np.zeros(layout.groups, np.int64)
        for group in range(layout.groups):
            if layout.is_empty(group):
                continue
            column, chunk = layout.metadata.row_group(group).column(leaf), layout.chunk(group, leaf)
            where = footer.page_index(group, leaf)
            pages = parse_pages(bytes(data[where.start : where.end]), chunk, layout.rows_in(group))
            if column.compression != "UNCOMPRESSED" or len(pages.rows) != 2 or int(pages.places[0]) != chunk.start:
                return None
            tokens = int(lengths[layout.starts[group] : layout.starts[group + 1]].sum())
            found[group] = chunk.end - tokens * width(column)
        return found


def width(column: Any) -> int:
    """Bytes of a whole number in a column chunk (its metadata as Arrow has them): Parquet knows two kinds."""
    return 8 if column.physical_type == "INT64" else 4
