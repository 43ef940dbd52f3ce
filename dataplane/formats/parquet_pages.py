"""The pages of a large column chunk: where each lies, which ones hold some rows, and a small file of just those, for Arrow to decode.

A file says where its pages are in its offset indexes, which Arrow reads past; so they are read here, out of the footer as it is. Pages of
nested columns begin with a row too, where there is such an index. It has no checksum: whatever in it contradicts the footer or itself
is a `ValueError`, and rows that are counted wrong show when the pages are decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

import numpy as np
import numpy.typing as npt

from dataplane.formats.parquet_thrift import STRUCT, Field, integer, items, list_of, number, struct, write_struct
from dataplane.ranges import Span

__all__ = ["ChunkPages", "FieldPages", "Footer", "field_pages", "parse_pages"]

_MAGIC: Final = b"PAR1"
_LEAST_BYTES: Final = 64 << 10  # pages that are smaller are taken together: each piece costs some work
# Of the footer, and of what it consists of, by the numbers that the format gives them:
_GROUPS, _ROWS = 4, 3
_CHUNKS = 1
_META, _INDEX_AT, _INDEX_BYTES = 3, 4, 5
_KEPT_OF_META: Final = (1, 2, 3, 4, 5, 6)  # type, encodings, path, codec, how many values, their size
_COMPRESSED_BYTES, _DATA_AT = 7, 9
_KEPT_OF_FOOTER: Final = (1, 2, 5, 6, 7)  # version, schema, what Arrow wrote about it, the writer, the order of statistics
_NO_CHUNK: Final = write_struct({2: number(0)})


@dataclass(frozen=True, slots=True, eq=False)
class ChunkPages:
    """Where the pages of a column chunk begin: `rows` are their first rows, and the number of rows at the end; `places` their first bytes,
    and the end of the chunk. What lies between `start` and the first page is the dictionary."""

    start: int
    rows: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]

    def place(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where the pages that begin with these rows lie."""
        return self.places[np.searchsorted(self.rows, rows)]


@dataclass(frozen=True, slots=True, eq=False)
class FieldPages:
    """Where a field of a row group can be cut: the rows with which a page begins in all of its column chunks, from 0 to the number of rows;
    and how many bytes of its column chunks lie before each."""

    rows: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    chunks: tuple[ChunkPages, ...]

    def around(self, rows: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
        """The runs of rows to read for `rows`: those between two cuts, or all where it comes to more than half of the bytes."""
        at = np.unique(np.searchsorted(self.rows, rows, side="right") - 1)
        if 2 * int(self.bytes[0] + (self.bytes[at + 1] - self.bytes[at]).sum()) > self.bytes[-1]:
            return [(0, int(self.rows[-1]))]
        return list(zip(self.rows[at].tolist(), self.rows[at + 1].tolist(), strict=True))

    def spans(self, start: int, stop: int) -> list[tuple[Span, Span]]:
        """Of each column chunk, the bytes of its dictionary and those of the pages with rows [start, stop)."""
        found = []
        for chunk in self.chunks:
            first, end = chunk.place(np.array([start, stop])).tolist()
            found.append((Span(chunk.start, int(chunk.places[0])), Span(first, end)))
        return found


def parse_pages(index: bytes, chunk: Span, rows: int) -> ChunkPages:
    """The pages of a column chunk with so many rows, from its offset index. Raises `ValueError` for one that cannot be right."""
    pages = [struct(page) for page in items(struct(index).get(1))]
    places, sizes, firsts = (np.array([integer(page.get(name)) for page in pages], np.int64) for name in (1, 2, 3))
    ends = np.append(places[1:], chunk.end)
    if not pages or places[0] < chunk.start or np.any(places + sizes != ends) or np.any(sizes <= 0):
        raise ValueError("its pages do not lie side by side in the column chunk")
    if firsts[0] != 0 or np.any(np.diff(firsts, append=rows) <= 0):
        raise ValueError("its pages do not hold the rows one after another")
    return ChunkPages(chunk.start, np.append(firsts, rows), np.append(places, chunk.end))


def field_pages(chunks: Sequence[ChunkPages]) -> FieldPages | None:
    """Where the field that has these column chunks can be cut. None: nowhere."""
    shared = reduce(np.intersect1d, [chunk.rows for chunk in chunks])
    before = sum((chunk.place(shared) - chunk.start for chunk in chunks), np.zeros(len(shared), np.int64))
    kept = [0]
    for i in range(1, len(shared) - 1):
        if before[i] - before[kept[-1]] >= _LEAST_BYTES:
            kept.append(i)
    if len(kept) == 1:
        return None
    kept.append(len(shared) - 1)
    return FieldPages(shared[kept], before[kept], tuple(chunks))


class Footer:
    """The footer of a Parquet file, taken apart as far as it is needed. Thread-safe. Raises `ValueError` for one that is damaged."""

    def __init__(self, tail: bytes) -> None:
        self._fields = struct(tail[:-8])
        self._groups = items(self._fields.get(_GROUPS))
        self._chunks: dict[int, list[bytes]] = {}

    def page_index(self, group: int, leaf: int) -> Span:
        """Where the offset index of a column chunk lies."""
        chunk = self._chunk(group, leaf)
        start = integer(chunk.get(_INDEX_AT))
        return Span(start, start + integer(chunk.get(_INDEX_BYTES)))

    def small_file(self, group: int, parts: Sequence[Mapping[int, Sequence[bytes | memoryview]]], *, rows: int) -> bytes:
        """A file with the same columns, of pages of a row group. Each of `parts` becomes a row group, of which only the given leaves can
        be read: their dictionary and pages. It claims to have `rows`, and has those that are in the pages."""
        body: list[bytes | memoryview] = [_MAGIC]
        at = len(_MAGIC)
        leaves = len(self._of_group(group))
        groups = []
        for part in parts:
            chunks = [_NO_CHUNK] * leaves
            first = at
            for leaf, pages in part.items():
                size = sum(map(len, pages))
                meta = struct(self._chunk(group, leaf)[_META].data)
                meta = {name: meta[name] for name in _KEPT_OF_META} | {_COMPRESSED_BYTES: number(size), _DATA_AT: number(at)}
                chunks[leaf] = write_struct({2: number(0), _META: Field(STRUCT, write_struct(meta))})
                body += pages
                at += size
            groups.append(write_struct({_CHUNKS: list_of(chunks), 2: number(at - first), 3: number(rows)}))
        kept = {name: field for name, field in self._fields.items() if name in _KEPT_OF_FOOTER}
        footer = write_struct(kept | {_ROWS: number(rows * len(parts)), _GROUPS: list_of(groups)})
        return b"".join([*body, footer, len(footer).to_bytes(4, "little"), _MAGIC])

    def _chunk(self, group: int, leaf: int) -> dict[int, Field]:
        return struct(self._of_group(group)[leaf])

    def _of_group(self, group: int) -> list[bytes]:
        if group not in self._chunks:
            self._chunks[group] = items(struct(self._groups[group]).get(_CHUNKS))
        return self._chunks[group]
