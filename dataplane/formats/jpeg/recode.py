"""Lossless transcoding of JPEG files, so that a crop can be cut out of them without decoding the rest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dataplane.errors import InvalidArgument
from dataplane.formats.jpeg.behind import with_rest
from dataplane.formats.jpeg.bits import WORD
from dataplane.formats.jpeg.errors import Unsupported
from dataplane.formats.jpeg.header import Header, parse
from dataplane.formats.jpeg.huffman import SHORT_BITS, HuffmanTable, lookup, runs
from dataplane.formats.jpeg.markers import DHT, DRI, EOI, SOF0, SOF1, SOI, SOS, MarkerSegment
from dataplane.formats.jpeg.metadata import essential
from dataplane.formats.jpeg.scan import EDIT_COLUMNS, MAX_CATEGORY, SLACK, Decoder, Fault, rewrite, stuff, unstuff, walk
from dataplane.formats.jpeg.segments import Segments, packed_lengths

__all__ = ["Recoded", "recode"]

_PIXELS: Final = 64
"""How wide segments are, at most, where that is possible: crops then decode little more than they need."""
_MAX_GROWTH: Final = 0.04
"""What that may cost. If rows have awkward divisors (a prime number of MCUs has 1), or pictures little content, segments are wider."""
_MARKER_BYTES: Final = 2
_FRAME_TO_SIZE: Final = 5
"""From the marker of a frame to its height: the length and the bits of a sample are between."""
_BITS_A_BLOCK: Final = 2
"""Each block has a DC and an AC code."""


@dataclass(frozen=True, slots=True)
class Recoded:
    """A transcoded file and the index of its segments."""

    data: bytes
    segments: Segments


@dataclass(frozen=True, slots=True)
class _Scan:
    """A transcoded scan, from its first segment to its end marker."""

    interval: int
    dc_tables: dict[int, HuffmanTable]
    data: memoryview
    lengths: NDArray[np.int64]


def recode(data: bytes | bytearray | memoryview, *, metadata: Literal["keep", "drop"]) -> Recoded:
    """The JPEG file `data` with restart markers, and their index. It decodes to the same pixels, bit for bit.

    `metadata`: "keep" everything, bytes behind the end marker included; "drop" what does not change how pixels are shown (colours and the
    EXIF orientation stay). Either way the result does not depend on anything but `data`. Raises `Unsupported`, and nothing else, over data
    of any kind: store the file as it is then. Releases the GIL for most of the time; thread-safe.
    """
    if metadata not in ("keep", "drop"):
        raise InvalidArgument(f'metadata may be "keep" or "drop"; this is {metadata!r}')
    data = bytes(data)
    header = parse(data)
    scan, end = _transcode(data, header)
    kept = header.kept if metadata == "keep" else tuple(essential(header.kept, data))
    head, at_size = _written(kept, header, scan)
    lengths, length_bytes = packed_lengths(scan.lengths)
    index = Segments(
        width=header.width,
        height=header.height,
        mcu=header.mcu,
        interval=scan.interval,
        subsampled=header.subsampled,
        header_bytes=len(head),
        at_size=at_size,
        lengths=lengths,
        length_bytes=length_bytes,
    )
    recoded = head + scan.data
    return Recoded(with_rest(recoded, data, end) if metadata == "keep" else recoded, index)


def _written(kept: tuple[MarkerSegment, ...], header: Header, scan: _Scan) -> tuple[bytes, int]:
    """The new header, and where its height is."""
    tables = (*scan.dc_tables.items(), *((number | 16, table) for number, table in header.ac_tables.items()))
    segments = (
        *kept,
        MarkerSegment(DHT, b"".join(bytes((number,)) + table.counts + table.values for number, table in tables)),
        MarkerSegment(DRI, scan.interval.to_bytes(2, "big")),
        MarkerSegment(SOS, header.start_of_scan),
    )
    parts = [bytes((0xFF, SOI)), *(segment.data for segment in segments)]
    frame = next(number for number, segment in enumerate(segments) if segment.marker in (SOF0, SOF1))
    return b"".join(parts), sum(map(len, parts[: 1 + frame])) + _FRAME_TO_SIZE


def _transcode(data: bytes, header: Header) -> tuple[_Scan, int]:
    """The scan with restart markers, and where the old one's end marker ends."""
    across, down = header.mcu
    columns, rows = -(-header.width // across), -(-header.height // down)
    size, mcus = len(data) - header.scan, columns * rows
    if mcus * len(header.blocks) * _BITS_A_BLOCK > 8 * size:
        raise Unsupported("fewer bytes than its size needs")
    old = header.interval or mcus
    bits, ends = np.empty(size + SLACK, np.uint8), np.empty(-(-mcus // old), np.int64)
    fault, end = unstuff(np.frombuffer(data, np.uint8), header.scan, bits, ends)
    _check(fault)
    if data[end + 1] != EOI:
        raise Unsupported("more than one scan")
    decoder, limit = _decoder(header), (1 + _MAX_GROWTH) * (end - header.scan)
    *narrower, widest = _intervals(columns, across)
    for interval in narrower:
        if int(ends[-1]) + _MARKER_BYTES * (mcus // interval) < limit:  # else it cannot be
            scan = _restarted(header, decoder, bits, ends, (mcus, old, interval))
            if len(scan.data) < limit:
                return scan, end + _MARKER_BYTES
    return _restarted(header, decoder, bits, ends, (mcus, old, widest)), end + _MARKER_BYTES


def _intervals(columns: int, across: int) -> list[int]:
    """The restart intervals that divide a row of MCUs, from the widest of up to `_PIXELS` on."""
    divisors = [n for n in range(1, columns + 1) if columns % n == 0]
    return divisors[sum(n * across <= _PIXELS for n in divisors) - 1 :]


def _restarted(header: Header, decoder: Decoder, bits: NDArray[np.uint8], ends: NDArray[np.int64], plan: tuple[int, int, int]) -> _Scan:
    """The bits of a scan with other restarts: the last three passes of `scan`."""
    mcus, _, interval = plan
    segments, tables = mcus // interval, header.dc_tables.values()
    edits = np.empty(((1 + len(header.components)) * (segments + ends.size), EDIT_COLUMNS), np.int64)
    fault, count, categories = walk(bits, ends, plan, decoder, edits)
    _check(fault)
    wanted = [{n for n in range(MAX_CATEGORY + 1) if categories >> 16 * number + n & 1} for number in range(len(tables))]
    extended = [table.with_symbols(symbols) for table, symbols in zip(tables, wanted, strict=True)]
    rewritten, new_ends = np.empty(int(ends[-1]) + 4 * count + WORD, np.uint8), np.empty(segments, np.int64)
    rewrite(bits, edits[:count], np.stack([_codes(table) for table in extended]), rewritten, new_ends)
    out, lengths = np.empty(2 * (int(new_ends[-1]) + segments) + WORD, np.uint8), np.empty(segments, np.int64)
    written = stuff(rewritten, new_ends, out, lengths)
    return _Scan(interval, dict(zip(header.dc_tables, extended, strict=True)), out[:written].data, lengths)


@lru_cache(maxsize=64)
def _codes(table: HuffmanTable) -> NDArray[np.int64]:
    """By category: code and length; zeros for those that a table lacks."""
    codes = np.zeros((MAX_CATEGORY + 1, 2), np.int64)
    for category, code in table.codes.items():
        if category <= MAX_CATEGORY:
            codes[category] = code
    return codes


def _decoder(header: Header) -> Decoder:
    dc, ac = list(header.dc_tables), list(header.ac_tables)
    tables = [lookup(table) for table in (*header.dc_tables.values(), *header.ac_tables.values())]
    starts = np.cumsum([0, *(table.entries.size for table in tables[:-1])])
    steps = np.zeros((len(tables), 1 << SHORT_BITS), np.uint16)
    for number, table in enumerate(header.ac_tables.values(), start=len(dc)):
        steps[number] = runs(table)
    return Decoder(
        component=np.array(header.blocks, np.int64),
        dc=np.array([dc.index(c.dc) for c in header.components], np.int64),
        ac=np.array([len(dc) + ac.index(c.ac) for c in header.components], np.int64),
        entries=np.concatenate([table.entries for table in tables]),
        bases=np.array([(start, table.long) for start, table in zip(starts, tables, strict=True)], np.int64),
        runs=steps,
    )


def _check(fault: int) -> None:
    if fault:
        raise Unsupported(Fault(fault).reason)
