"""Taking over what a killed run of the same ingest had finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dataplane.ingest.plan import Todo
from dataplane.ingest.worker import CLASS_ID
from dataplane.journal import Finished
from dataplane.objects import Objects
from dataplane.refs import Digest

__all__ = ["is_there", "take_over"]


def take_over(todo: Sequence[Todo], finished: Sequence[Finished], class_ids: Mapping[str, int]) -> tuple[list[Finished], list[Todo]]:
    """The finished shards with just the samples that are to be done and are in them exactly so, and what is left to do. Pure."""
    left = {item.wanted.key: item for item in todo}
    taken = []
    for item in finished:
        names = ("row", "key", "label", "source_etag", CLASS_ID)
        unwanted = []
        for row, key, label, etag, class_id in zip(*(item.metadata.column(name).to_pylist() for name in names), strict=True):
            wanted = left[key].wanted if key in left else None
            as_found = (label, etag, item.shard.split, class_id)
            if wanted and as_found == (wanted.label, wanted.entry.etag, wanted.split, class_ids.get(wanted.label or "", -1)):
                del left[key]
            else:
                unwanted.append(row)
        shard = item.shard.without(unwanted) if unwanted else item.shard
        if shard.live:
            taken.append(replace(item, shard=shard))
    return taken, [item for item in todo if item.wanted.key in left]


def is_there(objects: Objects, finished: Finished) -> bool:
    """All objects of the shard are still in the lake: those of a journal of long ago may have been collected."""
    shard = finished.shard
    return all(isinstance(piece.ref, Digest) and objects.has(piece.ref) and objects.has(piece.index) for piece in shard.pieces)
