"""Decoding units: the usual codecs in the calling thread, all others by zarr-python.

zarr-python decodes on one event loop for the whole process, which costs about a millisecond a call and lets the threads of a loader wait
for each other. What nearly all arrays are made of (numbers in C order, one compressor, a checksum) needs none of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from dataplane.formats.tar import crc32c
from dataplane.formats.zarr_layout import Layout, unit_codecs

__all__ = ["Decoder", "decoder"]

Decoder = Callable[[Sequence[Any]], npt.NDArray[Any]]
"""Units, [n * rows of a unit, *unit], from their encoded bytes; None stands for the fill value. Raises what codecs raise."""

_NUMBERS: Final = frozenset(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128".split()  # noqa: SIM905
)
_COMPRESSORS: Final = frozenset({"zstd", "blosc", "gzip"})
_CRC_BYTES: Final = 4


def decoder(layout: Layout) -> Decoder:
    """What decodes the units of an array. Raises what zarr-python raises for a metadata document that it cannot use."""
    plain = _plain_2(layout) if layout.format == 2 else _plain_3(layout)

    def by_zarr(pieces: Sequence[Any]) -> npt.NDArray[Any]:
        from dataplane.formats.zarr_store import decode

        return decode(layout, pieces)

    if plain is None:
        return by_zarr
    return lambda pieces: by_zarr(pieces) if plain.fill is None and None in pieces else plain.decode(pieces)


@dataclass(frozen=True, slots=True)
class _Plain:
    """Numbers in C order, maybe compressed, maybe with a CRC-32C at the end. `fill` is None where only zarr-python knows the fill value."""

    unit: tuple[int, ...]
    dtype: np.dtype[Any]
    decompress: Callable[[Any], Any] | None
    checked: bool
    fill: float | None

    def decode(self, pieces: Sequence[Any]) -> npt.NDArray[Any]:
        units = np.empty((len(pieces), *self.unit), self.dtype.newbyteorder("="))
        for number, piece in enumerate(pieces):
            units[number] = self.fill if piece is None else self._one(piece)
        return units.reshape(-1, *self.unit[1:])

    def _one(self, piece: Any) -> npt.NDArray[Any]:
        if self.checked:
            piece, crc = piece[:-_CRC_BYTES], piece[-_CRC_BYTES:]
            if int.from_bytes(crc, "little") != crc32c(piece):
                raise ValueError("its checksum is that of other bytes")
        data = piece if self.decompress is None else self.decompress(piece)
        return np.frombuffer(data, self.dtype).reshape(self.unit)


def _plain_2(layout: Layout) -> _Plain | None:
    document = layout.document
    kind = document.get("dtype")
    if document.get("filters") or document.get("order") != "C" or not isinstance(kind, str) or np.dtype(kind).name not in _NUMBERS:
        return None
    compressor = document.get("compressor")
    if compressor is not None and compressor["id"] not in _COMPRESSORS:
        return None
    return _Plain(layout.unit, np.dtype(kind), _decompress(compressor and compressor["id"]), False, _fill(document))


def _plain_3(layout: Layout) -> _Plain | None:
    document, codecs = layout.document, list(unit_codecs(layout))
    kind = document["data_type"]
    if not isinstance(kind, str) or kind not in _NUMBERS or document.get("storage_transformers"):
        return None
    names = [codec if isinstance(codec, str) else codec["name"] for codec in codecs]
    checked = names[-1] == "crc32c"
    first, *middle = names[:-1] if checked else names
    if first != "bytes" or len(middle) > 1 or not _COMPRESSORS.issuperset(middle):
        return None
    options = codecs[0].get("configuration") or {} if isinstance(codecs[0], dict) else {}
    orders: Mapping[str, Literal["<", ">"]] = {"big": ">", "little": "<"}
    order = orders.get(options.get("endian", ""))
    dtype = np.dtype(kind)
    if order is None and dtype.itemsize > 1:
        return None
    return _Plain(layout.unit, dtype.newbyteorder(order or "="), _decompress(middle[0] if middle else None), checked, _fill(document))


def _decompress(name: str | None) -> Callable[[Any], Any] | None:
    if name is None:
        return None
    from numcodecs import get_codec

    decode: Callable[[Any], Any] = get_codec({"id": name}).decode
    return decode


def _fill(document: Mapping[str, Any]) -> float | None:
    value = document.get("fill_value")
    return value if isinstance(value, int | float) else None
