"""The index sidecar of a shard: where each field of each sample lies, its checksum, and what decoding needs to know.

An Arrow IPC file with one row a sample: `key`, then for each field NAME the columns `NAME.offset`, `NAME.size`, `NAME.crc32c`, and for
images `NAME.width`, `NAME.height` (as stored) and `NAME.orientation` (EXIF, 1 to 8). Where JPEGs can be decoded in part, `NAME.segments`
says where these parts lie, packed by `dataplane.formats.jpeg`; it is null for the others. A sample without the field has size -1; a CRC
that nobody has computed yet, as in a shard that was adopted, is null. What other formats need (a footer, a list of members) lies in named
sections of the file's metadata. Columns that a reader does not know do not trouble it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataplane.arrays import numbers, one_array
from dataplane.errors import CorruptObject, FormatTooNew, NotFound

__all__ = [
    "FieldIndex",
    "ImageInfo",
    "IndexRow",
    "Packed",
    "Placed",
    "ShardIndex",
    "read_index",
    "write_index",
    "write_keys",
    "write_places",
]

_FORMAT = 1
_VERSION_KEY = b"dataplane.index"
_SECTION = b"section:"


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image's header says. Width and height as stored, in pixels; orientation as in EXIF, 1 = upright. `segments` are those of a
    JPEG that can be decoded in part, for `Segments.unpack` of `dataplane.formats.jpeg`; empty for every other."""

    width: int
    height: int
    orientation: int = 1
    segments: bytes | memoryview = b""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the bytes of one field of one sample lie in the shard. `crc32c` is None where nobody has computed it yet."""

    offset: int
    size: int
    crc32c: int | None
    image: ImageInfo | None = None


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One sample of a shard."""

    key: str
    fields: Mapping[str, Placed]


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """The bytes that a column has for each sample, by row, as views of the index's own memory; empty for a sample that has none."""

    offsets: npt.NDArray[np.int32]
    data: memoryview

    def __getitem__(self, row: int) -> memoryview:
        return self.data[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True, slots=True, eq=False)
class FieldIndex:
    """The columns of one field, arrays over the samples of the shard. An unknown CRC is -1; the image columns are None for other fields,
    and `segments` where no sample has any."""

    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    crc32c: npt.NDArray[np.int64]
    width: npt.NDArray[np.int32] | None
    height: npt.NDArray[np.int32] | None
    orientation: npt.NDArray[np.uint8] | None
    segments: Packed | None


class ShardIndex:
    """The index of one shard, in memory. Immutable and thread-safe."""

    def __init__(self, table: Any, *, where: str) -> None:
        self.where = where
        self._keys = one_array(table.column("key"))
        self._key_bytes = _packed(table, "key", pa.string())
        names = sorted(name[: -len(".offset")] for name in table.column_names if name.endswith(".offset"))
        self.fields: Mapping[str, FieldIndex] = {name: _field(table, name) for name in names}
        stamped = table.schema.metadata or {}
        self.sections: Mapping[str, bytes] = {k[len(_SECTION) :].decode(): v for k, v in stamped.items() if k.startswith(_SECTION)}

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, row: int) -> str:
        """The key of a sample."""
        return str(self._key_bytes[row], "utf-8")  # 1 µs; a scalar of Arrow takes eight

    def keys(self) -> list[str]:
        """All keys, in the shard's order."""
        return self._keys.to_pylist()  # type: ignore[no-any-return]

    def described(self, rows: Sequence[int]) -> list[dict[str, int]]:
        """What is known of the images of samples: `NAME.width`, `NAME.height` and `NAME.orientation` of each that a sample has."""
        found: list[dict[str, int]] = [{} for _ in rows]
        at = np.asarray(rows, np.int64)
        for name, field in self.fields.items():
            if field.width is None or field.height is None or field.orientation is None:
                continue
            columns = (column[at].tolist() for column in (field.size, field.width, field.height, field.orientation))
            for told, size, width, height, orientation in zip(found, *columns, strict=True):
                if size >= 0 and width:
                    told |= {f"{name}.width": width, f"{name}.height": height, f"{name}.orientation": orientation}
        return found

    def placed(self, row: int) -> dict[str, Placed]:
        """The fields that a sample has."""
        places = ((name, self.place(name, row)) for name in self.fields)
        return {name: place for name, place in places if place is not None}

    def place(self, name: str, row: int) -> Placed | None:
        """Where a sample has a field; None where it or the shard lacks it."""
        field = self.fields.get(name)
        if field is None or field.size[row] < 0:
            return None
        crc = int(field.crc32c[row])
        return Placed(int(field.offset[row]), int(field.size[row]), None if crc < 0 else crc, _image(field, row))

    def field(self, name: str) -> FieldIndex:
        """The columns of a field. Raises `NotFound`."""
        try:
            return self.fields[name]
        except KeyError:
            raise NotFound(f"{self.where} has no field {name!r}; it has {', '.join(self.fields)}") from None


