"""The columns of a Parquet file: only the column chunks, or the pages of large ones, that the wanted rows are in, checked before use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataplane.errors import CorruptObject
from dataplane.formats.parquet_cache import Cache
from dataplane.formats.parquet_decode import damaged, decoded, decoded_pages, opened
from dataplane.formats.parquet_pages import FieldPages, Footer, field_pages, parse_pages
from dataplane.formats.parquet_plan import Layout, Pick, Piece, batches
from dataplane.formats.tar import crc32c
from dataplane.objects import Objects
from dataplane.ranges import Span
from dataplane.refs import ObjectRef

__all__ = ["Columns", "is_all"]

_BATCH_BYTES: Final = 64 << 20  # decoded at a time
_LARGE_BYTES: Final = 1 << 20  # of a field in a row group, from which on asking for the places of its pages pays


class Columns:
    """The columns of a Parquet file, row group by row group. Thread-safe.

    `crcs` are the checksums of its index, None for a file of which nobody has computed them: then those of its pages are checked,
    where its writer put any, and only the pages that are needed are read, where the file says where they lie. Decoded columns of row groups
    are kept in `cache`.
    """

    def __init__(self, objects: Objects, ref: ObjectRef, layout: Layout, crcs: npt.NDArray[np.uint32] | None, cache: Cache) -> None:
        self.layout = layout
        self.crcs = crcs
        self._objects = objects
        self._ref = ref
        self._cache = cache
        self._mine = object()
        self._footer: Footer | None = None
        self._pages: dict[tuple[int, str], FieldPages] = {}  # by row group and field
        self._whole: set[tuple[int, str]] = set()  # row groups and fields that are read whole

    def take(self, picks: Sequence[Pick], names: Sequence[str]) -> Iterator[pa.Table]:
        """The picked rows of each row group in turn. One request for all that is not kept, as long as it stays in bounds; the first time
        one more, for the places of pages, where these are of use."""
        self._find_pages(picks, names)
        plans = [{name: self._pieces_for(pick, name) for name in names} for pick in picks]
        sizes = [sum(self.layout.decoded_bytes(piece) for pieces in plan.values() for piece in pieces) for plan in plans]
        for run in batches(sizes, _BATCH_BYTES):
            columns = self._columns([piece for i in run for pieces in plans[i].values() for piece in pieces])
            for i in run:
                yield pa.table({name: _rows_of(picks[i].rows, pieces, columns) for name, pieces in plans[i].items()})

    def read(self, spans: Sequence[Span]) -> list[memoryview]:
        """Bytes of the file. Raises `CorruptObject` where it ends before them."""
        wanted = [span for span in spans if len(span)]
        found = iter(self._ranges(wanted))
        pieces = [next(found) if len(span) else memoryview(b"") for span in spans]
        for span, piece in zip(spans, pieces, strict=True):
            if len(piece) != len(span):
                raise CorruptObject(
                    f"{self.layout.where} ends at byte {span.start + len(piece)}; {len(span) - len(piece)} more were expected"
                )
        return pieces

    def check(self, group: int, leaf: int, data: Any) -> None:
        """Raise `CorruptObject` unless `data` are the bytes of a column chunk, as far as the checksums tell."""
        self._check(group, leaf, self.layout.chunk(group, leaf), memoryview(data))

    def walk(self, names: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """Columns of each row group in turn, read and checked anew."""
        groups = [group for group in range(self.layout.groups) if not self.layout.is_empty(group)]
        wholes = [[self.layout.whole(group, name) for name in names] for group in groups]
        for run in batches([sum(map(self.layout.decoded_bytes, pieces)) for pieces in wholes], _BATCH_BYTES):
            columns = self._fetch([piece for i in run for piece in wholes[i]])
            for i in run:
                yield groups[i], pa.table({piece.name: columns[piece] for piece in wholes[i]})

    def _find_pages(self, picks: Sequence[Pick], names: Sequence[str]) -> None:
        """Learn where the pages of the fields lie of which only few may be needed."""
        if self.crcs is not None:  # these are of whole column chunks
            return
        few = [pick.group for pick in picks if 2 * len(pick.rows) < self.layout.rows_in(pick.group)]
        unknown = [
            (group, name) for group in few for name in names if (group, name) not in self._pages and (group, name) not in self._whole
        ]
        indexes = {(group, name): self._page_indexes(group, name) for group, name in unknown}
        found = iter(self._ranges([span for spans in indexes.values() for span in spans]))
        for (group, name), spans in indexes.items():
            pages = self._field_pages(group, name, [bytes(next(found)) for _ in spans]) if spans else None
            if pages is None:
                self._whole.add((group, name))
            else:
                self._pages[group, name] = pages

    def _page_indexes(self, group: int, name: str) -> list[Span]:
        """Where the offset indexes of a field lie; none where they would be of no use, or cannot be."""
        layout, leaves = self.layout, self.layout.fields[name]
        sizes = [len(layout.chunk(group, leaf)) for leaf in leaves]
        row_group = layout.metadata.row_group(group)
        if sum(sizes) < _LARGE_BYTES or not all(row_group.column(leaf).has_offset_index for leaf in leaves):
            return []
        try:
            self._footer = self._footer or Footer(layout.tail)
            spans = [self._footer.page_index(group, leaf) for leaf in leaves]
        except ValueError:
            return []
        fit = all(len(span) <= size and span.end <= layout.size for span, size in zip(spans, sizes, strict=True))
        return spans if fit else []

    def _field_pages(self, group: int, name: str, indexes: Sequence[bytes]) -> FieldPages | None:
        layout, leaves = self.layout, self.layout.fields[name]
        rows = layout.rows_in(group)
        try:
            return field_pages([parse_pages(index, layout.chunk(group, leaf), rows) for leaf, index in zip(leaves, indexes, strict=True)])
        except ValueError:  # the column chunk is all that is needed
            return None

    def _pieces_for(self, pick: Pick, name: str) -> list[Piece]:
        pages, whole = self._pages.get((pick.group, name)), self.layout.whole(pick.group, name)
        if pages is None or (pick.group, name) in self._whole or self._cache.get(self._mine, [whole]):
            return [whole]
        return [Piece(pick.group, name, start, stop) for start, stop in pages.around(pick.rows)]

    def _columns(self, wanted: Sequence[Piece]) -> dict[Piece, Any]:
        found = self._cache.get(self._mine, wanted)
        missing = [piece for piece in wanted if piece not in found]
        if missing:
            fetched = self._fetch(missing)
            self._cache.put(self._mine, fetched)
            found.update(fetched)
        return {piece: found[piece] if piece in found else self._cut(piece, found) for piece in wanted}

    def _cut(self, piece: Piece, columns: Mapping[Piece, Any]) -> Any:
        return columns[self.layout.whole(piece.group, piece.name)].slice(piece.start, piece.stop - piece.start)

    def _fetch(self, wanted: Sequence[Piece]) -> dict[Piece, Any]:
        """Columns, in one request. Where pages are not what the page index says, the column is there as a whole instead."""
        chunks: dict[Piece, list[Span]] = {}
        pages: dict[Piece, list[tuple[Span, Span]]] = {}
        for piece in wanted:
            if piece == self.layout.whole(piece.group, piece.name):
                chunks[piece] = [self.layout.chunk(piece.group, leaf) for leaf in self.layout.fields[piece.name]]
            else:
                pages[piece] = self._pages[piece.group, piece.name].spans(piece.start, piece.stop)
        heads = dict.fromkeys(head for pairs in pages.values() for head, _ in pairs if len(head))
        found = self._cache.get(self._mine, list(heads))
        fresh = [head for head in heads if head not in found]
        spans = list(dict.fromkeys(span for span in chain(*chunks.values(), *chain(*pages.values())) if span not in found))
        found.update(zip(spans, self._ranges(spans), strict=True))
        self._cache.put(self._mine, {head: memoryview(bytes(found[head])) for head in fresh})  # all pages of a field need its dictionary
        columns = self._decoded(chunks, found)
        columns.update(self._decoded_pages(pages, found))
        wrong = dict.fromkeys((piece.group, piece.name) for piece in pages if piece not in columns)
        if wrong:
            self._whole.update(wrong)
            columns.update(self._fetch([self.layout.whole(group, name) for group, name in wrong]))
        return columns

    def _decoded(self, chunks: Mapping[Piece, Sequence[Span]], found: Mapping[Span, memoryview]) -> dict[Piece, Any]:
        """Columns from their column chunks. Raises `CorruptObject`."""
        if not chunks:
            return {}
        layout = self.layout
        for piece, spans in chunks.items():
            for leaf, span in zip(layout.fields[piece.name], spans, strict=True):
                self._check(piece.group, leaf, span, found[span])
        file = opened(layout, {span.start: found[span] for spans in chunks.values() for span in spans})
        columns = {}
        for group, pieces in _by_group(chunks):
            table = decoded(file, layout, group, [piece.name for piece in pieces])
            columns.update({piece: table.column(piece.name) for piece in pieces})
        return columns

    def _decoded_pages(self, pages: Mapping[Piece, Sequence[tuple[Span, Span]]], found: Mapping[Span, memoryview]) -> dict[Piece, Any]:
        """Columns from their pages, as far as those hold what the page index says."""
        columns = {}
        for group, pieces in _by_group(pages):
            parts: list[dict[int, list[memoryview]]] = []  # row groups of a small file: the first pieces of all fields, the second ones, …
            wanted = []
            count: Counter[str] = Counter()
            for piece in pieces:
                if count[piece.name] == len(parts):
                    parts.append({})
                leaves = self.layout.fields[piece.name]
                data = ([found[span] for span in pair] for pair in pages[piece])
                parts[count[piece.name]].update(zip(leaves, data, strict=True))
                wanted.append((count[piece.name], leaves, piece.stop - piece.start))
                count[piece.name] += 1
            assert self._footer is not None
            more = max(rows for _, _, rows in wanted) + 1  # than there are: the pages themselves have to say where they end
            read = decoded_pages(self._footer.small_file(group, parts, rows=more), wanted)
            columns.update({piece: column for piece, column in zip(pieces, read, strict=True) if column is not None})
        return columns

    def _check(self, group: int, leaf: int, span: Span, part: memoryview) -> None:
        if len(part) != len(span):
            damaged(self.layout, group, self.layout.field_of(leaf), f"it ends {len(span) - len(part)} bytes early")
        if self.crcs is not None and crc32c(part) != self.crcs[group * self.layout.leaves + leaf]:
            damaged(self.layout, group, self.layout.field_of(leaf), "it fails its checksum")

    def _ranges(self, spans: Sequence[Span]) -> Sequence[memoryview]:
        if not spans:
            return []
        return self._objects.ranges(self._ref, starts=[span.start for span in spans], lengths=[len(span) for span in spans])


def _by_group(pieces: Iterable[Piece]) -> list[tuple[int, list[Piece]]]:
    groups: dict[int, list[Piece]] = {}
    for piece in pieces:
        groups.setdefault(piece.group, []).append(piece)
    return list(groups.items())


def _rows_of(rows: npt.NDArray[np.int64], pieces: Sequence[Piece], columns: Mapping[Piece, Any]) -> Any:
    """Rows of a row group, ascending, out of the pieces that have them."""
    taken = []
    for piece in pieces:
        first, end = np.searchsorted(rows, [piece.start, piece.stop])
        mine, column = rows[first:end] - piece.start, columns[piece]
        taken.append(column if len(mine) == len(column) and is_all(mine) else column.take(mine))
    return pa.chunked_array([chunk for column in taken for chunk in column.chunks], type=taken[0].type)


def is_all(rows: npt.NDArray[np.int64]) -> bool:
    """Whether these are the numbers from 0 on, one by one."""
    return bool(np.array_equal(rows, np.arange(len(rows))))
