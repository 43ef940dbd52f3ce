"""The samples of two versions side by side, joined by key. What one has of the other unchanged, whole parts at a time, is not looked at."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any, Final

import numpy as np
import pyarrow as pa

from dataplane.catalog import Part
from dataplane.dataset import Dataset
from dataplane.manifest import METADATA
from dataplane.objects import Objects
from dataplane.versions.columns import MetadataPart
from dataplane.versions.query import Stream

__all__ = ["CHANGES", "Side", "sides"]

_COLUMNS: Final = pa.schema(
    [pa.field("split", pa.string()), *(METADATA.field(name) for name in ("key", "label", "bytes", "source_blake3", "source_etag"))]
)
_PLACED: Final = pa.schema([("part", pa.int32()), ("shard", pa.int32()), ("row", pa.int32()), *((f.name, f.type) for f in _COLUMNS)])

CHANGES: Final = {
    "content": (
        "CASE WHEN a.source_blake3 IS NULL OR b.source_blake3 IS NULL THEN a.source_etag <> b.source_etag "
        "ELSE a.source_blake3 <> b.source_blake3 END"
    ),
    "bytes": "a.bytes <> b.bytes",
    "label": "a.label IS DISTINCT FROM b.label",
    "split": "a.split IS DISTINCT FROM b.split",
}
"""What may differ between two samples of one key, as SQL over the sides `a` and `b`."""


class Side:
    """The samples of one of the two versions that lie in parts which the other has not: `part`, `shard`, `row` and the columns to compare.

    `numbers` are the positions of these parts in the version.
    """

    def __init__(self, objects: Objects, dataset: Dataset, shared: AbstractSet[Part]) -> None:
        self.numbers = [number for number, (part, _) in enumerate(dataset.parts) if part not in shared]
        self._parts = [MetadataPart(objects, *dataset.parts[number]) for number in self.numbers]
        self.samples = sum(part.part.samples for part in self._parts)

    def stream(self) -> Stream:
        """All of it, a row group at a time."""
        return Stream(_PLACED, self._tables())

    def table(self) -> Any:
        """All of it."""
        return pa.concat_tables([_PLACED.empty_table(), *(table.cast(_PLACED) for table in self._tables())])

    def _tables(self) -> Iterator[Any]:
        for number, part in zip(self.numbers, self._parts, strict=True):
            for table in part.batches(_COLUMNS):
                yield table.add_column(0, "part", pa.array(np.full(len(table), number, np.int32))).select(_PLACED.names)


def sides(objects: Objects, a: Dataset, b: Dataset) -> tuple[Side, Side]:
    """What to compare of two versions."""
    shared = set(a.version.parts) & set(b.version.parts)
    return Side(objects, a, shared), Side(objects, b, shared)
