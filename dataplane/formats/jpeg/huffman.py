"""Huffman tables of JPEG: their codes, what decodes them fast, and how to give one more symbols without touching the codes it has.

A table lists its symbols by the length of their codes, and codes are canonical (ITU-T T.81, annex C): numbered upwards, each length going
on where the one before ended. A symbol is followed by as many extra bits as its low four bits say; of AC symbols the high four are the
number of zero coefficients before this one, 0xF0 is 16 zeros, and every other one with low bits of 0 ends the block, as in libjpeg.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataplane.formats.jpeg.errors import Unsupported
from dataplane.jit import compiled

__all__ = ["BLOCK", "CODE_BITS", "END", "SHORT_BITS", "ZEROS", "HuffmanTable", "Lookup", "lookup", "optimal", "runs"]

BLOCK: Final = 64
"""Coefficients of a block."""
CODE_BITS: Final = 16
"""The longest code."""
SHORT_BITS: Final = 11
"""How many bits a first look at a table takes in: more see longer runs, but make tables that take longer to build. (Numba
does not notice when the constants of another module change: delete its cache then.)"""
END: Final = 1 << 12
"""Set in a run that ends its block."""
ZEROS: Final = 0xF0
"""The AC symbol of 16 zeros."""

_CACHED: Final = 64  # tables, of some 10 KiB: the standard ones, and those of a few cameras


@dataclass(frozen=True, slots=True)
class HuffmanTable:
    """`counts[n]` symbols have codes of n + 1 bits; `values` are the symbols in the order of their codes. Checked: it is one."""

    counts: bytes
    values: bytes

    def __post_init__(self) -> None:
        if len(self.counts) != CODE_BITS or not 0 < sum(self.counts) == len(self.values) <= 256:
            raise Unsupported("a damaged Huffman table")
        code = 0
        for length, count in enumerate(self.counts, start=1):
            code = 2 * code + count
            if count and code >= 1 << length:  # no code is all ones
                raise Unsupported("a Huffman table of more codes than there are")

    @property
    def codes(self) -> dict[int, tuple[int, int]]:
        """Symbol → its code and the length of that in bits."""
        codes, code, at = {}, 0, 0
        for length, count in enumerate(self.counts, start=1):
            code *= 2
            for value in self.values[at : at + count]:
                codes[value] = (code, length)
                code += 1
            at += count
        return codes

    def with_symbols(self, wanted: set[int]) -> HuffmanTable:
        """This table with codes for all of `wanted`: those it lacks get longer ones than any it has, which all stay as they are."""
        missing = bytes(sorted(wanted.difference(self.values)))
        if not missing:
            return self
        longest = max(length for length, count in enumerate(self.counts, start=1) if count)
        length = longest + len(missing).bit_length()  # what the longest leave free is at least one, split into more than are missing
        if length > CODE_BITS:
            raise Unsupported("a Huffman table without room for the codes that restarts need")
        counts = bytearray(self.counts)
        counts[length - 1] = len(missing)
        return HuffmanTable(bytes(counts), self.values + missing)


def optimal(frequencies: dict[int, int]) -> HuffmanTable:
    """The shortest codes for symbols that occur so often: T.81, K.2."""
    reserved = 256  # stands for the code of all ones, and is the rarest
    heap: list[tuple[int, int, tuple[int, ...]]] = [(count, -symbol, (symbol,)) for symbol, count in frequencies.items()]
    heap.append((0, -reserved, (reserved,)))
    heapq.heapify(heap)
    lengths = dict.fromkeys((*frequencies, reserved), 0)
    while len(heap) > 1:
        (first, _, one), (second, place, other) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in one + other:
            lengths[symbol] += 1
        heapq.heappush(heap, (first + second, place, one + other))
    counts = [0] * (max(*lengths.values(), CODE_BITS) + 1)
    for length in lengths.values():
        counts[length] += 1
    for length in range(len(counts) - 1, CODE_BITS, -1):
        while counts[length]:  # two that are too long: one takes the place of both, the other halves that of a shorter one
            shorter = max(n for n in range(1, length - 1) if counts[n])
            counts[length] -= 2
            counts[length - 1] += 1
            counts[shorter + 1] += 2
            counts[shorter] -= 1
    counts[max(n for n in range(CODE_BITS + 1) if counts[n])] -= 1
    values = sorted(frequencies, key=lambda symbol: (lengths[symbol], -frequencies[symbol], symbol))
    return HuffmanTable(bytes(counts[1 : CODE_BITS + 1]), bytes(values))


class Lookup(NamedTuple):
    """Decodes symbols. An entry is symbol << 5 | length of its code, or 0 where no code begins with these bits.

    The first 2^SHORT_BITS entries are by the next `SHORT_BITS` bits. Longer codes come after all short ones, so a few more entries do for
    them: by the next `CODE_BITS` bits, from the number `long` on.
    """

    entries: NDArray[np.uint16]
    long: int


@lru_cache(maxsize=_CACHED)
def lookup(table: HuffmanTable) -> Lookup:
    """What decodes the symbols of a table. Read-only."""
    short = 0  # the first number of SHORT_BITS bits that no short code begins with
    for count in table.counts[:SHORT_BITS]:
        short = 2 * short + count
    long = short << CODE_BITS - SHORT_BITS
    entries = np.zeros((1 << SHORT_BITS) + (1 << CODE_BITS) - long, np.uint16)
    _fill_entries(np.frombuffer(table.counts, np.uint8), np.frombuffer(table.values, np.uint8), long, entries)
    entries.flags.writeable = False
    return Lookup(entries, long)


@lru_cache(maxsize=_CACHED)
def runs(table: HuffmanTable) -> NDArray[np.uint16]:
    """By the next `SHORT_BITS` bits: as many whole AC symbols as they show (the last one's extra bits may lie beyond), in one step: END if
    the last one ends the block, | coefficients passed << 5 | bits. 0 where not even one symbol shows. Read-only."""
    steps = np.empty(1 << SHORT_BITS, np.uint16)
    _fill_runs(lookup(table).entries, steps)
    steps.flags.writeable = False
    return steps


@compiled
def _fill_entries(counts: NDArray[np.uint8], values: NDArray[np.uint8], long: int, entries: NDArray[np.uint16]) -> None:
    code = at = 0
    for length in range(1, CODE_BITS + 1):
        code <<= 1
        for _ in range(counts[length - 1]):
            bits = SHORT_BITS if length <= SHORT_BITS else CODE_BITS
            first = (code << bits - length) + (0 if length <= SHORT_BITS else (1 << SHORT_BITS) - long)
            entries[first : first + (1 << bits - length)] = np.int64(values[at]) << 5 | length
            code += 1
            at += 1


@compiled
def _fill_runs(entries: NDArray[np.uint16], steps: NDArray[np.uint16]) -> None:
    for window in range(steps.size):
        rest: Any = np.int64(window)
        bits: Any = np.int64(0)
        passed: Any = np.int64(0)
        end = 0
        while bits < SHORT_BITS and end == 0:
            entry = np.int64(entries[rest])
            length, extra, skipped = entry & 31, entry >> 5 & 15, entry >> 9
            ends = extra == 0 and skipped != ZEROS >> 4
            step = 1 if ends else skipped + 1
            if entry == 0 or bits + length > SHORT_BITS or passed + step > BLOCK:
                break
            end = END if ends else 0
            passed += step
            bits += length + extra
            rest = rest << length + extra & steps.size - 1
        steps[window] = end | passed << 5 | bits
