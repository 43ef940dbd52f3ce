"""Reading Parquet shards: only the column chunks that the wanted rows and fields are in, checked before anything is decoded."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataplane.errors import CorruptObject, NotFound
from dataplane.formats.index import ShardIndex
from dataplane.formats.parquet_decode import damaged, decoded, opened
from dataplane.formats.parquet_plan import Layout, Pick, batches, gaps, parse_footer, pick
from dataplane.formats.parquet_values import array, to_values
from dataplane.formats.parquet_write import CHECKSUMS, FOOTER, KEY_COLUMN, KEYS
from dataplane.formats.tar import crc32c
from dataplane.objects import Objects
from dataplane.ranges import Span
from dataplane.refs import ObjectRef

__all__ = ["Cache", "Columns", "Reader"]

CACHE_BYTES: Final = 256 << 20
_BATCH_BYTES: Final = 64 << 20  # decoded at a time


class Columns:
    """The columns of a Parquet file, row group by row group. Thread-safe.

    `crcs` are the checksums of its index, None for a file of which nobody has computed them: then those of its pages are checked,
    where its writer put any. Decoded columns of row groups are kept in `cache`.
    """

    def __init__(self, objects: Objects, ref: ObjectRef, layout: Layout, crcs: npt.NDArray[np.uint32] | None, cache: Cache) -> None:
        self.layout = layout
        self.crcs = crcs
        self._objects = objects
        self._ref = ref
        self._cache = cache
        self._mine = object()

    def take(self, picks: Sequence[Pick], names: Sequence[str]) -> Iterator[pa.Table]:
        """The picked rows of each row group in turn. One request for all that is not kept, as long as it stays in bounds."""
        sizes = [self.layout.decoded_bytes(each.group, names) for each in picks]
        for run in batches(sizes, _BATCH_BYTES):
            columns = self._columns([picks[i].group for i in run], names)
            for i in run:
                group = picks[i].group
                table = pa.table({name: columns[group, name] for name in names})
                yield table if len(picks[i].rows) == len(table) and _is_all(picks[i].rows) else table.take(picks[i].rows)

    def read(self, spans: Sequence[Span]) -> list[memoryview]:
        """Bytes of the file. Raises `CorruptObject` where it ends before them."""
        wanted = [span for span in spans if len(span)]
        found = iter(self._objects.ranges(self._ref, starts=[span.start for span in wanted], lengths=[len(span) for span in wanted]))
        pieces = [next(found) if len(span) else memoryview(b"") for span in spans]
        for span, piece in zip(spans, pieces, strict=True):
            if len(piece) != len(span):
                raise CorruptObject(
                    f"{self.layout.where} ends at byte {span.start + len(piece)}; {len(span) - len(piece)} more were expected"
                )
        return pieces

    def walk(self, names: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
        """Columns of each row group in turn, read and checked anew."""
        groups = [group for group in range(self.layout.groups) if not self.layout.is_empty(group)]
        for run in batches([self.layout.decoded_bytes(group, names) for group in groups], _BATCH_BYTES):
            columns = self._fetch([(groups[i], name) for i in run for name in names])
            for group in (groups[i] for i in run):
                yield group, pa.table({name: columns[group, name] for name in names})

    def _columns(self, groups: Sequence[int], names: Sequence[str]) -> dict[tuple[int, str], Any]:
        wanted = [(group, name) for group in groups for name in names]
        found = self._cache.get(self._mine, wanted)
        missing = [each for each in wanted if each not in found]
        if missing:
            fetched = self._fetch(missing)
            self._cache.put(self._mine, fetched)
            found.update(fetched)
        return found

    def _fetch(self, wanted: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Any]:
        """The columns `wanted` (row group and field), in one request."""
        layout = self.layout
        chunks = [(group, leaf) for group, name in wanted for leaf in layout.fields[name]]
        spans = [layout.chunk(group, leaf) for group, leaf in chunks]
        pieces = self._pieces(chunks, spans)
        file = opened(layout, dict(zip((span.start for span in spans), pieces, strict=True)))
        columns = {}
        for group in dict.fromkeys(group for group, _ in wanted):
            names = [name for of, name in wanted if of == group]
            table = decoded(file, layout, group, names)
            columns.update({(group, name): table.column(name) for name in names})
        return columns

    def _pieces(self, chunks: Sequence[tuple[int, int]], spans: Sequence[Span]) -> Sequence[memoryview]:
        pieces = self._objects.ranges(self._ref, starts=[span.start for span in spans], lengths=[len(span) for span in spans])
        for (group, leaf), span, piece in zip(chunks, spans, pieces, strict=True):
            if len(piece) != len(span):
                damaged(self.layout, group, self.layout.field_of(leaf), f"it ends {len(span) - len(piece)} bytes early")
            if self.crcs is not None and crc32c(piece) != self.crcs[group * self.layout.leaves + leaf]:
                damaged(self.layout, group, self.layout.field_of(leaf), "it fails its checksum")
        return pieces


class Reader:
    """The `ShardReader` of a Parquet file, of the lake or adopted. Thread-safe; it holds no file.

    The unit of reading is a column chunk: one field of one row group. What is read is checked against the checksums of the index; of an
    adopted file that nobody has read through yet, against those of its pages, if it has any. A file with large row groups, as others write
    them, is slow to read at random: a sample costs its row group. `cache_bytes`: of decoded columns that this reader keeps for itself; None
    for what all others of the process keep together.
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
        return table if _is_all(order) else table.take(np.argsort(order))

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


class Cache:
    """Decoded columns of row groups of files (any objects stand for those), up to `limit_bytes`, the least recently used first to go; but
    the row group used last is kept whatever its size. 0 keeps nothing. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self.clear()

    def clear(self) -> None:
        """Forget everything, and who holds the lock: for a process that was forked off."""
        self._held: OrderedDict[tuple[object, int, str], Any] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, file: object, wanted: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Any]:
        with self._lock:
            found = {each: self._held[file, *each] for each in wanted if (file, *each) in self._held}
            for each in found:
                self._held.move_to_end((file, *each))
            return found

    def put(self, file: object, columns: Mapping[tuple[int, str], Any]) -> None:
        if not self._limit:
            return
        last = (file, next(reversed(list(columns)))[0])
        with self._lock:
            for each, column in columns.items():
                if (file, *each) not in self._held:
                    self._bytes += column.nbytes
                    self._held[file, *each] = column
            while self._bytes > self._limit and next(iter(self._held))[:2] != last:
                self._bytes -= self._held.popitem(last=False)[1].nbytes


_SHARED: Final = Cache(CACHE_BYTES)
os.register_at_fork(after_in_child=_SHARED.clear)


def _crcs(index: ShardIndex, layout: Layout) -> npt.NDArray[np.uint32] | None:
    if CHECKSUMS not in index.sections:
        return None
    section = index.sections[CHECKSUMS]
    if len(section) != 4 * (layout.groups * layout.leaves + 1):
        raise CorruptObject(f"{index.where}: {len(section)} bytes of checksums for {layout.groups} row groups of {layout.leaves} columns")
    return np.frombuffer(section, "<u4")


def _is_all(rows: npt.NDArray[np.int64]) -> bool:
    """Whether these are the numbers from 0 on, one by one."""
    return bool(np.array_equal(rows, np.arange(len(rows))))
