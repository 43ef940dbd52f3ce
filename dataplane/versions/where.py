"""`where`: the samples of a version that a condition is true of, as a view: bitmaps over shards that are there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from dataplane.catalog import SplitCount
from dataplane.dataset import Dataset
from dataplane.errors import InvalidArgument, NotFound
from dataplane.lake import Lake
from dataplane.parts import PartShards, reselected, split_counts
from dataplane.shards import Shards
from dataplane.versions.columns import MetadataPart, columns_of, metadata_parts
from dataplane.versions.condition import Condition
from dataplane.versions.query import database
from dataplane.versions.view import commit_view, find

__all__ = ["Keys", "Predicate", "WhereResult", "where"]

_BATCH: Final = 4096  # rows that become dicts at once

Keys = Iterable[str] | os.PathLike[str]
Predicate = Callable[[Mapping[str, Any]], object]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class WhereResult:
    """What `where` found. `name` and `version` say where it is, None where it was only counted. `of` is the version looked through,
    `missing` the keys that were asked for and are not in it."""

    of: str
    splits: Mapping[str, SplitCount]
    name: str | None = None
    version: int | None = None
    committed: bool = False
    missing: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(count.samples for count in self.splits.values())

    def to_json(self) -> dict[str, Any]:
        """What `dataplane where --json` prints."""
        return {
            "of": self.of,
            "name": self.name,
            "version": self.version,
            "samples": self.samples,
            "splits": {name: count.to_json() for name, count in self.splits.items()},
            "committed": self.committed,
            "missing": list(self.missing),
        }


def where(
    lake: Lake,
    spec: str,
    condition: str | None = None,
    *,
    to: str | None = None,
    keys: Keys | None = None,
    predicate: Predicate | None = None,
) -> WhereResult:
    """The samples of the version `spec` that all of these are true of; committed as the dataset `to`, or only counted.

    `condition`: a boolean SQL expression, as DuckDB has it, over the metadata of a sample: `key`, `label`, `width`, `height`, `bytes`,
    `source`, `split` and what else there is: "label in ('cat', 'dog') and width >= 256". `keys`: a list of keys, or the path of a file with
    one on each line. `predicate`: called with the metadata of each sample as a dict, which is slower by far.

    Shards and metadata are shared: the view has a bitmap for each shard, and costs memory for the result and for a million rows at a time.
    A `to` that is an earlier such view of the same dataset gets a next version; so does the dataset itself. Raises `InvalidArgument` for a
    condition that is none, `NotFound` where no sample matches and it was to be committed, `AlreadyExists`, `CommitConflict`.
    """
    if condition is None and keys is None and predicate is None:
        raise InvalidArgument("where needs a condition, keys or a predicate; to have all samples under another name, clone the version")
    wanted = None if keys is None else _Wanted(keys)
    find(lake, spec)

    def build(dataset: Dataset) -> Sequence[PartShards]:
        with _filters(condition, wanted, predicate) as filters:
            return list(_chosen(lake, dataset, filters, store=to is not None))

    if to is None:
        dataset = lake.dataset(spec)
        splits = split_counts(build(dataset))
        return WhereResult(str(dataset), splits, missing=wanted.missing() if wanted else ())

    def build_some(dataset: Dataset) -> Sequence[PartShards]:
        parts = build(dataset)
        if not parts:
            raise NotFound(f"no sample of {dataset} matches, so nothing was committed; look with: dataplane show {dataset}")
        return parts

    told = _parameters(condition, wanted, predicate)
    done = commit_view(lake, spec, to, operation="where", parameters=told, build=build_some)
    missing = wanted.missing() if wanted else ()
    made_from = done.version.lineage["parameters"]["source"]
    return WhereResult(made_from, done.version.splits, done.version.name, done.version.number, done.committed, missing)


class _Filter(Protocol):
    """Says of rows whether they are wanted. `needs` gives the columns it looks at, of those that there are."""

    def needs(self, columns: pa.Schema, of: str) -> Sequence[str]: ...

    def holds(self, table: pa.Table) -> Mask: ...


class _Expression:
    """A condition in SQL."""

    def __init__(self, connection: Any, text: str) -> None:
        self._connection = connection
        self._text = text

    def needs(self, columns: pa.Schema, of: str) -> Sequence[str]:
        self._condition = Condition(self._connection, self._text, columns, of=of)
        return self._condition.columns

    def holds(self, table: pa.Table) -> Mask:
        return self._condition.holds(table)


class _Wanted:
    """A list of keys, and which of them have been found."""

    def __init__(self, keys: Keys) -> None:
        self._keys = pa.array(_read_keys(keys), pa.string())
        self._found = np.zeros(len(self._keys), bool)

    def __len__(self) -> int:
        return len(self._keys)

    def needs(self, columns: pa.Schema, of: str) -> Sequence[str]:
        self._found[:] = False
        return ("key",)

    def holds(self, table: pa.Table) -> Mask:
        place = pc.fill_null(pc.index_in(table.column("key"), self._keys), -1).to_numpy()
        self._found[place[place >= 0]] = True
        return np.asarray(place >= 0)

    def missing(self) -> tuple[str, ...]:
        return tuple(self._keys.filter(pa.array(~self._found)).to_pylist())

    def digest(self) -> str:
        return blake3("\n".join(self._keys.to_pylist()).encode()).hexdigest()


@dataclass(slots=True)
class _Called:
    """A predicate in Python."""

    predicate: Predicate
    columns: Sequence[str] = field(default_factory=list)

    def needs(self, columns: pa.Schema, of: str) -> Sequence[str]:
        self.columns = columns.names
        return self.columns

    def holds(self, table: pa.Table) -> Mask:
        rows = (row for batch in table.select(self.columns).to_batches(max_chunksize=_BATCH) for row in batch.to_pylist())
        return np.fromiter((bool(self.predicate(row)) for row in rows), bool, len(table))


@contextmanager
def _filters(condition: str | None, wanted: _Wanted | None, predicate: Predicate | None) -> Iterator[list[_Filter]]:
    """What was asked for, the quick before the slow."""
    with database() if condition is not None else nullcontext() as connection:
        filters: list[_Filter] = [wanted] if wanted is not None else []
        if condition is not None:
            filters.append(_Expression(connection, condition))
        if predicate is not None:
            filters.append(_Called(predicate))
        yield filters


def _chosen(lake: Lake, dataset: Dataset, filters: Sequence[_Filter], *, store: bool) -> Iterator[PartShards]:
    """The parts with just the samples that all filters want; without those in which there is none."""
    parts = metadata_parts(lake.objects, dataset)
    if not parts:
        return
    columns = columns_of(parts, str(dataset))
    needed = {name for each in filters for name in each.needs(columns, str(dataset))}
    schema = pa.schema([columns.field(name) for name in columns.names if name in needed])
    for part in parts:
        chosen = _choose(part, schema, filters)
        if not chosen.live.any():
            continue
        if (chosen.live == part.shards.live).all():
            yield part.part, part.shards
        else:
            yield reselected(lake.objects, part.part, chosen) if store else (part.part, chosen)


def _choose(part: MetadataPart, schema: pa.Schema, filters: Sequence[_Filter]) -> Shards:
    shards, rows = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    for table in part.batches(schema):
        for each in filters:
            table = table.filter(pa.array(each.holds(table)))
        shards.append(table.column("shard").to_numpy())
        rows.append(table.column("row").to_numpy())
    return part.shards.choose(np.concatenate(shards), np.concatenate(rows))


def _read_keys(keys: Keys) -> list[str]:
    """Each key once, in the order given."""
    if isinstance(keys, str):
        raise InvalidArgument(f"keys are a list, or the path of a file as a pathlib.Path; got the text {keys!r}")
    if isinstance(keys, os.PathLike):
        try:
            lines = Path(keys).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgument(
                f"the file of keys {os.fspath(keys)} cannot be read: {error}; it has one key on each line, as UTF-8"
            ) from error
        keys = (line.removesuffix("\r") for line in lines if line.strip())
    found = list(dict.fromkeys(keys))
    if not all(isinstance(key, str) for key in found):
        raise InvalidArgument("keys are text")
    return found


def _parameters(condition: str | None, wanted: _Wanted | None, predicate: Predicate | None) -> dict[str, Any]:
    """What the commit says of how the samples were chosen."""
    told: dict[str, Any] = {}
    if condition is not None:
        told["condition"] = condition
    if wanted is not None:
        told["keys"] = {"count": len(wanted), "blake3": wanted.digest()}
    if predicate is not None:
        told["predicate"] = f"{getattr(predicate, '__module__', '?')}.{getattr(predicate, '__qualname__', type(predicate).__qualname__)}"
    return told
