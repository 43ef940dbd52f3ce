"""Reading Parquet shards: samples, tables and arrays of the rows and fields that are wanted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataplane.errors import CorruptObject, NotFound
from dataplane.formats.index import ShardIndex
from dataplane.formats.parquet_cache import Cache
from dataplane.formats.parquet_columns import Columns, is_all
from dataplane.formats.parquet_plan import Layout, Pick, gaps, parse_footer, pick
from dataplane.formats.parquet_values import array, to_values
from dataplane.formats.parquet_write import CHECKSUMS, FOOTER, KEY_COLUMN, KEYS
from dataplane.formats.tar import crc32c
from dataplane.objects import Objects
from dataplane.ranges import Span
from dataplane.refs import ObjectRef

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Reader"]

CACHE_BYTES: Final = 256 << 20


class Reader:
    """The `ShardReader` of a Parquet file, of the lake or adopted. Thread-safe; it holds no file.

    The unit of reading is a column chunk: one field of one row group. What is read is checked against the checksums of the index; of an
    adopted file that nobody has read through yet, against those of its pages, if it has any. Of such a file only the pages that hold the
    wanted rows are read, where its row groups are large and it has a page index; without one a sample costs its row group. `cache_bytes`:
    of decoded columns that this reader keeps for itself; None for what all others of the process keep together.
    """

    def __init__(self, objects: Objects, ref: ObjectRef, index: ShardIndex, *, cache_bytes: int | None = None) -> None:
        if FOOTER not in index.sections:
            raise CorruptObject(f"{index.where} is not the index of a Parquet shard: it holds no footer; make it anew")
        layout = parse_footer(index.sections[FOOTER], size=ref.size, where=objects.where(ref))
        if layout.rows != len(index):
            raise CorruptObject(
                f"{index.where} has {len(index)} keys, and {layout.where} has {layout.rows} rows; they are not of one shard"
            )
        self._keys_from = index.sections.get(KEYS, b"").decode()
        self._columns = Columns(objects, ref, layout, _crcs(index, layout), _SHARED if cache_bytes is None else Cache(cache_bytes))
        self._index = index
        self.fields = tuple(sorted(name for name in layout.fields if name != KEY_COLUMN or self._keys_from != KEY_COLUMN))

    def __len__(self) -> int:
        return len(self._index)

    @property
    def layout(self) -> Layout:
        """Where its values lie."""
        return self._columns.layout

    def check_chunk(self, group: int, leaf: int, data: Buffer) -> None:
        """Check the bytes of a column chunk as reading does. Raises `CorruptObject`."""
        self._columns.check(group, leaf, data)

    @property
    def schema(self) -> pa.Schema:
        """The columns of the file."""
        return self._columns.layout.schema

    def keys(self) -> list[str]:
        """The keys of the samples, in the shard's order."""
        return self._index.keys()

    def read(self, row: int, fields: Sequence[str] | None = None) -> dict[str, Any]:
        """`read_many` of one row."""
        return self.read_many([row], fields)[0]

    def read_many(self, rows: Sequence[int], fields: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Samples in the order asked for, or just some of their fields; those of one row group share its decoding.

        Values are Python's; lists of numbers are read-only arrays. Null is absent. Raises `NotFound`, `CorruptObject`, `SourceChanged`.
        """
        picks, order, names = self._plan(rows, fields)
        samples: list[dict[str, Any]] = [{} for _ in order]
        at = 0
        for table in self._columns.take(picks, names):
            places = order[at : at + len(table)].tolist()
            at += len(table)
            for name in names:
                for place, value in zip(places, self._values(table, name), strict=True):
                    if value is not None:
                        samples[place][name] = value
        return samples

    def read_table(self, rows: Sequence[int] | None = None, fields: Sequence[str] | None = None) -> pa.Table:
        """Rows in the order asked for (None: all) as a table, without a detour through Python values. Raises as `read_many` does."""
        picks, order, names = self._plan(range(len(self)) if rows is None else rows, fields)
        empty = pa.schema([self.schema.field(name) for name in names]).empty_table()
        tables = [table.cast(empty.schema) for table in self._columns.take(picks, names)]
        table = pa.concat_tables(tables) if tables else empty
        return table if is_all(order) else table.take(np.argsort(order))

    def read_columns(self, rows: Sequence[int] | None = None, fields: Sequence[str] | None = None) -> dict[str, npt.NDArray[Any]]:
        """Rows in the order asked for as one array a field, samples along the first axis (see `array`)."""
        table = self.read_table(rows, fields)
        return {name: array(table.column(name)) for name in table.column_names}

    def verify(self) -> None:
        """Read everything, decode it and check it: each column chunk, the keys, and what lies between (footer, page index)."""
        layout, columns = self._columns.layout, self._columns
        keys = self.keys()
        for group, table in columns.walk(list(layout.fields)):
            for name in layout.fields:
                self._values(table, name)
            expected = keys[int(layout.starts[group]) : int(layout.starts[group + 1])]
            if self._keys_from and [str(key) for key in table.column(self._keys_from).to_pylist()] != expected:
                raise CorruptObject(
                    f"{layout.where}: field {self._keys_from!r}, row group {group}: keys are not those of {self._index.where}"
                )
        tail = self._index.sections[FOOTER]
        rest = columns.read([Span(layout.size - len(tail), layout.size), *gaps(layout.chunks(), layout.size)])
        if rest[0] != tail:
            raise CorruptObject(f"{layout.where}: the footer is not the one that {self._index.where} holds")
        if columns.crcs is not None and crc32c(b"".join(rest[1:])) != columns.crcs[-1]:
            raise CorruptObject(f"{layout.where}: what lies between its column chunks fails its checksum; no sample is in there")

    def _plan(self, rows: Sequence[int], fields: Sequence[str] | None) -> tuple[list[Pick], npt.NDArray[np.int64], list[str]]:
        names = list(self.fields if fields is None else dict.fromkeys(fields))
        for name in names:
            if name not in self.fields:
                raise NotFound(f"{self._columns.layout.where} has no field {name!r}; it has {', '.join(self.fields) or 'none'}")
        wanted = np.asarray(rows, np.int64)
        for row in (wanted.min(), wanted.max()) if len(wanted) else ():
            if not 0 <= row < len(self):
                raise NotFound(f"{self._columns.layout.where} has no row {row}; it has {len(self)}")
        picks, order = pick(self._columns.layout.starts, wanted)
        return (picks if names else []), order, names

    def _values(self, table: pa.Table, name: str) -> list[Any]:
        try:
            return to_values(table.column(name))
        except (pa.ArrowException, ValueError) as error:  # text that is not UTF-8; times that Python does not have
            where = self._columns.layout.where
            raise CorruptObject(
                f"{where}: field {name!r} holds a value that is not of its type {table.schema.field(name).type}: {error}"
            ) from error


_SHARED: Final = Cache(CACHE_BYTES)
os.register_at_fork(after_in_child=_SHARED.clear)


def _crcs(index: ShardIndex, layout: Layout) -> npt.NDArray[np.uint32] | None:
    if CHECKSUMS not in index.sections:
        return None
    section = index.sections[CHECKSUMS]
    if len(section) != 4 * (layout.groups * layout.leaves + 1):
        raise CorruptObject(f"{index.where}: {len(section)} bytes of checksums for {layout.groups} row groups of {layout.leaves} columns")
    return np.frombuffer(section, "<u4")
