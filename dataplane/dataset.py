"""A dataset as users hold it: one immutable version, its splits, and random access to samples."""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataplane.aside import Aside
from dataplane.catalog import Part, Version
from dataplane.errors import CorruptObject, InvalidArgument, NotFound
from dataplane.formats import open_shard
from dataplane.formats.index import ShardIndex, read_index
from dataplane.formats.protocol import ShardReader, Value
from dataplane.manifest import Groups, open_shards, read_metadata
from dataplane.memory import keep_freed_memory
from dataplane.objects import Objects, past_damage
from dataplane.refs import Digest, Foreign, ObjectRef
from dataplane.schema import Schema
from dataplane.shards import Piece, ShardRow, Shards, starts
from dataplane.store import Store
from dataplane.store.local import LocalStore

if TYPE_CHECKING:
    from dataplane.formats.tar import Reader as TarReader

__all__ = ["Dataset", "Sample", "Shard", "Split"]

A = TypeVar("A")
B = TypeVar("B")

_INDEXES: Final = 512  # kept in memory a dataset: 10 to 50 kB each where samples are files
_INDEX_BYTES: Final = 256 << 20  # of them: one of a million rows of a table has tens of megabytes
_SHARDS_KEPT: Final = 4096  # rows of the manifest made into objects: about 1 kB each
_AT_ONCE: Final = 8  # requests for different objects
_TOGETHER: Final = 256  # samples that `each` looks up at once: half as many files may be open meanwhile
_AT_HAND: Final = 64  # samples that `each` holds where it cannot read one after the other
_TABLE_BYTES: Final = 16 << 20  # of shards, of a version far away: more is put aside


@dataclass(frozen=True, slots=True)
class Sample:
    """One training example: its key, the values of its fields (see `formats.protocol.Value`), and what its index says about them."""

    key: str
    fields: Mapping[str, Value]
    metadata: Mapping[str, Any]


class Shard:
    """One shard of a split. What says where its samples lie is fetched when first needed. Thread-safe."""

    def __init__(self, row: ShardRow, opened: _Opened) -> None:
        self.row = row
        self._opened = opened
        self._first = row.pieces[0]

    def __len__(self) -> int:
        return self.row.live

    def __repr__(self) -> str:
        return f"Shard({self.row.ref}, {len(self)} samples)"

    @property
    def index(self) -> ShardIndex:
        """Where the samples lie in its first object."""
        return self._opened.index(self.row, self._first)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields that its objects hold, sorted."""
        return tuple(sorted({name for piece in self.row.pieces for name in self._opened.reader(self.row, piece).fields}))

    def rows(self, items: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows of the shard for the items (0 … len - 1) that this version has."""
        return items if self.row.rows is None else self.row.rows[items]

    def read_many(self, rows: Sequence[int], fields: Sequence[str] | None = None) -> list[dict[str, Value]]:
        """The fields of the samples in these rows, from all its objects, in the order asked for."""
        samples: list[dict[str, Value]] = [{} for _ in rows]
        readers = self._readers(fields)
        for reader, piece in zip(readers, self.row.pieces, strict=True):
            mine = None if fields is None else [name for name in fields if name in reader.fields]
            if mine is None or mine:
                read = partial(reader.read_many, rows, mine)
                for sample, values in zip(samples, past_damage(self._opened.objects.store, piece.ref, read), strict=True):
                    sample.update(values)
        return samples

    def holding(self, field: str) -> tuple[Piece, ShardIndex, ShardReader]:
        """Its object that has a field. Raises `NotFound`."""
        self._readers([field])
        piece = next(piece for piece in self.row.pieces if field in self._opened.reader(self.row, piece).fields)
        return piece, self._opened.index(self.row, piece), self._opened.reader(self.row, piece)

    @property
    def reads_singly(self) -> bool:
        """Whether `each` works: its samples are files in one tar of a lake that is a folder."""
        row = self.row
        in_folder = isinstance(row.ref, Digest) and isinstance(self._opened.objects.store, LocalStore)
        return in_folder and row.format == "tar" and len(row.pieces) == 1

    def each(self, rows: Sequence[int], fields: Sequence[str] | None = None) -> Iterator[dict[str, Value]]:
        """What `read_many` gives, each sample read when it is asked for; only where it `reads_singly`."""
        (reader,) = self._readers(fields)
        return cast("TarReader", reader).each(rows, fields)

    def _readers(self, fields: Sequence[str] | None) -> list[ShardReader]:
        """Of its objects. Raises `NotFound` where none has one of the fields."""
        readers = [self._opened.reader(self.row, piece) for piece in self.row.pieces]
        if fields:
            have = {name for reader in readers for name in reader.fields}
            for name in fields:
                if name not in have:
                    raise NotFound(f"{self.row.ref} has no field {name!r}; it has {', '.join(sorted(have))}")
        return readers


