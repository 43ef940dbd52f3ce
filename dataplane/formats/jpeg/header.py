"""What stands before the scan of a JPEG file (ITU-T T.81, annex B), for files of the kind that can be transcoded.

The kind: baseline or extended sequential (SOF0, SOF1), Huffman codes, 8 bits, grey or three components in one interleaved scan. All else is
`Unsupported`, and so is whatever a decoder would have to guess, skip or conceal: the file is stored as it is then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dataplane.formats.jpeg.errors import Unsupported
from dataplane.formats.jpeg.huffman import CODE_BITS, HuffmanTable
from dataplane.formats.jpeg.markers import APP0, APP15, COM, DHT, DQT, DRI, SOF0, SOF1, SOF2, SOI, SOS, MarkerSegment

__all__ = ["Component", "Header", "huffman_tables", "marker_segments", "parse", "quantisation_tables"]

_BLOCK_PIXELS: Final = 8
_MAX_MCU_BLOCKS: Final = 10
_SAMPLING: Final = range(1, 5)
_TABLES: Final = range(4)
_WHOLE_SPECTRUM: Final = b"\x00\x3f\x00"  # from coefficient 0 to 63, in one go
_OTHER_KINDS: Final = {
    **dict.fromkeys((SOF2, 0xC6, 0xCA, 0xCE), "progressive"),
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless"),
    **dict.fromkeys((0xC5, 0xCD, 0xDE, 0xDF), "hierarchical"),
    **dict.fromkeys((0xC9, 0xCC), "arithmetic coding"),
}
_DC_CATEGORIES: Final = 16


@dataclass(frozen=True, slots=True)
class Component:
    """A component of the frame: its sampling factors across and down, and the numbers of its Huffman tables."""

    across: int
    down: int
    dc: int
    ac: int


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header."""

    width: int
    height: int
    components: tuple[Component, ...]
    dc_tables: dict[int, HuffmanTable]
    """By number, as the components name them."""
    ac_tables: dict[int, HuffmanTable]
    interval: int
    """MCUs between restart markers; 0: there are none."""
    kept: tuple[MarkerSegment, ...]
    """All but Huffman tables, restart interval, and start of scan, in their order."""
    start_of_scan: bytes
    """The payload of that."""
    scan: int
    """Where the entropy-coded bytes begin."""

    @property
    def mcu(self) -> tuple[int, int]:
        """Width and height of an MCU in pixels."""
        if len(self.components) == 1:  # not interleaved: one block, whatever the sampling factors say
            return _BLOCK_PIXELS, _BLOCK_PIXELS
        return _BLOCK_PIXELS * max(c.across for c in self.components), _BLOCK_PIXELS * max(c.down for c in self.components)

    @property
    def blocks(self) -> tuple[int, ...]:
        """By block of an MCU: the number of its component."""
        if len(self.components) == 1:
            return (0,)
        return tuple(number for number, c in enumerate(self.components) for _ in range(c.across * c.down))

    @property
    def subsampled(self) -> tuple[bool, bool]:
        """Whether some component has fewer samples than another, across and down."""
        return len({c.across for c in self.components}) > 1, len({c.down for c in self.components}) > 1


def parse(data: bytes) -> Header:
    """The header of a JPEG file. Raises `Unsupported`."""
    frame, interval = b"", 0
    kept: list[MarkerSegment] = []
    quantised: set[int] = set()
    huffman: dict[int, HuffmanTable] = {}
    for segment, end in marker_segments(data):
        marker, payload = segment.marker, segment.payload
        if marker == DHT:
            huffman.update(huffman_tables(payload))
            continue
        if marker == DRI:
            _require(len(payload) == 2, "a damaged restart interval")
            interval = int.from_bytes(payload, "big")
            continue
        if marker == SOS:
            width, height, components = _components(frame, payload, quantised)
            dc, ac = {c.dc: huffman.get(c.dc) for c in components}, {c.ac: huffman.get(c.ac | 16) for c in components}
            return Header(width, height, components, _all(dc), _all(ac), interval, tuple(kept), payload, end)
        if marker in (SOF0, SOF1):
            _require(not frame, "more than one frame")
            frame = payload
        elif marker == DQT:
            quantised.update(number & 15 for number in quantisation_tables(payload))
        else:
            _require(APP0 <= marker <= APP15 or marker == COM, _OTHER_KINDS.get(marker, "an odd marker before its scan"))
        kept.append(segment)
    raise Unsupported("no scan")


