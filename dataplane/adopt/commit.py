"""From scanned objects to a version: what they change about the newest one, whichever that is by now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from dataplane.adopt.look import Adopted, Looked
from dataplane.catalog import Version
from dataplane.dataset import Dataset
from dataplane.errors import InvalidArgument
from dataplane.ingest.options import Bad
from dataplane.lake import Lake
from dataplane.manifest import METADATA
from dataplane.objects import Objects
from dataplane.parts import PartShards, edited, store_part
from dataplane.refs import Foreign

__all__ = ["Edit", "Place", "State", "edit", "new_parts"]

_PART_SAMPLES: Final = 1 << 20
_LISTED: Final = 100  # keys of one shard that are listed one by one


@dataclass(frozen=True, slots=True)
class Place:
    """Where a version has an adopted object: its part and shard, and what it recorded of it."""

    part: int
    shard: int
    ref: Foreign
    format: str
    split: str
    index: str


class State:
    """A version as far as adopting needs it, or the nothing before the first one."""

    def __init__(self, lake: Lake, version: Version | None) -> None:
        self.version = version
        self.dataset = None if version is None else Dataset(lake.store, version)
        self.parts: Sequence[PartShards] = self.dataset.parts if self.dataset else ()
        self.at: dict[str, list[Place]] = {}  # several where a split has spread the samples of one
        for number, (_, shards) in enumerate(self.parts):
            table = shards.to_table().select(["url", "size", "etag", "version_id", "format", "split", "index_blake3"])
            for i, row in enumerate(table.to_pylist()):
                if row["url"] is not None and shards.live[i]:
                    ref = Foreign(row["url"], row["size"], row["etag"], row["version_id"])
                    place = Place(number, i, ref, row["format"], row["split"], row["index_blake3"].hex())
                    self.at.setdefault(ref.url, []).append(place)

    def has(self, ref: Foreign) -> bool:
        """The version has samples of this very object."""
        places = self.at.get(ref.url, ())
        return bool(places) and all(place.ref == ref for place in places)

    @property
    def number(self) -> int:
        """The version's number, 0 before the first."""
        return self.version.number if self.version else 0

    def without(self, gone: Iterable[Place]) -> list[PartShards]:
        """The parts with nothing wanted of some shards. Nothing is stored."""
        by_part: dict[int, dict[int, range]] = {}
        for place in gone:
            by_part.setdefault(place.part, {})[place.shard] = range(int(self.parts[place.part][1].samples[place.shard]))
        return [(part, shards.without(by_part[i]) if i in by_part else shards) for i, (part, shards) in enumerate(self.parts)]

    def keys(self, left: Sequence[PartShards]) -> list[Any]:
        """The keys of all samples of these parts."""
        if self.dataset is None:
            return []
        return [self.dataset.part_metadata(part, shards, ["key"]).column("key").combine_chunks() for part, shards in left]


@dataclass(slots=True)
class Edit:
    """What changes: shards that come, with the rows of them that go in, and the places of those that go."""

    shards: list[Adopted] = field(default_factory=list)
    gone: list[Place] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    added: int = 0
    replaced: int = 0
    kept: int = 0
    masked: int = 0

    @property
    def nothing(self) -> bool:
        """The version has it all already."""
        return not self.shards and not self.gone


