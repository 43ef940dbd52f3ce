"""From finished shards to a version: what they change about the newest one, whichever that is by now.

Everything here is computed against the newest version, not the one that the ingest started from, so it is also the rebase: samples that
somebody else committed meanwhile stay, equal ones are not doubled, and of different ones under one key the later commit wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from dataplane.group import CLASS_FIELD
from dataplane.ingest.present import Present
from dataplane.ingest.worker import CLASS_ID
from dataplane.journal import Finished
from dataplane.manifest import METADATA
from dataplane.objects import Objects
from dataplane.parts import PartShards, edited, store_part
from dataplane.schema import Field

__all__ = ["Edit", "agreed_classes", "edit", "fields_of", "new_parts"]


@dataclass(slots=True)
class Edit:
    """What changes about a version. `finished` are the new shards with only the samples that go in; `masked` are the rows that go from
    old shards, by part and shard."""

    finished: list[Finished] = field(default_factory=list)
    masked: dict[tuple[int, int], set[int]] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    added: int = 0
    replaced: int = 0
    dropped: int = 0

    @property
    def nothing(self) -> bool:
        """The version has it all already."""
        return not self.added and not self.replaced and not self.dropped


class _Lookup:
    """The samples of a version by key."""

    def __init__(self, present: Present) -> None:
        table = present.samples.combine_chunks()
        self._at = {key: i for i, key in enumerate(table.column("key").to_pylist())}
        self._columns = {name: table.column(name) for name in table.column_names}

    def find(self, key: str) -> int | None:
        return self._at.get(key)

    def values(self, i: int, *names: str) -> tuple[Any, ...]:
        return tuple(self._columns[name][i].as_py() for name in names)


def edit(present: Present, finished: Sequence[Finished], drop: Mapping[str, bytes]) -> Edit:
    """What `finished` and `drop` change about `present`. Of two finished samples with one key the first goes in. Dropped are keys whose
    sample is still made of the source with the given BLAKE3; a finished sample takes the place of one that is to be dropped, however
    alike their sources are."""
    lookup, change, new = _Lookup(present), Edit(), set[str]()
    for item in finished:
        unwanted = []
        for row, key, label, digest in _samples(item):
            i = lookup.find(key)
            there = None if i is None else lookup.values(i, "source_blake3", "label", "split")
            if key in new or (there == (digest, label, item.shard.split) and drop.get(key) != digest):
                unwanted.append(row)
                continue
            new.add(key)
            if label is not None:
                change.labels.add(label)
            if i is None:
                change.added += 1
            else:
                change.replaced += 1
                _mask(change, lookup, i)
        shard = item.shard.without(unwanted) if unwanted else item.shard
        if shard.live:
            change.finished.append(replace(item, shard=shard))
    for key, digest in drop.items():
        i = lookup.find(key)
        if i is not None and key not in new and lookup.values(i, "source_blake3") == (digest,):
            change.dropped += 1
            _mask(change, lookup, i)
    return change


def _samples(item: Finished) -> Iterable[tuple[int, str, str | None, bytes]]:
    """Row, key, label and digest of the samples of a shard that are wanted."""
    table = item.metadata if item.shard.rows is None else item.metadata.take(pa.array(item.shard.rows))
    return zip(*(table.column(name).to_pylist() for name in ("row", "key", "label", "source_blake3")), strict=True)


def _mask(change: Edit, lookup: _Lookup, i: int) -> None:
    part, shard, row = lookup.values(i, "part", "shard", "row")
    change.masked.setdefault((part, shard), set()).add(row)


def agreed_classes(newest: Sequence[str], planned: Sequence[str], used: Iterable[str]) -> tuple[str, ...] | None:
    """The class names once new shards are in whose ids are positions in `planned`. None where an id means another class by now.

    Planned names behind the last used one are left out: they are of folders in which nothing was a picture.
    """
    ids = {label: planned.index(label) for label in used}
    if tuple(planned[: len(newest)]) == tuple(newest):
        return tuple(planned[: max(len(newest), 1 + max(ids.values(), default=-1))])
    if all(i < len(newest) and newest[i] == label for label, i in ids.items()):
        return tuple(newest)
    return None


def fields_of(finished: Iterable[Finished]) -> tuple[Field, ...]:
    """The fields that lie in new shards. The first journals did not say; their shards hold pictures and classes."""
    found: dict[str, Field] = {}
    for item in finished:
        told = item.fields or tuple(Field(name, "class" if name == CLASS_FIELD else "image") for name in item.shard.median_bytes)
        found.update({field.name: field for field in told})
    return tuple(found[name] for name in sorted(found))


def new_parts(objects: Objects, present: Present, change: Edit) -> list[PartShards]:
    """The parts of the next version: the old ones, without what goes, and one with the new shards. Stores their tables."""
    gone: dict[int, dict[int, set[int]]] = {}
    for (number, shard), rows in change.masked.items():
        gone.setdefault(number, {})[shard] = rows
    left = (shards.without(gone[number]) if number in gone else shards for number, (_, shards) in enumerate(present.parts))
    parts = edited(objects, present.parts, left)
    if change.finished:
        tables = [_numbered(item.metadata, number) for number, item in enumerate(change.finished)]
        parts.append(store_part(objects, [item.shard for item in change.finished], pa.concat_tables(tables, promote_options="permissive")))
    return parts


def _numbered(metadata: Any, number: int) -> Any:
    """A shard's metadata as the manifest has it: with the shard's number, without what only the journal keeps."""
    column = pa.array(np.full(len(metadata), number, np.int32))
    kept = metadata.drop_columns([name for name in (CLASS_ID,) if name in metadata.column_names])
    return kept.add_column(0, METADATA.field("shard"), column)
