"""Reading a Zarr shard: of the lake, or adopted as a zip file or a folder of objects."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from dataplane.errors import CorruptObject, DataplaneError, NotFound
from dataplane.formats.index import ShardIndex
from dataplane.formats.zarr_codecs import Decoder, decoder
from dataplane.formats.zarr_fetch import Place, fetch
from dataplane.formats.zarr_layout import Layout, Sharding, absent_rows, layout_of, read_slots, slot_span
from dataplane.formats.zarr_members import SECTION, Member, Members
from dataplane.formats.zarr_plan import Selection, select, take
from dataplane.objects import Objects
from dataplane.refs import Digest, ObjectRef

if TYPE_CHECKING:
    import zarr

__all__ = ["Reader"]

_VERIFY_BYTES: Final = 64 << 20
_INDEXES: Final = 256  # of inner chunks, kept in memory

Rows = Sequence[int] | npt.NDArray[np.int64]
Slots = npt.NDArray[np.uint64]


class Reader:
    """The `ShardReader` of a Zarr shard. Values are arrays in memory of the caller's own. Immutable and thread-safe; it holds no file.

    A batch costs one group of coalesced requests for all its fields, and a request for each object where a folder was adopted.
    """

    def __init__(self, objects: Objects, ref: ObjectRef, index: ShardIndex) -> None:
        self._objects = objects
        self._ref = ref
        self._index = index
        self._members = Members.read(index.sections.get(SECTION), where=index.where)
        self.fields: Sequence[str] = tuple(sorted(self._members.fields))
        self._layouts = {name: self._layout(name) for name in self.fields}
        self._absent = {name: absent_rows(layout) for name, layout in self._layouts.items()}
        self._decoders: dict[str, Decoder] = {}
        self._slots: dict[str, Slots] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._index)

    def keys(self) -> list[str]:
        """The keys of the samples, in the shard's order."""
        return self._index.keys()

    def shape(self, field: str) -> tuple[int, ...]:
        """The shape of a sample of a field."""
        return self._known(field).shape[1:]

    def read(self, row: int, fields: Sequence[str] | None = None) -> dict[str, npt.NDArray[np.generic]]:
        """`read_many` of one row."""
        return self.read_many([row], fields)[0]

    def read_many(self, rows: Rows, fields: Sequence[str] | None = None) -> list[dict[str, npt.NDArray[np.generic]]]:
        """Samples in the order asked for, or just some of their fields, as `formats.protocol.ShardReader` says."""
        batch = self._read(rows, dict.fromkeys(self.fields if fields is None else fields, ()))
        samples: list[dict[str, npt.NDArray[np.generic]]] = [{} for _ in range(len(rows))]
        for name, values in batch.items():
            absent = self._absent[name]
            for sample, row, value in zip(samples, rows, values, strict=True):
                if absent is None or not absent[row]:
                    sample[name] = np.asarray(value)
        return samples

    def read_array(self, rows: Rows, field: str) -> npt.NDArray[np.generic]:
        """One field of some samples, [n, *shape of a sample], in the order asked for. Samples that lack it hold the fill value."""
        return self._read(rows, {field: ()})[field]

    def read_window(self, row: int, field: str, window: Sequence[slice]) -> npt.NDArray[np.generic]:
        """A window of one sample: slices of step 1 along its first axes. Only the inner chunks under the window are fetched."""
        return np.asarray(self._read([row], {field: window})[field][0])

    def group(self) -> zarr.Group | zarr.Array[Any]:
        """The shard as zarr-python opens it: a group, or an array that was adopted by itself. Read-only."""
        import zarr

        from dataplane.formats.zarr_store import MembersStore

        store = MembersStore(self._objects, self._ref, self._members)
        return zarr.open(store, mode="r")

    def verify(self) -> None:
        """Read everything and check it: an object of the lake against its digest, an adopted one by decoding every unit."""
        if not isinstance(self._ref, Digest):
            self._decode_all()
            return
        try:
            self._objects.verify(self._ref)
        except CorruptObject:
            self._decode_all()  # says which field of which samples is damaged, if any is
            raise

    def _layout(self, field: str) -> Layout:
        path = self._members.fields[field]
        for name in ("zarr.json", ".zarray"):
            member = self._members.get(f"{path}/{name}" if path else name)
            if member is not None and member.data is not None:
                return layout_of(path, member.data, where=f"{self._objects.where(self._ref)}: field {field!r}")
        raise CorruptObject(f"{self._index.where} has no metadata document of the field {field!r}")

    def _known(self, field: str) -> Layout:
        try:
            return self._layouts[field]
        except KeyError:
            raise NotFound(f"{self._objects.where(self._ref)} has no field {field!r}; it has {', '.join(self.fields)}") from None

    def _read(self, rows: Rows, wanted: Mapping[str, Sequence[slice]]) -> dict[str, npt.NDArray[np.generic]]:
        where = self._objects.where(self._ref)
        selections, units = {}, {}
        for name, window in wanted.items():
            layout = self._known(name)
            selections[name] = select(layout.shape, layout.unit, rows, window, where=f"{where}: field {name!r}")
            units[name] = [layout.place(unit) for unit in selections[name].units]
        members = {path: (name, self._members.get(path)) for name, paths in units.items() for path in dict.fromkeys(p for p, _ in paths)}
        slots = self._slots_of(members)
        places = {name: [self._place(members[path][1], slots.get(path), slot) for path, slot in units[name]] for name in units}
        pieces = iter(fetch(self._objects, [place for field in places.values() for place in field]))
        found = {}
        for name, selection in selections.items():
            mine = [next(pieces) for _ in selection.units]
            found[name] = take(selection, self._decode(name, selection, mine))
        return found

    def _slots_of(self, members: Mapping[str, tuple[str, Member | None]]) -> dict[str, Slots]:
        """The indexes of inner chunks, by the names of the members they are in. `members`: with the field that each belongs to."""
        found: dict[str, Slots] = {}
        needed: list[tuple[Sharding, Member]] = []
        for path, (field, member) in members.items():
            sharding, kept = self._layouts[field].sharding, self._slots.get(path)
            if kept is not None:
                found[path] = kept
            elif member is not None and sharding is not None:
                needed.append((sharding, member))
        places = [None if member.tail is not None else self._tail(sharding, member) for sharding, member in needed]
        for (sharding, member), tail in zip(needed, fetch(self._objects, places), strict=True):
            where = f"{self._objects.where(self._ref)}: {member.name}"
            found[member.name] = read_slots(sharding, tail if member.tail is None else member.tail, where=where)
        with self._lock:
            if len(self._slots) + len(needed) > _INDEXES:
                self._slots.clear()
            self._slots.update(found)
        return found

    def _tail(self, sharding: Sharding, member: Member) -> Place:
        start = 0 if sharding.location == "start" else max(0, member.size - sharding.size)
        ref = self._members.object_of(self._ref, member)
        return Place(ref, member.offset + start, min(sharding.size, member.size), member.name)

    def _place(self, member: Member | None, slots: Slots | None, slot: int) -> Place | None:
        """Where a unit lies; None where it was never written."""
        if member is None:
            return None
        ref = self._members.object_of(self._ref, member)
        if slots is None:
            return Place(ref, member.offset, member.size, member.name, member.crc32)
        span = slot_span(slots, slot)
        if span is None:
            return None
        if sum(span) > member.size:
            where = f"{self._objects.where(self._ref)}: {member.name}"
            raise CorruptObject(f"{where} has {member.size} bytes, and an inner chunk that ends at {sum(span)}")
        return Place(ref, member.offset + span[0], span[1], member.name)

    def _decode(self, field: str, selection: Selection, pieces: Sequence[Any]) -> npt.NDArray[np.generic]:
        try:
            if field not in self._decoders:
                self._decoders[field] = decoder(self._layouts[field])
            return self._decoders[field](pieces)
        except (DataplaneError, MemoryError):
            raise
        except Exception as error:  # each codec raises its own kinds
            self._blame(field, selection, pieces, error)

    def _blame(self, field: str, selection: Selection, pieces: Sequence[Any], error: Exception) -> NoReturn:
        """Say which samples hold the unit that cannot be decoded."""
        samples = "a batch"
        for unit, piece in zip(selection.units, pieces, strict=True):
            try:
                self._decoders[field]([piece])
            except Exception as own:
                first = unit[0] * selection.unit[0]
                last = min(first + selection.unit[0], len(self)) - 1
                samples = f"sample {self._index.key(first)!r}" + (f" to {self._index.key(last)!r}" if last > first else "")
                error = own
                break
        raise CorruptObject(
            f"{self._objects.where(self._ref)}: field {field!r} of {samples} cannot be decoded: {error}; "
            "see what else is damaged with: dataplane verify"
        ) from error

    def _decode_all(self) -> None:
        for name, layout in self._layouts.items():
            row_bytes = max(1, int(self.read_array([0], name).nbytes)) if len(self) else 1
            step = max(1, _VERIFY_BYTES // row_bytes // layout.unit[0]) * layout.unit[0]
            for start in range(0, len(self), step):
                self.read_array(np.arange(start, min(start + step, len(self))), name)
