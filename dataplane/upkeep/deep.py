"""What a deep verification looks at inside shards: every sample through its format, and metadata against indexes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dataplane.catalog import Part
from dataplane.errors import DataplaneError
from dataplane.formats import open_shard
from dataplane.formats.index import ShardIndex
from dataplane.manifest import read_metadata
from dataplane.objects import Objects
from dataplane.refs import Digest
from dataplane.shards import Piece, Shards

__all__ = ["check_metadata", "check_piece"]

Found = tuple[str, str]
"""A path in the lake (or the URL of an adopted object), and what is wrong with it."""


def check_piece(objects: Objects, piece: Piece, index: ShardIndex) -> Iterator[Found]:
    """Read all samples of one object of a shard, as its format does."""
    path = piece.ref.path if isinstance(piece.ref, Digest) else piece.ref.url
    try:
        reader = open_shard(piece.format, objects, piece.ref, index)
        reader.verify()
        if len(reader) != len(index):
            yield path, f"it holds {len(reader)} samples; its index {piece.index.path} has {len(index)}"
        elif reader.keys() != index.keys():
            yield path, f"the keys of its samples are not those in its index {piece.index.path}"
    except DataplaneError as error:
        yield path, str(error)


def check_metadata(objects: Objects, part: Part, shards: Shards, keys: Sequence[list[str] | None]) -> Iterator[Found]:
    """Hold a part's metadata against its shards: each sample that the version has is in it once, with the key that is in the shard's
    index. `keys[i]` are those of shard i; None where its index cannot be read."""
    path = part.metadata.path
    try:
        table = read_metadata(objects.get(part.metadata), where=objects.where(part.metadata), columns=["shard", "row", "key"])
    except DataplaneError as error:
        yield path, str(error)
        return
    shard, row = (table.column(name).to_numpy() for name in ("shard", "row"))
    outside = (shard < 0) | (shard >= len(shards)) | (row < 0)
    outside[~outside] = row[~outside] >= shards.samples[shard[~outside]]
    if outside.any():
        yield path, f"{int(outside.sum())} of its rows are of samples that no shard of {part.shards.path} has"
        return
    wanted = shards.wants(shard, row)
    places = shard[wanted].astype(np.int64) << 32 | row[wanted]
    live = int(shards.live.sum())
    if len(np.unique(places)) != len(places) or len(places) != live:
        yield path, f"it has {len(places)} rows of the {live} samples that {part.shards.path} selects"
    if part.samples != live:
        yield part.shards.path, f"it selects {live} samples; its commit says {part.samples}"
    names = table.column("key").to_pylist()
    order = np.argsort(shard, kind="stable")
    bounds = np.searchsorted(shard[order], np.arange(len(shards) + 1))
    for number, known in enumerate(keys):
        mine = order[bounds[number] : bounds[number + 1]]
        wrong = sum(names[i] != known[row[i]] for i in mine) if known is not None else 0
        if wrong:
            yield path, f"{wrong} of its keys of shard {number} are not those in the index {shards[number].index.path}"
