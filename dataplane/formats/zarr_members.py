"""The members of a Zarr shard: which key of a Zarr store lies where, as the section `zarr.members` of the shard's index.

An Arrow IPC table, sorted by name. A shard of the lake, or an adopted zip file, is one object, and `offset` is where a member's data begin
in it. An adopted folder is many objects: a member is the object `URL/NAME`, as it was when its etag was seen. What opening needs is kept in
the table: the metadata documents (`data`) and, for members that the writer made, the index of their inner chunks (`tail`).
"""

from __future__ import annotations

import io
import itertools
import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa

from dataplane.errors import CorruptObject, FormatTooNew, InvalidArgument
from dataplane.refs import Digest, Foreign, ObjectRef

__all__ = ["SECTION", "Member", "Members", "Packing"]

SECTION: Final = "zarr.members"
_FORMAT: Final = 1
_VERSION_KEY: Final = b"dataplane.zarr"
_SCHEMA: Final = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        ("crc32", pa.uint32()),
        ("etag", pa.string()),
        ("data", pa.binary()),
        ("tail", pa.binary()),
    ]
)

Packing = Literal["zip", "folder"]
"""One object that holds all members, or an object for each."""


@dataclass(frozen=True, slots=True)
class Member:
    """One key of a Zarr store. `crc32` is that of all its bytes, as a zip file has it; None where nobody has computed it."""

    name: str
    size: int
    offset: int = 0
    crc32: int | None = None
    etag: str | None = None
    data: bytes | None = None
    tail: bytes | None = None


class Members:
    """The members of one shard, and under which path the array of each field lies in it. Immutable and thread-safe."""

    def __init__(self, table: Any, *, packing: Packing, fields: Mapping[str, str], where: str) -> None:
        self.packing = packing
        self.fields = fields
        self.where = where
        self._columns = {name: table.column(name).combine_chunks() for name in _SCHEMA.names}
        self._names = self._columns["name"]

    @classmethod
    def of(cls, members: Sequence[Member], *, packing: Packing, fields: Mapping[str, str], where: str) -> Members:
        """The table of `members`. Raises `InvalidArgument` where two have one name."""
        ordered = sorted(members, key=lambda member: member.name)
        for one, other in itertools.pairwise(ordered):
            if one.name == other.name:
                raise InvalidArgument(f"{where} has two members named {one.name!r}; a Zarr store has one value a key")
        columns = {name: [getattr(member, name) for member in ordered] for name in _SCHEMA.names}
        return cls(pa.table(columns, schema=_SCHEMA), packing=packing, fields=fields, where=where)

    @classmethod
    def read(cls, section: bytes | None, *, where: str) -> Members:
        """The table in a section of an index. Raises `CorruptObject` or `FormatTooNew`, naming `where`."""
        if section is None:
            raise CorruptObject(f"{where} has no section {SECTION!r}: it is not the index of a Zarr shard")
        try:
            table = pa.ipc.open_file(pa.py_buffer(section)).read_all()
            stamped = json.loads((table.schema.metadata or {})[_VERSION_KEY])
            if stamped["format"] > _FORMAT:
                raise FormatTooNew(f"{where} has format {stamped['format']}; this release reads up to {_FORMAT}: upgrade dataplane")
            return cls(table, packing=stamped["packing"], fields=stamped["fields"], where=where)
        except FormatTooNew:
            raise
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise CorruptObject(f"{where}: the section {SECTION!r} cannot be read: {error}") from error

    def write(self) -> bytes:
        """The bytes of the section. Equal members give equal bytes."""
        stamped = json.dumps({"format": _FORMAT, "packing": self.packing, "fields": dict(self.fields)}, sort_keys=True)
        table = pa.table(self._columns, schema=_SCHEMA).replace_schema_metadata({_VERSION_KEY: stamped.encode()})
        sink = io.BytesIO()
        with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)
        return sink.getvalue()

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Member]:
        return (self._member(row) for row in range(len(self)))

    def get(self, name: str) -> Member | None:
        """The member of that name, or None."""
        row = bisect_left(self._names, name, key=lambda value: value.as_py())
        return self._member(row) if row < len(self) and self._names[row].as_py() == name else None

    def below(self, prefix: str) -> Iterator[Member]:
        """The members whose names begin with `prefix`, in order."""
        for row in range(bisect_left(self._names, prefix, key=lambda value: value.as_py()), len(self)):
            if not self._names[row].as_py().startswith(prefix):
                return
            yield self._member(row)

    def object_of(self, ref: ObjectRef, member: Member) -> ObjectRef:
        """The object that holds a member, given the one that stands for the shard."""
        if self.packing == "zip" or isinstance(ref, Digest):
            return ref
        return Foreign(f"{ref.url.rstrip('/')}/{member.name}", member.size, member.etag)

    def _member(self, row: int) -> Member:
        return Member(**{name: column[row].as_py() for name, column in self._columns.items()})
