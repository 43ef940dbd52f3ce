"""The index sidecar of a shard: where each field of each sample lies, its checksum, and what decoding needs to know.

An Arrow IPC file with one row a sample: `key`, then for each field NAME the columns `NAME.offset`, `NAME.size`, `NAME.crc32c`, and for
images `NAME.width`, `NAME.height` (as stored) and `NAME.orientation` (EXIF, 1 to 8). Where JPEGs can be decoded in part, `NAME.segments`
says where these parts lie, packed by `dataplane.formats.jpeg`; it is null for the others. A sample without the field has size -1; a CRC
that nobody has computed yet, as in a shard that was adopted, is null. What other formats need (a footer, a list of members) lies in named
sections of the file's metadata. Columns that a reader does not know do not trouble it.
"""

from __future__ import annotations

import dataclasses
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
    "IndexColumns",
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

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height in pixels after turning the image as its orientation asks."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


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

    def keys_at(self, rows: Sequence[int]) -> list[str]:
        """The keys of samples."""
        at, data = np.asarray(rows, np.int64), self._key_bytes.data
        starts, ends = self._key_bytes.offsets[at].tolist(), self._key_bytes.offsets[at + 1].tolist()
        return [str(data[start:end], "utf-8") for start, end in zip(starts, ends, strict=True)]

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
            names = f"{name}.width", f"{name}.height", f"{name}.orientation"
            for told, size, width, height, orientation in zip(found, *columns, strict=True):
                if size >= 0 and width:
                    told[names[0]], told[names[1]], told[names[2]] = width, height, orientation
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


class IndexColumns:
    """The index of a shard that is being written: `row` begins a sample, `place` says where one of its fields lies. Not thread-safe."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._fields: dict[str, _Places] = {}

    def row(self, key: str) -> None:
        """The next sample."""
        self._keys.append(key)

    def place(self, name: str, offset: int, size: int, crc32c: int | None, image: ImageInfo | None = None) -> None:
        """Where the newest sample has a field; see `Placed`."""
        places = self._fields.get(name)
        if places is None:
            places = self._fields[name] = _Places()
        row = len(self._keys) - 1
        places.rows.append(row)
        places.offset.append(offset)
        places.size.append(size)
        places.crc32c.append(crc32c)
        if image is not None:
            places.pictured.append(row)
            places.width.append(image.width)
            places.height.append(image.height)
            places.orientation.append(image.orientation)
            if image.segments:
                places.segments[row] = image.segments

    def encode(self, sections: Mapping[str, bytes] | None = None) -> bytes:
        """The bytes of the index. Equal samples give equal bytes."""
        columns: dict[str, Any] = {"key": pa.array(self._keys, pa.string())}
        for name, places in sorted(self._fields.items()):
            columns |= {f"{name}.{part}": column for part, column in places.columns(len(self._keys)).items()}
        return _encode(columns, sections or {})


@dataclass(slots=True)
class _Places:
    """One field of the samples `rows`, and what is known of the images of those that are `pictured`. Lists of plain values: an object a
    sample would keep Python's collector busy."""

    rows: list[int] = dataclasses.field(default_factory=list)
    offset: list[int] = dataclasses.field(default_factory=list)
    size: list[int] = dataclasses.field(default_factory=list)
    crc32c: list[int | None] = dataclasses.field(default_factory=list)
    pictured: list[int] = dataclasses.field(default_factory=list)
    width: list[int] = dataclasses.field(default_factory=list)
    height: list[int] = dataclasses.field(default_factory=list)
    orientation: list[int] = dataclasses.field(default_factory=list)
    segments: dict[int, bytes | memoryview] = dataclasses.field(default_factory=dict)

    def columns(self, count: int) -> dict[str, Any]:
        """Over all of `count` samples."""
        columns = {
            "offset": pa.array(_over(count, self.rows, self.offset, -1), pa.int64()),
            "size": pa.array(_over(count, self.rows, self.size, -1), pa.int64()),
            "crc32c": pa.array(_over(count, self.rows, self.crc32c, 0), pa.uint32()),
        }
        if self.pictured:
            columns["width"] = pa.array(_over(count, self.pictured, self.width, 0), pa.int32())
            columns["height"] = pa.array(_over(count, self.pictured, self.height, 0), pa.int32())
            columns["orientation"] = pa.array(_over(count, self.pictured, self.orientation, 1), pa.uint8())
        if self.segments:
            columns["segments"] = pa.array([self.segments.get(row) for row in range(count)], pa.binary())
        return columns


def _over(count: int, rows: Sequence[int], values: list[Any], absent: int) -> list[Any]:
    """The values of `rows`, and `absent` for the others of `count` rows."""
    if len(values) == count:
        return values
    spread = [absent] * count
    for row, value in zip(rows, values, strict=True):
        spread[row] = value
    return spread


def write_index(rows: Sequence[IndexRow], sections: Mapping[str, bytes] | None = None) -> bytes:
    """The index of a shard whose fields are placed, from its samples in order. Equal rows give equal bytes."""
    columns = IndexColumns()
    for row in rows:
        columns.row(row.key)
        for name, placed in row.fields.items():
            columns.place(name, placed.offset, placed.size, placed.crc32c, placed.image)
    return columns.encode(sections)


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