class Split(Sequence[Sample]):
    """A named part of a version: a sequence of samples in source order. Immutable and thread-safe.

    `counts` and `sizes` are int64 [shards]: the samples that the version wants of each shard, and the bytes of its first object.
    """

    def __init__(self, dataset: Dataset, name: str, places: Sequence[tuple[Shards, npt.NDArray[np.int32]]], opened: _Opened) -> None:
        self.dataset = dataset
        self.name = name
        self.counts: npt.NDArray[np.int64] = _joined([shards.live[rows] for shards, rows in places])
        self._samples = int(self.counts.sum())
        self._tables = places
        self.shards: Sequence[Shard] = _ShardList(places, opened)
        self._keys: _Keys | None = None

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Of the first object of each shard, in bytes."""
        return _joined([shards.sizes[rows] for shards, rows in self._tables])

    @cached_property
    def tokens(self) -> npt.NDArray[np.int64]:
        """Of each shard's token column (see `formats.parquet_tokens`), as far as the manifest knows: -1 where it does not."""
        return _joined([shards.tokens[rows] for shards, rows in self._tables])

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        """The first item of each shard, and how many there are."""
        return starts(self.counts)

    def __len__(self) -> int:
        return self._samples

    def __str__(self) -> str:
        return f"{self.dataset}/{self.name}"

    def __repr__(self) -> str:
        return f"Split({str(self)!r}, {len(self)} samples in {len(self.shards)} shards)"

    def __getitem__(self, index: Any) -> Any:
        """The sample at `index`, or a list of them for a slice."""
        if isinstance(index, slice):
            return self.read_many(range(*index.indices(len(self))))
        return self.read_many([index])[0]

    def __iter__(self) -> Iterator[Sample]:
        return self.each(range(len(self)))

    def key(self, key: str) -> Sample:
        """The sample with this key. The first call reads the metadata's keys, later ones cost what `self[i]` does. Raises `NotFound`."""
        return self.read_many([self.index_of(key)])[0]

    def index_of(self, key: str) -> int:
        """Where the sample with this key stands in the split (see `key`)."""
        if self._keys is None:
            self._keys = _Keys.of(self)
        found = self._keys.find(self, key)
        if found is None:
            raise NotFound(f"{self} has no sample {key!r}")
        return found

    def read_many(self, indices: Sequence[int], fields: Sequence[str] | None = None) -> list[Sample]:
        """Samples in the order asked for, or just some of their fields. Those of one shard share requests, several shards are read at once,
        and everything is checked as its format does it (see `past_damage`). A field that a sample lacks, or all of its shard, is absent
        from it; one that the dataset does not have is `NotFound`."""
        runs, places = self._runs(indices)
        found: list[Any] = [None] * len(places)
        read = partial(self._read, fields=self._known(fields))
        for run, samples in zip(runs, self._by_shard(read, runs), strict=True):
            for place, sample in zip(run.places.tolist(), samples, strict=True):
                found[place] = sample
        return found

    def each(self, indices: Sequence[int], fields: Sequence[str] | None = None) -> Iterator[Sample]:
        """What `read_many` gives, one sample after the other, for whoever does not keep them. Files of a lake in a folder are read when it
        is their turn: then memory of one that is let go of serves the next, still in the processor's cache. Until it ends or is dropped,
        it may hold 128 files open. Of other stores and formats, and of what was adopted, 64 samples are read at once. What `read_many`
        raises is raised where its sample's turn comes. An iterator is for one thread; several may have one each."""
        wanted = self._known(fields)
        for start in range(0, len(indices), _TOGETHER):
            runs, places = self._runs(indices[start : start + _TOGETHER])
            if not all(run.shard.reads_singly for run in runs):
                for few in range(0, len(places), _AT_HAND):
                    yield from self.read_many(places[few : few + _AT_HAND].tolist(), fields)
                continue
            keep_freed_memory()
            turns: list[Any] = [None] * len(places)
            for run in runs:
                samples = self._one_by_one(run, wanted)
                for place in run.places.tolist():
                    turns[place] = samples
            for samples in turns:
                yield next(samples)

    def _known(self, fields: Sequence[str] | None) -> _Fields:
        return _Fields(fields, frozenset(field.name for field in self.dataset.schema.fields))

    def _runs(self, indices: Sequence[int]) -> tuple[list[_Run], npt.NDArray[np.int64]]:
        """Samples by shard, and where they are, counted from the start."""
        places = self._from_start(indices)
        numbers = np.searchsorted(self._starts, places, "right") - 1
        order = np.argsort(numbers, kind="stable")
        cuts = [0, *(np.flatnonzero(np.diff(numbers[order])) + 1).tolist(), len(order)] if len(order) else []
        runs = []
        for start, stop in pairwise(cuts):
            which = order[start:stop]
            number = int(numbers[which[0]])
            shard = self.shards[number]
            runs.append(_Run(shard, shard.rows(places[which] - self._starts[number]).tolist(), which))
        return runs, places

    def _one_by_one(self, run: _Run, fields: _Fields) -> Iterator[Sample]:
        index, values = run.shard.index, run.shard.each(run.rows, fields.of(run.shard))
        for key, told in zip(index.keys_at(run.rows), index.described(run.rows), strict=True):
            yield Sample(key, next(values), told)

    def _read(self, run: _Run, *, fields: _Fields) -> list[Sample]:
        values, index = run.shard.read_many(run.rows, fields.of(run.shard)), run.shard.index
        return list(map(Sample, index.keys_at(run.rows), values, index.described(run.rows)))

    def _by_shard(self, read: Callable[[_Run], B], runs: Sequence[_Run]) -> list[B]:
        """What `read` gives of each shard. Of a folder one after the other: there, threads cost more than they save."""
        if not self._is_near(runs):
            return _side_by_side(read, runs)
        keep_freed_memory()
        return [read(run) for run in runs]

    def _is_near(self, runs: Sequence[_Run]) -> bool:
        """All of it lies in folders of this machine, without a tier in front."""
        return isinstance(self.dataset.store, LocalStore) and not any(_is_remote(run.shard.row) for run in runs)

    def _from_start(self, indices: Sequence[int]) -> npt.NDArray[np.int64]:
        """Indices as they count from the start. Raises `IndexError`."""
        asked = np.fromiter(map(operator.index, indices), np.int64, len(indices))
        if not len(asked):
            return asked
        least, most = int(asked.min()), int(asked.max())
        if least < -len(self) or most >= len(self):
            raise IndexError(f"{self} has {len(self)} samples; there is none at {most if most >= len(self) else least}")
        return np.where(asked < 0, asked + len(self), asked) if least < 0 else asked

    def _locate(self, index: int) -> tuple[int, int]:
        """The shard of a sample, and its row there."""
        (place,) = self._from_start([index]).tolist()
        shard = int(np.searchsorted(self._starts, place, "right")) - 1
        row = self.shards[shard].rows(np.array([place - self._starts[shard]]))
        return shard, int(row[0])


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Samples of one shard: the rows they have there, and which ones they are of those that were asked for."""

    shard: Shard
    rows: list[int]
    places: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields asked for (None: all), and those that the dataset has."""

    asked: Sequence[str] | None
    known: frozenset[str]

    def of(self, shard: Shard) -> list[str] | None:
        """What to ask of a shard: a field that the dataset has, and this shard does not, is nothing to complain of."""
        if self.asked is None:
            return None
        return [name for name in self.asked if name not in self.known or name in shard.fields]


