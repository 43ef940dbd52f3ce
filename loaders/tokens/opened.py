"""The shards that a feed has open: their documents as compiled code walks them, and the files of those that lie in a folder."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dataplane.dataset import Split
from dataplane.errors import CorruptObject
from dataplane.formats.parquet_tokens import width
from dataplane.refs import Digest
from dataplane.shards import starts
from dataplane.store.local import LocalStore
from loaders.kernels.tokens import INT32, INT64, SHARD, UINT16, UINT32
from loaders.patience import patiently
from loaders.tokens.bestfit import Packs
from loaders.tokens.documents import TokenColumn, column_of, first_tokens, lengths_of
from loaders.tokens.mapped import Identity, Mapped, mapped

__all__ = ["KINDS", "Groups", "OpenShard", "Opened", "Table"]

KINDS: Final = {np.dtype(np.uint16): UINT16, np.dtype(np.int32): INT32, np.dtype(np.uint32): UINT32, np.dtype(np.int64): INT64}
"""How compiled code calls the types of tokens."""
_OPEN: Final = 4096  # shards at a time: as many files are mapped, and a process may map some sixty thousand
_OPEN_BYTES: Final = 1 << 30  # of what is known of their documents
_DECODED_BYTES: Final = 512 << 20
_AT_ONCE: Final = 16  # shards that are opened side by side, where that means to wait for a store


class Groups:
    """The tokens of row groups that had to be decoded, the least recently used forgotten first. Thread-safe."""

    def __init__(self, limit_bytes: int = _DECODED_BYTES) -> None:
        self._limit = limit_bytes
        self._held: OrderedDict[tuple[int, int], npt.NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """What is kept."""
        return self._bytes

    def get(self, number: int, group: int, decode: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Those of a row group of shard `number`."""
        with self._lock:
            found = self._held.get((number, group))
            if found is not None:
                self._held.move_to_end((number, group))
                return found
        found = decode()
        self.put(number, group, found)
        return found

    def put(self, number: int, group: int, tokens: npt.NDArray[Any]) -> None:
        """Keep the tokens of a row group."""
        with self._lock:
            if (number, group) not in self._held:
                self._held[number, group] = tokens
                self._bytes += tokens.nbytes
            while self._bytes > self._limit and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].nbytes


@dataclass(frozen=True, slots=True, eq=False)
class OpenShard:
    """One shard: `rows` int64 [documents] of those that the version wants, None for all; the arrays that `SHARD` has the addresses of.

    In a folder it is the file `path`, perhaps mapped, and `checked` uint8 [groups] says which of its row groups have passed their
    checksums: these are `ready` where it is mapped.
    """

    column: TokenColumn
    rows: npt.NDArray[np.int64] | None
    begin: npt.NDArray[np.int64]
    stored: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]
    ready: npt.NDArray[np.uint8]
    checked: npt.NDArray[np.uint8]
    kind: int
    path: str | None
    file: Mapped | None
    packs: Packs | None

    @property
    def nbytes(self) -> int:
        """What it takes up, about."""
        packed = 0 if self.packs is None else self.packs.pieces.nbytes + self.packs.starts.nbytes
        lengths = self.stored.nbytes if self.column.lengths is None else 2 * self.column.lengths.nbytes  # and the index that has them
        return self.begin.nbytes + self.stored.nbytes + self.first.nbytes + self.at.nbytes + lengths + packed

    def key(self, token: int) -> str:
        """The key of the document that has this token of the shard."""
        document = int(np.searchsorted(self.stored, token, "right")) - 1  # the last that begins there: those before it are empty
        return self.column.index.key(document if self.rows is None else int(self.rows[document]))

    def about(self) -> tuple[int, ...]:
        """Its row in a table of `SHARD`."""
        packs = (0, 0) if self.packs is None else (self.packs.starts.ctypes.data, self.packs.pieces.ctypes.data)
        documents = len(self.stored), self.begin.ctypes.data, self.stored.ctypes.data
        groups = len(self.at), self.first.ctypes.data, self.at.ctypes.data, self.ready.ctypes.data
        return (*documents, *groups, self.kind, *packs)


class Table:
    """Open shards by their numbers. It only grows; whoever reads through it holds it, and so its files and arrays."""

    def __init__(self, shards: int) -> None:
        self.rows = np.zeros(shards, SHARD)
        self.is_open = np.zeros(shards, bool)
        self.shards: dict[int, OpenShard] = {}
        self.nbytes = 0

    def add(self, number: int, shard: OpenShard) -> None:
        """An open shard, unless it is there."""
        if number not in self.shards:
            self.shards[number] = shard
            self.nbytes += shard.nbytes
            self.rows[number] = shard.about()
            self.is_open[number] = True


