"""The state that an ingest starts from: the samples of the newest version, and where each of them lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from dataplane.catalog import Version
from dataplane.dataset import Dataset
from dataplane.lake import Lake
from dataplane.manifest import METADATA
from dataplane.parts import PartShards
from dataplane.schema import Schema

__all__ = ["Present", "load"]

_COLUMNS = ("key", "label", "split", "source", "source_etag", "source_blake3", "shard", "row")
_SCHEMA = pa.schema([METADATA.field(name) if name != "split" else pa.field("split", pa.string()) for name in _COLUMNS]).append(
    pa.field("part", pa.int32())
)


@dataclass(frozen=True, slots=True, eq=False)
class Present:
    """A version, or the nothing before the first one. `samples` has one row a live sample: its key, label, split, source, source_etag,
    source_blake3, and the part, shard and row where it lies."""

    version: Version | None
    parts: tuple[PartShards, ...] = ()
    samples: pa.Table = field(default_factory=_SCHEMA.empty_table)

    @property
    def number(self) -> int:
        """The version's number, 0 before the first."""
        return self.version.number if self.version else 0

    @property
    def schema(self) -> Schema:
        return self.version.schema if self.version else Schema()

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What the commit says of how the version was made."""
        return self.version.lineage["parameters"] if self.version else {}


def load(lake: Lake, version: Version | None) -> Present:
    """Read a version's tables. Costs O(samples), in columns."""
    if version is None:
        return Present(None)
    dataset = Dataset(lake.store, version)
    tables = []
    for number, (part, shards) in enumerate(dataset.parts):
        table = dataset.part_metadata(part, shards, _COLUMNS)
        tables.append(table.append_column("part", pa.array(np.full(len(table), number, np.int32))).cast(_SCHEMA))
    return Present(version, dataset.parts, pa.concat_tables(tables) if tables else _SCHEMA.empty_table())