def write_index(rows: Sequence[IndexRow], sections: Mapping[str, bytes] | None = None) -> bytes:
    """The index of a shard whose fields are placed, from its samples in order. Equal rows give equal bytes."""
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
            if any(i.segments for i in images):
                columns[f"{name}.segments"] = pa.array([i.segments or None for i in images], pa.binary())
    return _encode(columns, sections or {})


def write_places(keys: Any, places: Mapping[str, tuple[Any, Any, Any]], sections: Mapping[str, bytes] | None = None) -> bytes:
    """What `write_index` gives, from columns: the keys as an Arrow array, and for each field int64 arrays of offsets and sizes (-1 where a
    sample lacks it) and the CRCs as uint32, or None where nobody has computed them."""
    columns: dict[str, Any] = {"key": keys.cast(pa.string())}
    for name, (offset, size, crc) in sorted(places.items()):
        columns[f"{name}.offset"], columns[f"{name}.size"] = pa.array(offset, pa.int64()), pa.array(size, pa.int64())
        columns[f"{name}.crc32c"] = pa.nulls(len(keys), pa.uint32()) if crc is None else pa.array(crc, pa.uint32())
    return _encode(columns, sections or {})


def write_keys(keys: Sequence[str], sections: Mapping[str, bytes]) -> bytes:
    """The index of a shard whose format knows by itself where values lie: the keys of its samples, and named sections."""
    return _encode({"key": pa.array(keys, pa.string())}, sections)


def _encode(columns: Mapping[str, Any], sections: Mapping[str, bytes]) -> bytes:
    stamped = {_VERSION_KEY: str(_FORMAT).encode(), **{_SECTION + name.encode(): data for name, data in sorted(sections.items())}}
    table = pa.table(dict(columns)).replace_schema_metadata(stamped)
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
    return numbers(table.column(name)) if name in table.column_names else None


def _field(table: Any, name: str) -> FieldIndex:
    columns = {part: _column(table, f"{name}.{part}") for part in ("offset", "size", "width", "height", "orientation")}
    crc = numbers(table.column(f"{name}.crc32c"), null=-1).astype(np.int64)
    segments = _packed(table, f"{name}.segments", pa.binary()) if f"{name}.segments" in table.column_names else None
    return FieldIndex(crc32c=crc, segments=segments, **columns)


def _packed(table: Any, name: str, kind: Any) -> Packed:
    column = one_array(table.column(name))
    if column.type != kind:
        raise ValueError(f"{name} is {column.type}, not {kind}")
    _, offsets, data = column.buffers()
    at = np.zeros(1, np.int32) if offsets is None else np.frombuffer(offsets, np.int32)
    return Packed(at[column.offset : column.offset + len(column) + 1], memoryview(data or b"").cast("B"))


def _image(field: FieldIndex, row: int) -> ImageInfo | None:
    if field.width is None or field.height is None or field.orientation is None or field.width[row] == 0:
        return None
    size = int(field.width[row]), int(field.height[row])
    return ImageInfo(*size, int(field.orientation[row]), b"" if field.segments is None else field.segments[row])