class Opened:
    """Opens the shards of a split when they are first needed, and forgets all of them when there are too many. Thread-safe.

    `totals` int64 [shards] is what each is to have, `behind` the places that each document has behind its tokens; `pack` makes the packs of
    documents of some lengths, where there are any.
    """

    def __init__(
        self,
        split: Split,
        field: str,
        *,
        totals: npt.NDArray[np.int64],
        behind: int,
        pack: Callable[[npt.NDArray[np.int64]], Packs] | None,
    ) -> None:
        self.split = split
        self.groups = Groups()
        self._field = field
        self._totals = totals
        self._behind = behind
        self._pack = pack
        self._lock = threading.Lock()
        self._table = Table(len(split.shards))
        self._checked: dict[tuple[int, Identity], npt.NDArray[np.uint8]] = {}  # by shard and mapped file: `OpenShard.checked`

    def table(self, numbers: npt.NDArray[np.int64]) -> Table:
        """A table with (at least) the shards `numbers`. Raises what opening one raises."""
        table = self._table
        if table.is_open[numbers].all():
            return table
        missing = [number for number in np.unique(numbers).tolist() if not table.is_open[number]]
        found = self._all(missing)
        with self._lock:
            table = self._table
            if len(table.shards) + len(found) > _OPEN or table.nbytes > _OPEN_BYTES:
                before, table = table, Table(len(table.rows))
                for number in numbers.tolist():
                    if number in before.shards:
                        table.add(number, before.shards[number])
            for number, shard in zip(missing, found, strict=True):
                table.add(number, shard)
            self._table = table
        return table if table.is_open[numbers].all() else self.table(numbers)

    def _all(self, numbers: Sequence[int]) -> list[OpenShard]:
        if len(numbers) < 2 or isinstance(self.split.dataset.store, LocalStore):
            return [patiently(lambda number=number: self._open(number)) for number in numbers]  # type: ignore[misc]
        with ThreadPoolExecutor(min(_AT_ONCE, len(numbers)), thread_name_prefix="dataplane-tokens") as threads:
            return list(threads.map(lambda number: patiently(lambda: self._open(number)), numbers))

    def _open(self, number: int) -> OpenShard:
        shard = self.split.shards[number]
        column = column_of(shard, self._field)
        lengths = lengths_of(column) if column.values is not None else self._decoded(number, column)
        rows = shard.row.rows
        mine = lengths if rows is None else lengths[rows]
        if int(mine.sum()) != self._totals[number]:
            raise CorruptObject(
                f"{column.layout.where}: the documents of field {self._field!r} have {int(mine.sum())} tokens, {self._totals[number]} were "
                "counted before; there may be nulls among them: see with dataplane verify, or ingest its source again"
            )
        stored = starts(lengths)[:-1]
        path = self._path(column)
        file = None if path is None else mapped(path, column.ref.size)
        none = np.zeros(column.layout.groups, np.uint8)
        checked = none.copy() if file is None else self._checked.setdefault((number, file.identity), none)
        return OpenShard(
            column,
            rows,
            starts(mine + self._behind),
            np.ascontiguousarray(stored if rows is None else stored[rows]),
            np.ascontiguousarray(first_tokens(column.layout, lengths)),
            np.zeros(column.layout.groups, np.int64) if column.values is None else column.values + (file.address if file else 0),
            none if file is None else checked,
            checked,
            _kind(column),
            path,
            file,
            None if self._pack is None else self._pack(mine),
        )

    def _decoded(self, number: int, column: TokenColumn) -> npt.NDArray[np.int64]:
        """The lengths of a shard whose tokens are decoded; what of these fits is kept for later."""
        found = [np.zeros(0, np.int64)]
        for group in range(column.layout.groups):
            if not column.layout.is_empty(group):
                lengths, tokens = column.decode(group)
                self.groups.put(number, group, tokens)
                found.append(lengths)
        return np.concatenate(found)

    def _path(self, column: TokenColumn) -> str | None:
        """The file whose bytes are the shard's tokens, where it lies in a folder."""
        store, ref = self.split.dataset.store, column.ref
        if column.values is None or not isinstance(store, LocalStore) or not isinstance(ref, Digest):
            return None
        return os.path.join(store.root, ref.path)


def _kind(column: TokenColumn) -> int:
    """How the tokens of a file lie there: Parquet has whole numbers of four and of eight bytes."""
    if not column.layout.groups:
        return INT32
    if width(column.layout.metadata.row_group(0).column(column.leaf)) == np.dtype(np.int64).itemsize:
        return INT64
    return UINT32 if str(column.type) == "uint32" else INT32