def marker_segments(data: bytes, at: int = 0) -> Iterator[tuple[MarkerSegment, int]]:
    """The marker segments from byte `at` on, where 0 is the start of the file, each with where it ends. Raises `Unsupported` where there is
    none."""
    if at == 0:
        _require(data.startswith(bytes((0xFF, SOI))), "no JPEG")
        at = 2
    while True:
        begin = at
        while data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        _require(begin < len(data) and data[at] == 0xFF and length >= 2 and end <= len(data), "a damaged header")
        yield MarkerSegment(data[at + 1], data[at + 4 : end]), end
        at = end


def huffman_tables(payload: bytes) -> Iterator[tuple[int, HuffmanTable]]:
    """Number and table, of a segment's payload; 16 is added to the numbers of AC tables."""
    at = 0
    while at < len(payload):
        number, counts = payload[at], payload[at + 1 : at + 1 + CODE_BITS]
        end = at + 1 + CODE_BITS + sum(counts)
        _require(number & ~16 in _TABLES and end <= len(payload), "a damaged Huffman table")
        table = HuffmanTable(counts, payload[at + 1 + CODE_BITS : end])
        _require(number >= 16 or max(table.values) < _DC_CATEGORIES, "a damaged Huffman table")
        yield number, table
        at = end


def quantisation_tables(payload: bytes) -> Iterator[int]:
    """The numbers of the tables of a segment's payload; 16 is added to those of 16 bits."""
    at = 0
    while at < len(payload):
        wide, number = divmod(payload[at], 16)
        end = at + 65 + 64 * wide
        _require(wide <= 1 and number in _TABLES and end <= len(payload), "a damaged quantisation table")
        yield payload[at]
        at = end


def _components(frame: bytes, scan: bytes, quantised: set[int]) -> tuple[int, int, tuple[Component, ...]]:
    """Width, height, and the components, of the payloads of the start of frame and the start of scan."""
    _require(len(frame) >= 6, "no frame")
    bits, height, width, count = frame[0], int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big"), frame[5]
    _require(bits == 8, f"{bits} bits a sample")
    _require(height > 0 and width > 0, "a size that is not in its header")
    _require(count in (1, 3), f"{count} components")
    _require(len(frame) == 6 + 3 * count, "a damaged frame header")
    _require(scan[:1] == frame[5:6], "a scan for each component")
    _require(len(scan) == 4 + 2 * count and scan[-3:] == _WHOLE_SPECTRUM, "a damaged scan header")
    ids, factors = frame[6::3], [divmod(both, 16) for both in frame[7::3]]
    _require(scan[1:-3:2] == ids and len(set(ids)) == count, "odd component ids")
    _require(all(number in quantised for number in frame[8::3]), "no quantisation table")
    components = tuple(Component(*both, *divmod(tables, 16)) for both, tables in zip(factors, scan[2:-3:2], strict=True))
    _require(all(c.across in _SAMPLING and c.down in _SAMPLING for c in components), "odd sampling factors")
    across, down = max(c.across for c in components), max(c.down for c in components)
    _require(all(across % c.across == 0 and down % c.down == 0 for c in components), "odd sampling factors")
    _require(count == 1 or sum(c.across * c.down for c in components) <= _MAX_MCU_BLOCKS, "too many blocks an MCU")
    return width, height, components


def _all(tables: dict[int, HuffmanTable | None]) -> dict[int, HuffmanTable]:
    found = {number: table for number, table in tables.items() if table is not None}
    _require(len(found) == len(tables), "a missing Huffman table")
    return found


def _require(sound: bool, reason: str) -> None:
    if not sound:
        raise Unsupported(reason)
