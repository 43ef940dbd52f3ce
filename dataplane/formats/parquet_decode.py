"""Decoding of column chunks by Arrow, out of nothing but the bytes that were fetched for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import pyarrow as pa
import pyarrow.parquet as pq

from dataplane.errors import CorruptObject, DataplaneError, InvalidArgument
from dataplane.formats.parquet_plan import Layout

__all__ = ["check_chunks", "damaged", "decoded", "decoded_pages", "opened"]


class _Fetched:
    """A file of which only some pieces are at hand, for Arrow to read from. Asking for anything else is an error."""

    closed = False

    def __init__(self, layout: Layout, pieces: dict[int, memoryview]) -> None:
        self.layout = layout
        self._pieces = pieces
        self._at = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self.layout.size)[whence]
        return self._at

    def read(self, size: int) -> memoryview:
        piece = self._pieces.get(self._at)
        if piece is None or size != len(piece):  # whole chunks are read; the slow way round serves a reader that wants parts
            piece = self._part(size)
        self._at += size
        return piece

    def close(self) -> None:
        pass

    def flush(self) -> None:
        pass

    def _part(self, size: int) -> memoryview:
        for start, piece in self._pieces.items():
            if start <= self._at and self._at + size <= start + len(piece):
                return piece[self._at - start : self._at - start + size]
        raise CorruptObject(f"{self.layout.where}: its pages lead to bytes [{self._at}, {self._at + size}), outside the columns asked for")


class _Asked(Exception):
    """Bytes that Arrow asked for."""


class _Asking(_Fetched):
    def read(self, size: int) -> memoryview:
        raise _Asked(self._at, size)


def opened(layout: Layout, pieces: dict[int, memoryview]) -> pq.ParquetFile:
    """The file, with those of its bytes that are at hand, by where they begin."""
    return _opened(_Fetched(layout, pieces))


def check_chunks(layout: Layout) -> None:
    """Check where a footer that nobody has checked places its column chunks. Raises `CorruptObject`.

    Arrow takes the process down when a broken footer is asked for a chunk's place, but not when it reads one: so it is made to read.
    """
    file = _opened(_Asking(layout, {}))
    for name, leaves in layout.fields.items():
        for group, leaf in ((group, leaf) for group in range(layout.groups) for leaf in leaves if not layout.is_empty(group)):
            try:
                file.reader.read_row_groups([group], column_indices=[leaf], use_threads=False)
            except _Asked as asked:
                start, size = asked.args
                layout.check(group, leaf, start, start + size)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise CorruptObject(
                    f"{layout.where}: field {name!r}, row group {group}: the footer is wrong ({error}); "
                    "the file was cut or changed: write it again, or take it from its source"
                ) from error


def _opened(fetched: _Fetched) -> pq.ParquetFile:
    file = pa.PythonFile(fetched, mode="r")
    return pq.ParquetFile(file, metadata=fetched.layout.metadata, pre_buffer=False, page_checksum_verification=True)


def decoded(file: pq.ParquetFile, layout: Layout, group: int, names: Sequence[str]) -> pa.Table:
    """Fields of a row group. Raises `CorruptObject`, or `InvalidArgument` for what this release of Arrow does not read."""
    leaves = [leaf for name in names for leaf in layout.fields[name]]
    try:
        # By number: names with dots are ambiguous to the interface above this one.
        table = file.reader.read_row_groups([group], column_indices=leaves, use_threads=False)
    except DataplaneError:
        raise
    except pa.ArrowNotImplementedError as error:
        raise InvalidArgument(
            f"{layout.where}: {', '.join(names)} cannot be read here: {error}; write the file again in another way"
        ) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        if len(names) > 1:
            for name in names:  # which of them?
                decoded(file, layout, group, [name])
        damaged(layout, group, ", ".join(names), f"it cannot be decoded ({error})")
    if table.num_rows != layout.rows_in(group):
        damaged(layout, group, ", ".join(names), f"it has {table.num_rows} values")
    return table


def decoded_pages(file: bytes, wanted: Sequence[tuple[int, Sequence[int], int]]) -> list[pa.ChunkedArray | None]:
    """Fields of a small file: each with its row group, its leaves, and the rows that it ought to have. None for one that has more or fewer,
    or cannot be decoded."""
    found: list[pa.ChunkedArray | None] = []
    try:
        reader = pq.ParquetFile(pa.BufferReader(file), pre_buffer=False, page_checksum_verification=True).reader
    except (pa.ArrowException, OSError, ValueError):
        return [None] * len(wanted)
    for group, leaves, rows in wanted:
        try:
            table = reader.read_row_groups([group], column_indices=leaves, use_threads=False)
        except (pa.ArrowException, OSError, ValueError):
            found.append(None)
        else:
            found.append(table.column(0) if table.num_rows == rows else None)
    return found


def damaged(layout: Layout, group: int, name: str, what: str) -> NoReturn:
    """Raise `CorruptObject` for a field of a row group."""
    raise CorruptObject(f"{layout.where}: field {name!r}, row group {group}: {what}; see what else is damaged with: dataplane verify")
