"""The metadata of a version, in columns: a row group at a time, so that a version larger than memory can be looked through."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataplane.catalog import Part
from dataplane.dataset import Dataset
from dataplane.errors import CorruptObject, InvalidArgument
from dataplane.manifest import open_table
from dataplane.objects import Objects
from dataplane.refs import Digest
from dataplane.shards import Shards
from dataplane.store import LocalPath

__all__ = ["MetadataPart", "columns_of", "metadata_parts"]

_WHOLE_BYTES: Final = 8 << 20  # a table up to this size is fetched at once, which checks its digest too
_CODED: Final = ("label",)  # columns of few values: read as codes


class MetadataPart:
    """The metadata of one part. What is read is checked: a table fetched whole against its digest, columns of a larger or local one
    against the checksums of their pages. Not thread-safe."""

    def __init__(self, objects: Objects, part: Part, shards: Shards) -> None:
        self.part = part
        self.shards = shards
        self._objects = objects
        self._where = objects.where(part.metadata)

    @cached_property
    def _file(self) -> Any:
        ref, store = self.part.metadata, self._objects.store
        path = store.local_path(ref) if isinstance(store, LocalPath) else None
        if path is not None:
            return open_table(str(path), where=self._where, dictionaries=_CODED)
        if ref.size <= _WHOLE_BYTES:
            return open_table(pa.BufferReader(pa.py_buffer(self._objects.get(ref))), where=self._where, dictionaries=_CODED)
        ranged = pa.PythonFile(io.BufferedReader(_Ranged(self._objects, ref), 1 << 16), mode="r")
        return open_table(ranged, where=self._where, dictionaries=_CODED, pre_buffer=True)

    @cached_property
    def schema(self) -> pa.Schema:
        """Its columns, without `shard` and `row`, and with `split`."""
        mine = [pa.field(f.name, _plain(f.type)) for f in self._file.schema_arrow if f.name not in {"shard", "row"}]
        return pa.schema([*mine, pa.field("split", pa.string())])

    def batches(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """The samples that the version has: `shard`, `row` and the columns of `schema`, null where this part has none of that name.

        A column of few values may come dictionary-encoded. A sample of each stands in the order of the table.
        """
        stored = [name for name in schema.names if name in self.schema.names and name != "split"]
        for group in range(self._file.num_row_groups):
            try:
                table = self._file.read_row_group(group, columns=["shard", "row", *stored])
            except (pa.ArrowException, OSError) as error:
                raise CorruptObject(f"{self._where} is damaged: {error}; check with: dataplane verify") from error
            shard, row = (table.column(name).to_numpy() for name in ("shard", "row"))
            if (self.shards.live < self.shards.samples).any():
                wanted = self.shards.wants(shard, row)
                table, shard = table.filter(pa.array(wanted)), shard[wanted]
            yield self._fitted(table, shard, schema)

    def _fitted(self, table: pa.Table, shard: Any, schema: pa.Schema) -> pa.Table:
        columns = {"shard": table.column("shard"), "row": table.column("row")}
        for field in schema:
            if field.name == "split":
                columns["split"] = pa.DictionaryArray.from_arrays(pa.array(self._split_codes[shard]), pa.array(self._splits, pa.string()))
            elif field.name in table.column_names:
                column = table.column(field.name)
                columns[field.name] = column if _plain(column.type) == field.type else column.cast(field.type)
            else:
                columns[field.name] = pa.nulls(len(table), field.type)
        return pa.table(columns)

    @cached_property
    def _splits(self) -> list[str]:
        return self.shards.splits

    @cached_property
    def _split_codes(self) -> Any:
        of_shard = self.shards.split_of(np.arange(len(self.shards)))
        return pc.index_in(of_shard, pa.array(self._splits, pa.string())).to_numpy(zero_copy_only=False).astype(np.int32)


def metadata_parts(objects: Objects, dataset: Dataset) -> list[MetadataPart]:
    """The metadata of each part of a version, in order."""
    return [MetadataPart(objects, part, shards) for part, shards in dataset.parts]


def columns_of(parts: Sequence[MetadataPart], of: str) -> pa.Schema:
    """The columns that any of the parts has, in types that hold the values of all. Raises `InvalidArgument`, naming the version `of`."""
    try:
        return pa.unify_schemas([part.schema for part in parts], promote_options="permissive") if parts else pa.schema([])
    except pa.ArrowException as error:
        raise InvalidArgument(f"the parts of {of} have metadata columns of one name that do not fit together: {error}") from error


def _plain(kind: Any) -> Any:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


class _Ranged(io.RawIOBase):
    """An object of a store as a file to read pieces of."""

    def __init__(self, objects: Objects, ref: Digest) -> None:
        self._objects = objects
        self._ref = ref
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ref.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), max(0, self._ref.size - self._at))
        piece = self._objects.ranges(self._ref, starts=[self._at], lengths=[length])[0] if length else memoryview(b"")
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)
