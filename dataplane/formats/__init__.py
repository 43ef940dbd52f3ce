"""The formats of shards: `tar`, `parquet`, `zarr`, the same verbs in each module (see `protocol`)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from dataplane.errors import FormatTooNew

if TYPE_CHECKING:
    from dataplane.formats.index import ShardIndex
    from dataplane.formats.protocol import ShardReader
    from dataplane.objects import Objects
    from dataplane.refs import ObjectRef

__all__ = ["FORMATS", "open_shard"]

FORMATS: Final = ("parquet", "tar", "zarr")


def open_shard(name: str, objects: Objects, ref: ObjectRef, index: ShardIndex) -> ShardReader:
    """A shard of the format `name`, open for reading. Raises `FormatTooNew` for a format that this release does not know."""
    if name not in FORMATS:
        raise FormatTooNew(f"{ref}: a shard of the format {name!r}; this release reads {', '.join(FORMATS)}: upgrade dataplane")
    module: Any = importlib.import_module(f"dataplane.formats.{name}")  # when first needed: zarr takes a while to load
    reader: ShardReader = module.open(objects, ref, index)
    return reader
