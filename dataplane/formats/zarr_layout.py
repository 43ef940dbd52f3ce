"""How a Zarr array is divided: its metadata document, version 2 or 3, as the units that are decoded at once, and where each unit lies.

The unit is the inner chunk of a sharded array, else the chunk. `stacked` gives the document of an array that has the same units, any
number of them one after the other along the first axis: zarr-python reads the units that a batch needs, and no others, as one small array,
so every codec it has works here, and units are decoded side by side.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from dataplane.errors import CorruptObject
from dataplane.formats.tar import crc32c

__all__ = [
    "ATTRIBUTES",
    "DOCUMENTS",
    "Layout",
    "Sharding",
    "absent_rows",
    "layout_of",
    "read_slots",
    "slot_span",
    "stacked",
    "unit_codecs",
    "unit_name",
]

ATTRIBUTES: Final = "dataplane"
"""The attribute under which a writer keeps what only dataplane needs."""
DOCUMENTS: Final = frozenset({"zarr.json", ".zarray", ".zgroup", ".zattrs"})
_NO_UNIT: Final = 2**64 - 1
_CRC_BYTES: Final = 4
_LITTLE: Final = {"name": "bytes", "configuration": {"endian": "little"}}

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sharding:
    """How many units lie in one member along each axis, and where in it their index is."""

    units: Shape
    location: Literal["start", "end"]
    checked: bool

    @property
    def size(self) -> int:
        """The bytes of the index: two integers a unit, and a CRC-32C where it is checked."""
        return 16 * math.prod(self.units) + (_CRC_BYTES if self.checked else 0)


@dataclass(frozen=True, slots=True)
class Layout:
    """One array. `shape` and `unit` have the sample axis first; `document` is its metadata as JSON."""

    path: str
    format: int
    shape: Shape
    unit: Shape
    sharding: Sharding | None
    keys: tuple[str, str]  # what the key of a chunk begins with, and what stands between its coordinates
    document: Mapping[str, Any]

    def place(self, unit: Sequence[int]) -> tuple[str, int]:
        """The member that holds a unit, given the unit's coordinates, and its number there."""
        per = self.sharding.units if self.sharding else (1,) * len(self.unit)
        outer = [at // n for at, n in zip(unit, per, strict=True)]
        slot = 0
        for at, n in zip(unit, per, strict=True):
            slot = slot * n + at % n
        head, separator = self.keys
        name = separator.join([*([head] if head else []), *map(str, outer)])
        return (f"{self.path}/{name}" if self.path else name), slot


def layout_of(path: str, data: bytes, *, where: str) -> Layout:
    """The layout that a metadata document (`zarr.json`, `.zarray`) describes. Raises `CorruptObject`, naming `where`."""
    try:
        document = json.loads(data)
        layout = _version_3(path, document) if document["zarr_format"] == 3 else _version_2(path, document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObject(f"{where} is not the metadata of a Zarr array: {type(error).__name__}: {error}") from error
    if not layout.shape or len(layout.shape) != len(layout.unit) or any(n < 1 for n in layout.unit) or any(n < 0 for n in layout.shape):
        raise CorruptObject(f"{where}: an array of shape {layout.shape} in chunks of {layout.unit} has no samples along a first axis")
    return layout


def stacked(layout: Layout, count: int) -> bytes:
    """The document of an array of `count` units of this layout, one after the other along the first axis, a unit a chunk."""
    shape = [count * layout.unit[0], *layout.unit[1:]]
    if layout.format == 2:
        document = {**layout.document, "shape": shape, "chunks": list(layout.unit), "dimension_separator": "."}
    else:
        dropped = {"attributes", "dimension_names", "consolidated_metadata"}
        document = {name: value for name, value in layout.document.items() if name not in dropped}
        document["shape"] = shape
        document["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": list(layout.unit)}}
        document["chunk_key_encoding"] = {"name": "v2", "configuration": {"separator": "."}}
        document["codecs"] = unit_codecs(layout)
    return json.dumps(document).encode()


def unit_codecs(layout: Layout) -> Sequence[Any]:
    """The codecs of a unit of an array of version 3, as its document lists them."""
    codecs: Sequence[Any] = layout.document["codecs"]
    return codecs if layout.sharding is None else codecs[0]["configuration"]["codecs"]


def unit_name(layout: Layout, number: int) -> str:
    """The key of unit `number` of a stacked array."""
    return ".".join([str(number), *["0"] * (len(layout.unit) - 1)])


def read_slots(sharding: Sharding, data: bytes | memoryview, *, where: str) -> npt.NDArray[np.uint64]:
    """The offset and size of each unit of a member, uint64 [units, 2]. Raises `CorruptObject` where the index fails its CRC."""
    if len(data) != sharding.size:
        raise CorruptObject(f"{where}: the index of its inner chunks has {len(data)} bytes, expected {sharding.size}: it was cut off")
    body = bytes(data[: 16 * math.prod(sharding.units)])
    if sharding.checked and int.from_bytes(data[-_CRC_BYTES:], "little") != crc32c(body):
        raise CorruptObject(f"{where}: the index of its inner chunks fails its checksum")
    return np.frombuffer(body, "<u8").reshape(-1, 2)


def slot_span(slots: npt.NDArray[np.uint64], slot: int) -> tuple[int, int] | None:
    """The offset and size of one unit in its member, or None where it was never written, which means the fill value."""
    offset, size = (int(n) for n in slots[slot])
    return None if offset == _NO_UNIT and size == _NO_UNIT else (offset, size)


def absent_rows(layout: Layout) -> npt.NDArray[np.bool_] | None:
    """Which samples lack this field, bool [samples], as our writer noted it; None where all have it."""
    noted = (layout.document.get("attributes") or {}).get(ATTRIBUTES) or {}
    if not noted.get("absent"):
        return None
    absent = np.zeros(layout.shape[0], bool)
    for start, stop in noted["absent"]:
        absent[start:stop] = True
    return absent


def _version_2(path: str, document: Mapping[str, Any]) -> Layout:
    keys = ("", document.get("dimension_separator") or ".")
    return Layout(path, 2, _shape(document["shape"]), _shape(document["chunks"]), None, keys, document)


def _version_3(path: str, document: Mapping[str, Any]) -> Layout:
    grid, encoding = document["chunk_grid"], document["chunk_key_encoding"]
    if document["node_type"] != "array" or grid["name"] != "regular":
        raise ValueError(f"a node of type {document['node_type']!r} with a chunk grid {grid['name']!r}; read are arrays with a regular one")
    encoding = {"name": encoding} if isinstance(encoding, str) else encoding
    default = encoding["name"] == "default"
    separator = (encoding.get("configuration") or {}).get("separator") or ("/" if default else ".")
    chunk = _shape(grid["configuration"]["chunk_shape"])
    unit, sharding = _sharded(chunk, document["codecs"])
    return Layout(path, 3, _shape(document["shape"]), unit, sharding, ("c" if default else "", separator), document)


def _sharded(chunk: Shape, codecs: Sequence[Any]) -> tuple[Shape, Sharding | None]:
    """The unit of a chunk. A chunk whose inner chunks cannot be found without its own codecs is one unit."""
    if len(codecs) != 1 or not isinstance(codecs[0], dict) or codecs[0]["name"] != "sharding_indexed":
        return chunk, None
    options = codecs[0]["configuration"]
    kinds = options.get("index_codecs", [_LITTLE, {"name": "crc32c"}])
    names = [kind if isinstance(kind, str) else kind["name"] for kind in kinds]
    little = kinds[0] == _LITTLE
    unit = _shape(options["chunk_shape"])
    divides = len(unit) == len(chunk) and all(n and m % n == 0 for m, n in zip(chunk, unit, strict=True))
    if not little or names[1:] not in ([], ["crc32c"]) or not divides:
        return chunk, None
    units = tuple(m // n for m, n in zip(chunk, unit, strict=True))
    return unit, Sharding(units, options.get("index_location", "end"), len(names) == 2)


def _shape(value: Sequence[Any]) -> Shape:
    return tuple(int(n) for n in value)
