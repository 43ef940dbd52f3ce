"""The index sidecar of a shard: where each field of each sample lies, its checksum, and what decoding needs to know.

An Arrow IPC file with one row a sample: `key`, then for each field NAME the columns `NAME.offset`, `NAME.size`, `NAME.crc32c`, and for
images `NAME.width`, `NAME.height` (as stored) and `NAME.orientation` (EXIF, 1 to 8). A sample without the field has size -1.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataplane.errors import CorruptObject, FormatTooNew, NotFound

__all__ = ["FieldIndex", "ImageInfo", "IndexRow", "Placed", "ShardIndex", "read_index", "write_index"]

_FORMAT = 1
_VERSION_KEY = b"dataplane.index"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image's header says. Width and height as stored, in pixels; orientation as in EXIF, 1 = upright."""

    width: int
    height: int
    orientation: int = 1


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the bytes of one field of one sample lie in the shard."""

    offset: int
    size: int
    crc32c: int
    image: ImageInfo | None = None


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One sample of a shard."""

    key: str
    fields: Mapping[str, Placed]


@dataclass(frozen=True, slots=True, eq=False)
class FieldIndex:
    """The columns of one field, as arrays over the samples of the shard. The image columns are None for other fields."""

    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    crc32c: npt.NDArray[np.uint32]
    width: npt.NDArray[np.int32] | None
    height: npt.NDArray[np.int32] | None
    orientation: npt.NDArray[np.uint8] | None


class ShardIndex:
    """The index of one shard, in memory. Immutable and thread-safe."""

    def __init__(self, table: Any, *, where: str) -> None:
        self.where = where
        self._keys = table.column("key").combine_chunks()
        names = sorted(name[: -len(".offset")] for name in table.column_names if name.endswith(".offset"))
        self.fields: Mapping[str, FieldIndex] = {name: _field(table, name) for name in names}

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, row: int) -> str:
        """The key of a sample."""
        return self._keys[row].as_py()  # type: ignore[no-any-return]

    def keys(self) -> list[str]:
        """All keys, in the shard's order."""
        return self._keys.to_pylist()  # type: ignore[no-any-return]

    def placed(self, row: int) -> dict[str, Placed]:
        """The fields that a sample has."""
        found = {}
        for name, field in self.fields.items():
            if field.size[row] >= 0:
                found[name] = Placed(int(field.offset[row]), int(field.size[row]), int(field.crc32c[row]), _image(field, row))
        return found

    def field(self, name: str) -> FieldIndex:
        """The columns of a field. Raises `NotFound`."""
        try:
            return self.fields[name]
        except KeyError:
            raise NotFound(f"{self.where} has no field {name!r}; it has {', '.join(self.fields)}") from None


def write_index(rows: Sequence[IndexRow]) -> bytes:
    """The index of a shard, from its samples in order. Equal rows give equal bytes."""
    names = sorted({name for row in rows for name in row.fields})
    columns: dict[str, Any] = {"key": pa.array([row.key for row in rows], pa.string())}
    for name in names:
        placed = [row.fields.get(name) for row in rows]
        columns[f"{name}.offset"] = pa.array([p.offset if p else -1 for p in placed], pa.int64())
        columns[f"{name}.size"] = pa.array([p.size if p else -1 for p in placed], pa.int64())
        columns[f"{name}.crc32c"] = pa.array([p.crc32c if p else 0 for p in placed], pa.uint32())
        if any(p and p.image for p in placed):
            images = [p.image if p and p.image else ImageInfo(0, 0, 1) for p in placed]
            columns[f"{name}.width"] = pa.array([i.width for i in images], pa.int32())
            columns[f"{name}.height"] = pa.array([i.height for i in images], pa.int32())
            columns[f"{name}.orientation"] = pa.array([i.orientation for i in images], pa.uint8())
    table = pa.table(columns).replace_schema_metadata({_VERSION_KEY: str(_FORMAT).encode()})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def read_index(data: Any, *, where: str) -> ShardIndex:
    """The index in `data` (any buffer; it is kept, not copied). Raises `CorruptObject` or `FormatTooNew`, naming `where`."""
    try:
        table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
        version = int((table.schema.metadata or {})[_VERSION_KEY])
        if version > _FORMAT:
            raise FormatTooNew(f"{where} has format {version}; this release reads up to {_FORMAT}: upgrade dataplane")
        return ShardIndex(table, where=where)
    except FormatTooNew:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise CorruptObject(f"{where} is not an index of a shard: {error}") from error


def _column(table: Any, name: str) -> Any:
    return table.column(name).combine_chunks().to_numpy(zero_copy_only=False) if name in table.column_names else None


def _field(table: Any, name: str) -> FieldIndex:
    return FieldIndex(*(_column(table, f"{name}.{part}") for part in ("offset", "size", "crc32c", "width", "height", "orientation")))


def _image(field: FieldIndex, row: int) -> ImageInfo | None:
    if field.width is None or field.height is None or field.orientation is None or field.width[row] == 0:
        return None
    return ImageInfo(int(field.width[row]), int(field.height[row]), int(field.orientation[row]))
