"""A dataset as users hold it: one immutable version, its splits, and random access to samples."""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataplane.catalog import Version
from dataplane.errors import CorruptObject, InvalidArgument, NotFound
from dataplane.formats import tar
from dataplane.formats.index import ShardIndex, read_index
from dataplane.manifest import Part, ShardRow, read_metadata, read_shards
from dataplane.objects import Objects, past_damage
from dataplane.schema import Schema
from dataplane.store import Store

__all__ = ["Dataset", "Sample", "Shard", "Split"]

_INDEXES: Final = 512  # kept in memory a dataset: 10 to 50 kB each


@dataclass(frozen=True, slots=True)
class Sample:
    """One training example: its key, the bytes of its fields, and what its index says about them."""

    key: str
    fields: Mapping[str, bytes]
    metadata: Mapping[str, Any]


class Shard:
    """One shard of a split, and its index, which is fetched when first needed. Thread-safe."""

    def __init__(self, row: ShardRow, indexes: _Indexes) -> None:
        self.row = row
        self._indexes = indexes

    def __len__(self) -> int:
        return self.row.live

    def __repr__(self) -> str:
        return f"Shard({self.row.ref}, {len(self)} samples)"

    @property
    def index(self) -> ShardIndex:
        """Where the samples lie."""
        return self._indexes.get(self.row)

    def rows(self, items: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows of the shard for the items (0 … len - 1) that this version has."""
        return items if self.row.rows is None else self.row.rows[items]


class Split(Sequence[Sample]):
    """A named part of a version: a sequence of samples in source order. Immutable and thread-safe."""

    def __init__(self, dataset: Dataset, name: str, shards: tuple[Shard, ...]) -> None:
        self.dataset = dataset
        self.name = name
        self.shards = shards
        self.counts: npt.NDArray[np.int64] = np.array([len(shard) for shard in shards], np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self.counts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

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
        step = 64
        for start in range(0, len(self), step):
            yield from self.read_many(range(start, min(len(self), start + step)))

    def read_many(self, indices: Sequence[int]) -> list[Sample]:
        """Samples in the order asked for; those of one shard share requests. Every field is checked against its CRC (see `past_damage`)."""
        wanted: dict[int, list[tuple[int, int]]] = {}
        for place, index in enumerate(indices):
            number, row = self._locate(index)
            wanted.setdefault(number, []).append((place, row))
        found: dict[int, Sample] = {}
        for number, places in wanted.items():
            shard, store = self.shards[number], self.dataset.store
            read = partial(tar.read_many, store, shard.row.ref, shard.index, [row for _, row in places])
            fields = past_damage(store, shard.row.ref, read)
            for (place, row), values in zip(places, fields, strict=True):
                found[place] = Sample(shard.index.key(row), values, _metadata(shard.index, row))
        return [found[place] for place in range(len(indices))]

    def _locate(self, index: int) -> tuple[int, int]:
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"{self} has {len(self)} samples; there is none at {index}")
        shard = bisect.bisect_right(self._starts, at) - 1
        row = self.shards[shard].rows(np.array([at - self._starts[shard]]))
        return shard, int(row[0])


class Dataset:
    """One version of a dataset. Opening it reads its tables of shards, never its samples. Immutable and thread-safe."""

    def __init__(self, store: Store, version: Version) -> None:
        self.store = store
        self.version = version
        self._objects = Objects(store)
        self._indexes = _Indexes(self._objects)

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
        rows = [row for _, rows in self.parts for row in rows if row.split == split and row.live]
        return Split(self, split, tuple(Shard(row, self._indexes) for row in rows))

    @cached_property
    def parts(self) -> tuple[tuple[Part, tuple[ShardRow, ...]], ...]:
        """The manifest parts with their shards."""
        return tuple(
            (part, read_shards(self._objects.get(part.shards), where=f"{self.store.url}/{part.shards.path}")) for part in self.version.parts
        )

    def metadata(self, columns: Sequence[str] | None = None) -> Any:
        """The metadata of the samples that this version has, as a `pyarrow.Table` with the column `split` added, or just some columns.

        A column that not every part has is null for the samples of the others.
        """
        tables = [self.part_metadata(part, rows, columns) for part, rows in self.parts]
        if not tables:
            raise NotFound(f"{self} has no samples")
        table = pa.concat_tables(tables, promote_options="default")
        missing = [name for name in columns or () if name not in table.column_names]
        if missing:
            raise InvalidArgument(f"{self} has no metadata {', '.join(missing)}; leave `columns` out to see what it has")
        return table if columns is None else table.select(list(dict.fromkeys(columns)))

    def through(self, store: Store) -> Dataset:
        """The same version, read through another store: a hot tier in front of the lake's."""
        return Dataset(store, self.version)

    def part_metadata(self, part: Part, rows: tuple[ShardRow, ...], columns: Sequence[str] | None) -> Any:
        """What `metadata` gives, of the samples of one of `parts`, which need not have all `columns`."""
        wanted = None if columns is None else sorted({*columns, "shard", "row"} - {"split"})
        table = read_metadata(self._objects.get(part.metadata), where=f"{self.store.url}/{part.metadata.path}", columns=wanted)
        shard, row = (table.column(name).to_numpy() for name in ("shard", "row"))
        keep = np.ones(len(table), bool)
        for number, of in enumerate(rows):
            if of.rows is not None:
                keep[(shard == number) & ~np.isin(row, of.rows)] = False
        names = pa.array([of.split for of in rows], pa.string())
        table = table.append_column("split", names.take(pa.array(shard)) if len(table) else pa.array([], pa.string()))
        table = table.filter(pa.array(keep))
        return table if columns is None else table.select([name for name in dict.fromkeys(columns) if name in table.column_names])


class _Indexes:
    """The indexes of a dataset's shards, the least recently used forgotten first."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._kept: OrderedDict[str, ShardIndex] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, row: ShardRow) -> ShardIndex:
        with self._lock:
            found = self._kept.get(row.index.hex)
            if found is not None:
                self._kept.move_to_end(row.index.hex)
                return found
        index = read_index(self._objects.get(row.index), where=f"{self._objects.store.url}/{row.index.path}")
        if len(index) != row.samples:
            raise CorruptObject(f"{index.where} indexes {len(index)} samples; its shard has {row.samples}; check with: dataplane verify")
        with self._lock:
            self._kept[row.index.hex] = index
            while len(self._kept) > _INDEXES:
                self._kept.popitem(last=False)
        return index


def _metadata(index: ShardIndex, row: int) -> dict[str, Any]:
    images = {name: placed.image for name, placed in index.placed(row).items() if placed.image}
    return {f"{name}.{part}": getattr(image, part) for name, image in images.items() for part in ("width", "height", "orientation")}
