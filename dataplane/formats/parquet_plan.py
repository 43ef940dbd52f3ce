"""Pure planning for Parquet shards: rows → row groups → byte ranges, and where row groups end. No I/O happens here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dataplane.errors import CorruptObject, InvalidArgument
from dataplane.ranges import Span

__all__ = ["Layout", "Pick", "Piece", "batches", "cut", "gaps", "parse_footer", "pick"]

_MAGIC: Final = b"PAR1"


@dataclass(frozen=True, slots=True, eq=False)
class Pick:
    """Rows of one row group: their numbers within it, ascending; a row that is wanted twice is there twice."""

    group: int
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows [start, stop) of a field in a row group: all of them, or those of some pages. It is fetched, decoded and kept as one."""

    group: int
    name: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the values of a Parquet file lie, as its footer says.

    A field is a top-level column; a nested one has several leaves, and each leaf has one column chunk in each row group. `starts` has the
    first row of each row group, and the number of rows at its end. `tail` are the last bytes of the file: the footer, its length, the
    magic. `where` names the file in messages.
    """

    metadata: Any
    schema: Any
    fields: Mapping[str, range]
    starts: npt.NDArray[np.int64]
    size: int
    where: str
    tail: bytes

    @property
    def groups(self) -> int:
        """The number of row groups."""
        return len(self.starts) - 1

    @property
    def leaves(self) -> int:
        """The number of column chunks that each row group has."""
        return int(self.metadata.num_columns)

    @property
    def rows(self) -> int:
        """The number of samples."""
        return int(self.starts[-1])

    def rows_in(self, group: int) -> int:
        """The number of samples in a row group."""
        return int(self.starts[group + 1] - self.starts[group])

    def is_empty(self, group: int) -> bool:
        """Whether a row group has no rows."""
        return not self.rows_in(group)

    def field_of(self, leaf: int) -> str:
        """The field that a leaf belongs to."""
        return next(name for name, leaves in self.fields.items() if leaf in leaves)

    def chunk(self, group: int, leaf: int) -> Span:
        """The bytes of a column chunk, its dictionary included; none where the row group has no rows, whatever the footer says.

        Raises `CorruptObject` where that is outside the file.
        """
        if self.is_empty(group):
            return Span(0, 0)
        column = self.metadata.row_group(group).column(leaf)
        start = column.data_page_offset
        if column.has_dictionary_page and 0 < column.dictionary_page_offset < start:
            start = column.dictionary_page_offset
        end = start + column.total_compressed_size
        self.check(group, leaf, start, end)
        return Span(start, end)

    def check(self, group: int, leaf: int, start: int, end: int) -> None:
        """Raise `CorruptObject` unless a column chunk can be at [start, end)."""
        if not len(_MAGIC) <= start <= end <= self.size:
            raise CorruptObject(
                f"{self.where}: field {self.field_of(leaf)!r}, row group {group}: the footer places it at [{start}, {end}) "
                f"of {self.size} bytes; the file was cut or changed: write it again, or take it from its source"
            )

    def chunks(self) -> list[Span]:
        """Those of all row groups, leaf after leaf within each."""
        return [self.chunk(group, leaf) for group in range(self.groups) for leaf in range(self.leaves)]

    def whole(self, group: int, name: str) -> Piece:
        """All rows of a field in a row group."""
        return Piece(group, name, 0, self.rows_in(group))

    def decoded_bytes(self, piece: Piece) -> int:
        """What a piece holds before compression, about."""
        row_group = self.metadata.row_group(piece.group)
        size: int = sum(max(0, row_group.column(leaf).total_uncompressed_size) for leaf in self.fields[piece.name])
        return size * (piece.stop - piece.start) // max(1, self.rows_in(piece.group))


def parse_footer(tail: bytes, *, size: int, where: str) -> Layout:
    """The layout of a file of `size` bytes from its last ones: footer, length of the footer, magic.

    Raises `CorruptObject` for what is no footer, `InvalidArgument` for one that this release cannot use.
    """
    try:
        metadata = pq.read_metadata(pa.BufferReader(_MAGIC + tail))
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptObject(f"{where}: not the footer of a Parquet file: {error}") from error
    try:
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidArgument(f"{where}: has a column that cannot be read here: {error}; write the file again without it") from error
    if len(set(schema.names)) != len(schema.names):
        raise InvalidArgument(
            f"{where}: has two columns of one name ({', '.join(schema.names)}); write the file again with names that differ"
        )
    fields, at = {}, 0
    for field in schema:
        fields[field.name] = range(at, at + _leaves(field.type))
        at = fields[field.name].stop
    if at != metadata.num_columns or any(count < 0 for count in counts) or sum(counts) != metadata.num_rows:
        raise CorruptObject(
            f"{where}: the footer contradicts itself: {metadata.num_rows} rows and {metadata.num_columns} columns, {schema}"
        )
    return Layout(metadata, schema, fields, np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64), size, where, tail)


def _leaves(kind: Any) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _leaves(kind.storage_type)
    if pa.types.is_struct(kind):
        return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields))
    if pa.types.is_map(kind):
        return _leaves(kind.key_type) + _leaves(kind.item_type)
    if _is_list(kind):
        return _leaves(kind.value_type)
    return 1


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def pick(starts: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]) -> tuple[list[Pick], npt.NDArray[np.int64]]:
    """What to take of which row group for `rows`, ascending; and, for each row so taken, its position in `rows`.

    `starts` as in `Layout`. Every row has to be one of the file's.
    """
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    groups = np.searchsorted(starts, ascending, side="right") - 1
    firsts = np.flatnonzero(np.diff(groups, prepend=-1))
    lasts = np.append(firsts[1:], len(groups))
    picks = []
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True) if len(groups) else ():
        group = int(groups[first])
        picks.append(Pick(group, ascending[first:last] - starts[group]))
    return picks, order


def batches(sizes: Sequence[int], limit: int) -> list[range]:
    """Positions of `sizes` in runs that add up to at most `limit` each; one that is larger is a run by itself."""
    runs, first, total = [], 0, 0
    for i, size in enumerate(sizes):
        if i > first and total + size > limit:
            runs.append(range(first, i))
            first, total = i, 0
        total += size
    if len(sizes) > first:
        runs.append(range(first, len(sizes)))
    return runs


def cut(sizes: Iterable[int], limit: int) -> list[int]:
    """How many samples the next row groups take: a group ends with the sample that brings it to `limit`. Those behind the last such end
    belong to a group that is not full yet."""
    counts, count, total = [], 0, 0
    for size in sizes:
        count += 1
        total += size
        if total >= limit:
            counts.append(count)
            count = total = 0
    return counts


def gaps(spans: Iterable[Span], size: int) -> list[Span]:
    """The bytes of a file that are in none of `spans`."""
    found, at = [], 0
    for span in sorted(spans, key=lambda span: span.start):
        if span.start > at:
            found.append(Span(at, span.start))
        at = max(at, span.end)
    if at < size:
        found.append(Span(at, size))
    return found