class Dataset:
    """One version of a dataset. Opening it reads its tables of shards, never its samples. Immutable and thread-safe."""

    def __init__(self, store: Store, version: Version) -> None:
        self.store = store
        self.version = version
        self._objects = Objects(store)
        self._opened = _Opened(self._objects)

    def __str__(self) -> str:
        return str(self.version)

    def __repr__(self) -> str:
        return f"Dataset({str(self)!r}, {', '.join(f'{name}: {c.samples}' for name, c in self.version.splits.items())})"

    @property
    def name(self) -> str:
        return self.version.name

    @property
    def number(self) -> int:
        """The version's number."""
        return self.version.number

    @property
    def schema(self) -> Schema:
        return self.version.schema

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return tuple(self.version.splits)

    def __getitem__(self, split: str) -> Split:
        if split not in self.version.splits:
            raise NotFound(f"{self} has no split {split!r}; it has {', '.join(self.splits) or 'none'}")
        return Split(self, split, [(shards, shards.in_split(split)) for _, shards in self.parts], self._opened)

    @cached_property
    def parts(self) -> tuple[tuple[Part, Shards], ...]:
        """The manifest parts with their shards."""
        parts, groups = self.version.parts, Groups()
        local = self.store if isinstance(self.store, LocalStore) else None
        aside = _aside(sum(part.shards.size for part in parts)) if local is None else None

        def fetch(part: Part) -> Callable[[], Any]:
            """What opens the table of a part, which was checked."""
            data = self._objects.get(part.shards)
            path = local.local_path(part.shards) if local else None
            if path is not None:
                return partial(pa.OSFile, str(path))
            if aside is not None:
                with suppress(OSError):  # no room
                    return aside.put(data)
            return partial(pa.BufferReader, pa.py_buffer(data))

        # A folder has nothing to wait for. And each thread's heap keeps what passed through it: tables are decoded in this one.
        sources = map(fetch, parts) if local else _side_by_side(fetch, parts)
        where = self._objects.where
        return tuple((part, open_shards(source, groups, where=where(part.shards))) for part, source in zip(parts, sources, strict=True))

    def metadata(self, columns: Sequence[str] | None = None) -> Any:
        """The metadata of the samples that this version has, as a `pyarrow.Table` with the column `split` added, or just some columns.

        A column that not every part has is null for the samples of the others.
        """
        tables = [self.part_metadata(part, rows, columns) for part, rows in self.parts]
        if not tables:
            raise NotFound(f"{self} has no samples")
        table = pa.concat_tables(tables, promote_options="permissive")
        missing = [name for name in columns or () if name not in table.column_names]
        if missing:
            raise InvalidArgument(f"{self} has no metadata {', '.join(missing)}; leave `columns` out to see what it has")
        return table if columns is None else table.select(list(dict.fromkeys(columns)))

    def through(self, store: Store) -> Dataset:
        """The same version, read through another store: a hot tier in front of the lake's."""
        return Dataset(store, self.version)

    def part_metadata(self, part: Part, shards: Shards, columns: Sequence[str] | None) -> Any:
        """What `metadata` gives, of the samples of one of `parts`, which need not have all `columns`."""
        wanted = None if columns is None else sorted({*columns, "shard", "row"} - {"split"})
        table = read_metadata(self._objects.get(part.metadata), where=f"{self.store.url}/{part.metadata.path}", columns=wanted)
        shard, row = (table.column(name).to_numpy() for name in ("shard", "row"))
        table = table.append_column("split", shards.split_of(shard))
        if shards.live.sum() < len(table):
            table = table.filter(pa.array(shards.wants(shard, row)))
        return table if columns is None else table.select([name for name in dict.fromkeys(columns) if name in table.column_names])


