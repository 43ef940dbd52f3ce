"""What of zarr-python a shard needs: decoding units, and a read-only store over the members of a shard. Importing this loads zarr."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.buffer.cpu import Buffer
from zarr.storage import MemoryStore

from dataplane.errors import CorruptObject
from dataplane.formats.zarr_layout import Layout, stacked, unit_name
from dataplane.formats.zarr_members import Members
from dataplane.objects import Objects
from dataplane.refs import ObjectRef

__all__ = ["MembersStore", "decode", "dtype_of"]


def decode(layout: Layout, pieces: Sequence[Any]) -> npt.NDArray[np.generic]:
    """Units of an array, [len(pieces) * rows of a unit, *unit], from their encoded bytes; None stands for the fill value.

    Raises whatever zarr-python and its codecs raise.
    """
    values = {unit_name(layout, i): Buffer.from_bytes(piece) for i, piece in enumerate(pieces) if piece is not None}
    units = np.asarray(_opened(layout, values, len(pieces))[...])
    return units.astype(units.dtype.newbyteorder("="), copy=False) if units.dtype.kind in "iufc" else units


def dtype_of(layout: Layout) -> str:
    """The dtype of an array, as numpy calls it. Raises what zarr-python raises for a metadata document that it cannot use here."""
    return str(_opened(layout, {}, 0).dtype)


class MembersStore(Store):  # type: ignore[misc]  # zarr's types are not looked into
    """A shard as a store of zarr-python: `zarr.open_group(MembersStore(…), mode="r")`. Read-only; holds no handle.

    Each value is read with one request, in a thread, and only the bytes asked for. Metadata documents come from the index.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, objects: Objects, ref: ObjectRef, members: Members) -> None:
        super().__init__(read_only=True)
        self._objects = objects
        self._ref = ref
        self._members = members

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MembersStore) and (self._ref, self._members) == (other._ref, other._members)

    __hash__ = None  # type: ignore[assignment]  # as other stores of zarr-python

    def __str__(self) -> str:
        return str(self._ref)

    async def get(self, key: str, prototype: Any, byte_range: ByteRequest | None = None) -> Any:
        member = self._members.get(key)
        if member is None:
            return None
        start, stop = _resolve(byte_range, member.size)
        data: Any
        if member.data is not None:
            data = member.data[start:stop]
        elif member.tail is not None and start >= member.size - len(member.tail):
            data = member.tail[start - member.size + len(member.tail) :][: stop - start]
        else:
            ref = self._members.object_of(self._ref, member)
            read = asyncio.to_thread(self._objects.ranges, ref, starts=[member.offset + start], lengths=[stop - start])
            (data,) = await read
        if len(data) != stop - start:
            raise CorruptObject(f"{self._ref}: {key} has {len(data)} of the {stop - start} bytes from {start}: it was cut off")
        return prototype.buffer.from_bytes(data)

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, ByteRequest | None]]) -> list[Any]:
        return list(await asyncio.gather(*(self.get(key, prototype, cut) for key, cut in key_ranges)))

    async def exists(self, key: str) -> bool:
        return self._members.get(key) is not None

    async def set(self, key: str, value: Any) -> None:
        self._check_writable()

    async def delete(self, key: str) -> None:
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        for member in self._members:
            yield member.name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for member in self._members.below(prefix):
            yield member.name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        head = f"{prefix.rstrip('/')}/" if prefix else ""
        last = None
        for member in self._members.below(head):
            name = member.name[len(head) :].split("/", 1)[0]
            if name != last:
                yield name
            last = name


def _opened(layout: Layout, values: dict[str, Any], count: int) -> Any:
    """The stacked array of `count` units, over `values` in memory."""
    values["zarr.json" if layout.format == 3 else ".zarray"] = Buffer.from_bytes(stacked(layout, count))
    return zarr.open_array(MemoryStore(values, read_only=True), mode="r", zarr_format=layout.format)


def _resolve(cut: ByteRequest | None, size: int) -> tuple[int, int]:
    """The bytes that a request of zarr-python means in a value of `size` bytes."""
    if isinstance(cut, RangeByteRequest):
        return min(cut.start, size), min(cut.end, size)
    if isinstance(cut, OffsetByteRequest):
        return min(cut.offset, size), size
    if isinstance(cut, SuffixByteRequest):
        return max(0, size - cut.suffix), size
    return 0, size