def edit(state: State, looked: Sequence[Looked], *, anew: bool) -> Edit:
    """What scanned objects change about a version. Of samples with one key the first stays: the version's own, then in the objects' order.
    `anew`: replace also shards that come out the same, since other things were asked of them this time."""
    change = Edit()
    fresh: list[Adopted] = []
    for item in looked:
        places = state.at.get(item.found.url, [])
        if item.shard is None:
            if item.settled:  # what was recorded of it cannot be read any more where it has changed
                change.gone += [place for place in places if place.ref != item.found.ref]
            continue
        row = item.shard.row
        same = [(place.ref, place.split, place.index) == (row.ref, row.split, row.index.hex) for place in places]
        if places and all(same) and not anew:
            change.kept += 1
            continue
        fresh.append(item.shard)
        change.gone += places
    replaced = {place.ref.url for place in change.gone}
    present = state.keys(state.without(change.gone))
    for shard, again in zip(fresh, _repeated(present, [shard.keys for shard in fresh]), strict=True):
        url = str(shard.row.ref)
        if len(again):
            change.masked += len(again)
            change.bad += _twice(url, shard.keys, again)
        row = shard.row.without(again.tolist()) if len(again) else shard.row
        if not row.live:
            continue
        change.shards.append(Adopted(row, shard.keys, shard.sizes, shard.columns, shard.fields))
        if url in replaced:
            change.replaced += 1
        else:
            change.added += 1
    return change


def _repeated(present: Sequence[Any], fresh: Sequence[Any]) -> list[Any]:
    """For each array of keys, the rows whose key came before: in `present`, an earlier array or the same one."""
    if not fresh:
        return []
    keys = pa.concat_arrays([keys.cast(pa.large_string()) for keys in (*present, *fresh)])
    codes = keys.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    first = np.ones(len(codes), bool)
    first[1:] = codes[1:] > np.maximum.accumulate(codes)[:-1]  # codes count up with first appearances
    at = sum(map(len, present))
    found = []
    for array in fresh:
        found.append(np.flatnonzero(~first[at : at + len(array)]))
        at += len(array)
    return found


def _twice(url: str, keys: Any, rows: Any) -> list[Bad]:
    if len(rows) > _LISTED:
        return [Bad(url, f"{len(rows):,} of its {len(keys):,} samples have keys of samples that came before, and stay out")]
    return [Bad(f"{url}: {keys[int(row)].as_py()}", "its key is that of a sample that came before") for row in rows]


def new_parts(objects: Objects, state: State, change: Edit) -> list[PartShards]:
    """The parts of the next version: the old ones without what goes, and new ones. Stores their tables."""
    parts = edited(objects, state.parts, (shards for _, shards in state.without(change.gone)))
    for batch in _batches(change.shards):
        tables = [_metadata(shard, number) for number, shard in enumerate(batch)]
        try:
            table = pa.concat_tables(tables, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InvalidArgument(f"a column of --columns is not of one type in all files: {error}") from error
        parts.append(store_part(objects, [shard.row for shard in batch], table))
    return parts


def _batches(shards: Sequence[Adopted]) -> Iterable[list[Adopted]]:
    batch: list[Adopted] = []
    samples = 0
    for shard in shards:
        if batch and samples + shard.row.samples > _PART_SAMPLES:
            yield batch
            batch, samples = [], 0
        batch.append(shard)
        samples += shard.row.samples
    if batch:
        yield batch


def _metadata(shard: Adopted, number: int) -> Any:
    """A shard's metadata as the manifest has it."""
    count = shard.row.samples
    ref = shard.row.ref
    columns = {
        "shard": pa.array(np.full(count, number, np.int32)),
        "row": pa.array(np.arange(count, dtype=np.int32)),
        "key": shard.keys.cast(pa.string()),
        "label": pa.nulls(count, pa.string()),
        "width": pa.nulls(count, pa.int32()),
        "height": pa.nulls(count, pa.int32()),
        "bytes": pa.array(shard.sizes, pa.int64()),
        "source": pa.repeat(pa.scalar(str(ref)), count),
        "source_etag": pa.repeat(pa.scalar((ref.etag if isinstance(ref, Foreign) else None) or ""), count),
        "source_blake3": pa.nulls(count, pa.binary(32)),
    }
    clash = sorted(set(shard.columns) & set(columns) - {"label"})
    if clash:
        raise InvalidArgument(f"the column {', '.join(clash)} cannot become metadata: each dataset has one of this name already")
    known = pa.table({**columns, **{name: value for name, value in shard.columns.items() if name == "label"}}, schema=METADATA)
    for name, value in shard.columns.items():
        if name != "label":
            known = known.append_column(name, value)
    return known
