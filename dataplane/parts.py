"""Manifest parts as a commit makes them: stored, with other samples wanted, counted, and merged as they pile up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from dataplane.catalog import Part, SplitCount
from dataplane.manifest import METADATA, read_metadata, read_shards, write_metadata, write_shards
from dataplane.objects import Objects
from dataplane.shards import ShardRow, Shards

__all__ = ["PartShards", "added", "edited", "merged", "open_parts", "plan_merge", "reselected", "split_counts", "store_part"]

PartShards = tuple[Part, Shards]

_NOTHING: Final = SplitCount(0, 0, 0)
_FAN_IN: Final = 8  # so many parts of one size become one
_LARGEST_BYTES: Final = 256 << 20  # of metadata: parts are not merged into larger ones


def store_part(objects: Objects, rows: Iterable[ShardRow], metadata: Any) -> PartShards:
    """A part of these shards; `metadata` has the columns of `METADATA` (and may have more), `shard` being a position in `rows`."""
    shards = Shards.of(rows)
    stored = objects.put(write_shards(shards), suffix=".parquet")
    return Part(stored, objects.put(write_metadata(metadata), suffix=".parquet"), int(shards.live.sum())), shards


def reselected(objects: Objects, part: Part, shards: Shards) -> PartShards:
    """The part with other samples of its shards wanted, or in other splits. Its metadata are shared."""
    return Part(objects.put(write_shards(shards), suffix=".parquet"), part.metadata, int(shards.live.sum())), shards


def edited(objects: Objects, before: Iterable[PartShards], after: Iterable[Shards]) -> list[PartShards]:
    """Parts as the next version has them: those whose shards are as before stay as they are, and those of which nothing is wanted any more
    are left out."""
    parts = []
    for (part, shards), left in zip(before, after, strict=True):
        if left is shards:
            parts.append((part, shards))
        elif left.live.any():
            parts.append(reselected(objects, part, left))
    return parts


def open_parts(objects: Objects, parts: Iterable[Part]) -> list[PartShards]:
    """Parts with their shards."""
    return [(part, read_shards(objects.get(part.shards), where=objects.where(part.shards))) for part in parts]


def split_counts(parts: Iterable[PartShards]) -> dict[str, SplitCount]:
    """What the splits of parts add up to. Shards that nothing is wanted of do not count. Costs a look at all shards: for a commit that
    leaves the parts of the version before as they are, count the new ones and add that version's counts."""
    total: dict[str, SplitCount] = {}
    for _, shards in parts:
        held = shards.live_bytes
        for name in shards.splits:
            rows = shards.in_split(name)
            if len(rows):
                total = added(total, {name: SplitCount(int(shards.live[rows].sum()), len(rows), int(held[rows].sum()))})
    return total


def added(one: Mapping[str, SplitCount], other: Mapping[str, SplitCount]) -> dict[str, SplitCount]:
    """What the splits of two versions, or of a version and further parts, add up to."""
    total = dict(one)
    for name, more in other.items():
        mine = total.get(name, _NOTHING)
        total[name] = SplitCount(mine.samples + more.samples, mine.shards + more.shards, mine.bytes + more.bytes)
    return total


def plan_merge(samples: Sequence[int], metadata_bytes: Sequence[int]) -> int:
    """How many parts at the end become one: 0, or 8 and more. Pure.

    They are the most of which the first has at most a seventh of what all behind it have. So parts get at least 8/7 larger each time after
    their first, and eight times where all appends are of one size: n appends rewrite O(n log n) samples altogether. And in what stays, each
    part but the last 7 has more than a seventh of all behind it: O(log n) parts, some 7 for each power of 8 where appends are of one size.
    """
    most = behind = held = 0
    for count, (mine, size) in enumerate(zip(reversed(samples), reversed(metadata_bytes), strict=True), 1):
        held += size
        if held > _LARGEST_BYTES:
            break
        if count >= _FAN_IN and mine * (_FAN_IN - 1) <= behind:
            most = count
        behind += mine
    return most


def merged(objects: Objects, parts: Sequence[Part]) -> list[Part]:
    """Parts in the same order with the same samples, of which those that have piled up at the end are one. Stores its tables. Parts whose
    columns of one name do not fit together stay as they are."""
    count = plan_merge([part.samples for part in parts], [part.metadata.size for part in parts])
    if not count:
        return list(parts)
    try:
        return [*parts[:-count], _merge(objects, open_parts(objects, parts[-count:]))]
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # of `concat_tables`; reading and writing have errors of their own
        return list(parts)


def _merge(objects: Objects, parts: Sequence[PartShards]) -> Part:
    """One part of several. Shards and samples that nothing is wanted of any more stay behind."""
    tables, kept, offset = [], [], 0
    for part, shards in parts:
        live = np.flatnonzero(shards.live > 0)
        renumbered = np.full(len(shards), -1, np.int32)
        renumbered[live] = np.arange(offset, offset + len(live), dtype=np.int32)
        table = read_metadata(objects.get(part.metadata), where=objects.where(part.metadata))
        number, row = (table.column(name).to_numpy() for name in ("shard", "row"))
        wanted = pa.array(shards.wants(number, row))
        moved = table.set_column(table.column_names.index("shard"), METADATA.field("shard"), pa.array(renumbered[number]))
        tables.append(moved.filter(wanted))
        kept.append(shards.take(live))
        offset += len(live)
    return store_part(objects, kept[0].joined(kept[1:]), pa.concat_tables(tables, promote_options="permissive"))[0]