class _ShardList(Sequence[Shard]):
    """The shards of a split, made when somebody looks at them; the last ones are kept."""

    def __init__(self, places: Sequence[tuple[Shards, npt.NDArray[np.int32]]], opened: _Opened) -> None:
        self._places = places
        self._starts = starts([len(rows) for _, rows in places])
        self._opened = opened
        self._shard = lru_cache(_SHARDS_KEPT)(self._make)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, slice):
            return tuple(self._shard(number) for number in range(len(self))[item])
        return self._shard(range(len(self))[item])

    def _make(self, number: int) -> Shard:
        part = int(np.searchsorted(self._starts, number, "right")) - 1
        shards, rows = self._places[part]
        return Shard(shards[int(rows[number - self._starts[part]])], self._opened)


class _Opened:
    """The indexes and readers of a dataset's shards, the least recently used forgotten first."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._kept: OrderedDict[tuple[ObjectRef, Digest], tuple[ShardIndex, ShardReader | None]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def index(self, row: ShardRow, piece: Piece) -> ShardIndex:
        found = self._find(piece)
        return found[0] if found else self._open(row, piece)[0]

    def reader(self, row: ShardRow, piece: Piece) -> ShardReader:
        index, reader = self._find(piece) or self._open(row, piece)
        if reader is None:
            reader = open_shard(piece.format, self.objects, piece.ref, index)
            self._keep(piece, index, reader)
        return reader

    def _find(self, piece: Piece) -> tuple[ShardIndex, ShardReader | None] | None:
        with self._lock:
            found = self._kept.get((piece.ref, piece.index))
            if found is not None:
                self._kept.move_to_end((piece.ref, piece.index))
            return found

    def _open(self, row: ShardRow, piece: Piece) -> tuple[ShardIndex, ShardReader | None]:
        index = read_index(self.objects.get(piece.index), where=f"{self.objects.store.url}/{piece.index.path}")
        if len(index) != row.samples:
            raise CorruptObject(f"{index.where} indexes {len(index)} samples; its shard has {row.samples}; check with: dataplane verify")
        self._keep(piece, index, None)
        return index, None

    def _keep(self, piece: Piece, index: ShardIndex, reader: ShardReader | None) -> None:
        with self._lock:
            self._bytes += 0 if (piece.ref, piece.index) in self._kept else piece.index.size
            self._kept[piece.ref, piece.index] = index, reader
            while len(self._kept) > _INDEXES or (len(self._kept) > 1 and self._bytes > _INDEX_BYTES):
                (_, forgotten), _ = self._kept.popitem(last=False)
                self._bytes -= forgotten.size


class _Keys:
    """Where the keys of a split stand: 16 bytes a sample. Equal hashes are told apart by reading the keys."""

    def __init__(self, hashes: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> None:
        self._hashes = hashes
        self._places = places

    @classmethod
    def of(cls, split: Split) -> _Keys:
        parts = zip(split.dataset.parts, split._tables, strict=True)
        hashes = _joined([_hashes(split, part, shards, int(shards.live[rows].sum())) for (part, shards), (_, rows) in parts if len(rows)])
        places = np.argsort(hashes, kind="stable")
        return cls(hashes[places], places)

    def find(self, split: Split, key: str) -> int | None:
        first = np.searchsorted(self._hashes, _hash(key), "left")
        last = np.searchsorted(self._hashes, _hash(key), "right")
        for place in self._places[first:last].tolist():
            number, row = split._locate(place)
            if split.shards[number].index.key(row) == key:
                return int(place)
        return None


_hash = hash  # of this process alone: it differs from one to the next


def _hashes(split: Split, part: Part, shards: Shards, live: int) -> npt.NDArray[np.int64]:
    """The hashes of the keys of a part's samples in a split, in the split's order."""
    import pyarrow.compute as pc  # nothing else of a dataset needs it

    table = split.dataset.part_metadata(part, shards, ("split", "shard", "row", "key"))
    table = table.filter(pc.equal(table.column("split"), split.name))
    if len(table) != live:
        where = f"{split.dataset.store.url}/{part.metadata.path}"
        raise CorruptObject(f"{where} lists {len(table)} samples of {split}, which has {live} there; check with: dataplane verify")
    keys = table.column("key").take(pa.array(np.lexsort([table.column(name).to_numpy() for name in ("row", "shard")])))
    return np.fromiter((_hash(key) for chunk in keys.chunks for key in chunk.to_pylist()), np.int64, live)


def _is_remote(row: ShardRow) -> bool:
    """Whether an object of a shard was adopted where no folder of this machine is."""
    return any(
        isinstance(piece.ref, Foreign) and "://" in piece.ref.url and not piece.ref.url.startswith("file://") for piece in row.pieces
    )


def _aside(size: int) -> Aside | None:
    """Where tables of so many bytes go, if not into memory: those of a million shards have 90 MB."""
    if size <= _TABLE_BYTES:
        return None
    try:
        return Aside()
    except OSError:  # no temporary folder
        return None


def _side_by_side(call: Callable[[A], B], items: Sequence[A]) -> list[B]:
    """`call` of each item, several at once. The first error that comes up in their order is raised."""
    if len(items) < 2:
        return [call(item) for item in items]
    with ThreadPoolExecutor(min(_AT_ONCE, len(items)), thread_name_prefix="dataplane-read") as threads:
        return list(threads.map(call, items))


def _joined(arrays: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)
