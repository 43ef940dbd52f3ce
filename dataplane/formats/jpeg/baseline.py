"""Progressive JPEG files as sequential ones, losslessly: the same coefficients in one scan, with Huffman tables made for them.

A progressive file sends its coefficients in several scans, a few bits of a few of them in each, so that no part of it can be decoded by
itself. Of files whose scans leave something out, libjpeg smooths what it shows: those are refused.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataplane.formats.jpeg.behind import with_rest
from dataplane.formats.jpeg.bits import WORD
from dataplane.formats.jpeg.coefficients import Blocks, Progression, Scan, Tables, decode, encode
from dataplane.formats.jpeg.errors import Unsupported
from dataplane.formats.jpeg.header import Header, huffman_tables, marker_segments, parse, quantisation_tables
from dataplane.formats.jpeg.huffman import BLOCK, HuffmanTable, lookup, optimal
from dataplane.formats.jpeg.markers import DHT, DQT, DRI, EOI, SOF0, SOF1, SOF2, SOI, SOS, MarkerSegment
from dataplane.formats.jpeg.scan import SLACK, Fault, stuff, unstuff

__all__ = ["baseline"]

_NOT_SENT: Final = -1
_MAX_SHIFT: Final = 13
_ANY_TABLE: Final = HuffmanTable(bytes((1, *[0] * 15)), b"\0")


def baseline(data: bytes | bytearray | memoryview) -> bytes:
    """The progressive JPEG file `data` as a sequential one: of the same pixels, bit for bit, and with all else that is in it, bytes behind
    the end marker included. Usually a few percent larger. Raises `Unsupported`, as `recode` does; thread-safe.
    """
    data = bytes(data)
    kept: list[MarkerSegment] = []
    huffman: dict[int, HuffmanTable] = {}
    picture: _Picture | None = None
    at = interval = 0
    while True:
        for found, end in marker_segments(data, at):
            at = end
            if found.marker == DHT:
                huffman.update(huffman_tables(found.payload))
            elif found.marker == DRI and len(found.payload) == 2:
                interval = int.from_bytes(found.payload, "big")
            elif found.marker == SOS:
                break
            elif picture is None:
                kept.append(found)
            else:
                raise Unsupported("an odd marker between scans")
        picture = picture or _Picture(kept, len(data))
        at = picture.read(data, at, found.payload, interval, huffman)
        if data[at + 1] == EOI:
            return with_rest(picture.written(), data, at + 2)


def _head(kept: list[MarkerSegment], tables: list[tuple[HuffmanTable, HuffmanTable]]) -> bytes:
    """The header of a sequential file: one pair of tables for the first component, and one for the others, if there are any."""
    frames = [found.payload for found in kept if found.marker == SOF2]
    if len(frames) != 1 or len(frames[0]) < 6:
        raise Unsupported("not progressive")
    ids = frames[0][6::3]
    huffman = b"".join(
        bytes((number | kind << 4,)) + table.counts + table.values for number, pair in enumerate(tables) for kind, table in enumerate(pair)
    )
    selected = b"".join(bytes((each, 0x11 if number else 0)) for number, each in enumerate(ids))
    wide = any(number >= 16 for found in kept if found.marker == DQT for number in quantisation_tables(found.payload))
    segments = (
        *(MarkerSegment(SOF1 if wide else SOF0, found.payload) if found.marker == SOF2 else found for found in kept),
        MarkerSegment(DHT, huffman),
        MarkerSegment(SOS, bytes((len(ids),)) + selected + bytes((0, BLOCK - 1, 0))),
    )
    return bytes((0xFF, SOI)) + b"".join(each.data for each in segments)


class _Picture:
    """The coefficients of a picture, and which bits of them were read. Its header is checked as that of the sequential file to be."""

    def __init__(self, kept: list[MarkerSegment], size: int) -> None:
        self._kept = kept
        self._header: Header = parse(_head(kept, [(_ANY_TABLE, _ANY_TABLE)] * 2))
        self._ids = next(found.payload for found in kept if found.marker == SOF2)[6::3]
        across, down = self._header.mcu
        self._grid = -(-self._header.width // across), -(-self._header.height // down)
        count = self._grid[0] * self._grid[1] * len(self._header.blocks)
        if count > 8 * size:  # each has a DC coefficient, and that a bit at least
            raise Unsupported("fewer bytes than its size needs")
        self._coefficients = np.zeros((count, BLOCK), np.int16)
        self._sent = np.full((len(self._header.components), BLOCK), _NOT_SENT)

    def read(self, data: bytes, at: int, head: bytes, interval: int, huffman: dict[int, HuffmanTable]) -> int:
        """Add the scan at byte `at`; where the marker behind it is."""
        scan = self._scan(head, interval, huffman)
        blocks = scan.blocks
        bits, ends = np.empty(len(data) - at + SLACK, np.uint8), np.empty(-(-blocks.order.size // blocks.restart), np.int64)
        fault, end = unstuff(np.frombuffer(data, np.uint8), at, bits, ends)
        fault = fault or decode(bits, ends, scan, self._coefficients)
        if fault:
            raise Unsupported(Fault(fault).reason)
        return end

    def written(self) -> bytes:
        """The sequential file, up to its end marker."""
        if self._sent.any():
            raise Unsupported("coefficients that no scan has, or not all bits of")
        count = len(self._header.components)
        blocks = self._blocks(tuple(range(count)), 0)
        frequencies, codes = np.zeros((2 * count, 256), np.int64), np.zeros((2 * count, 256, 2), np.int64)
        fault, _ = encode(self._coefficients, blocks, codes, frequencies, np.empty(0, np.uint8))
        if fault:
            raise Unsupported(Fault(fault).reason)
        tables, size = [], 0
        for group in (slice(0, 2), slice(2, None))[: 1 + (count > 1)]:
            pair = []
            for kind in range(2):
                table, length = _optimal(frequencies[group][kind::2].sum(axis=0), codes[group][kind::2])
                pair.append(table)
                size += length
            tables.append((pair[0], pair[1]))
        bits = np.empty(-(-size // 8) + WORD, np.uint8)
        _, written = encode(self._coefficients, blocks, codes, frequencies, bits)
        out = np.empty(2 * (written // 8) + 2 + WORD, np.uint8)
        size = stuff(bits, np.array([written // 8]), out, np.empty(1, np.int64))
        return _head(self._kept, tables) + out[:size].tobytes()

    def _scan(self, head: bytes, interval: int, huffman: dict[int, HuffmanTable]) -> Scan:
        """What a scan's header says, checked against what was read before."""
        count = head[0] if head else 0
        if len(head) != 4 + 2 * count or not 0 < count <= len(self._ids):
            raise Unsupported("a damaged scan header")
        components = tuple(self._ids.find(each) for each in head[1:-3:2])
        first, last, (before, shift) = head[-3], head[-2], divmod(head[-1], 16)
        if -1 in components or sorted(set(components)) != list(components):
            raise Unsupported("odd component ids")
        dc_only = first == last == 0
        refined = self._sent[list(components), first : last + 1]
        if not (dc_only or (0 < first <= last < BLOCK and count == 1 and self._sent[components[0], 0] != _NOT_SENT)) or (
            shift > _MAX_SHIFT or (refined != (before or _NOT_SENT)).any() or (before and shift != before - 1)
        ):
            raise Unsupported("scans that do not follow each other")
        self._sent[list(components), first : last + 1] = shift
        numbers = [both >> 4 if dc_only else both & 15 | 16 for both in head[2:-3:2]]
        tables = _tables(components, [] if dc_only and before else [huffman.get(number) for number in numbers])
        return Scan(self._blocks(components, interval), tables, Progression(first, last, before > 0, shift))

    def _blocks(self, components: tuple[int, ...], interval: int) -> Blocks:
        """The blocks of these components, in the order of a scan of them."""
        columns, rows = self._grid
        orders, of, base = [], [], 0
        for number, component in enumerate(self._header.components):
            across, down = (component.across, component.down) if len(self._header.components) > 1 else (1, 1)
            places = base + np.arange(rows * down * columns * across).reshape(rows * down, columns * across)
            base += places.size
            if number not in components:
                continue
            if len(components) == 1:  # not interleaved: without the blocks that only fill up the last MCUs
                wide, high = (-(-size * part // whole) for size, part, whole in self._sizes(across, down))
                return Blocks(places[:high, :wide].ravel(), np.array([number]), interval or wide * high)
            orders.append(places.reshape(rows, down, columns, across).transpose(0, 2, 1, 3).reshape(rows * columns, down * across))
            of += [number] * (down * across)
        order = np.concatenate(orders, axis=1).ravel()
        return Blocks(order, np.array(of), interval * len(of) or order.size)

    def _sizes(self, across: int, down: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Width and height in pixels, each with a component's sampling factor, and the pixels of an MCU."""
        return (self._header.width, across, self._header.mcu[0]), (self._header.height, down, self._header.mcu[1])


def _tables(components: tuple[int, ...], huffman: list[HuffmanTable | None]) -> Tables:
    """The tables of a scan's components; of none, where bits come without codes."""
    found = [lookup(table) for table in huffman if table is not None]
    if len(found) != len(huffman):
        raise Unsupported("a missing Huffman table")
    bases, at = np.zeros((1 + max(components), 2), np.int64), 0
    for component, table in zip(components, found, strict=False):
        bases[component] = at, table.long
        at += table.entries.size
    return Tables(np.concatenate([np.empty(0, np.uint16), *(table.entries for table in found)]), bases)


def _optimal(frequencies: NDArray[np.int64], codes: NDArray[np.int64]) -> tuple[HuffmanTable, int]:
    """A table for symbols that occur so often, and how many bits they take. Its codes are written to each row of `codes`."""
    occurring = {int(symbol): int(frequencies[symbol]) for symbol in np.flatnonzero(frequencies)} or {0: 1}
    table = optimal(occurring)
    size = 0
    for symbol, (code, length) in table.codes.items():
        codes[:, symbol] = code, length
        size += occurring[symbol] * (length + (symbol & 15))
    return table, size
