"""Coefficients of blocks, compiled: from progressive scans, and to a sequential one.

Blocks are rows of int16, in the order in which coefficients are coded (zigzag). A scan says in which order it goes through which of them:
`order`, the row of each block in turn, with what its component needs beside it. Nothing is read or written outside the arrays, whatever
the bytes are; the functions release the GIL and keep no state.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataplane.formats.jpeg.bits import Bytes, Word, append, leading_zeros, load
from dataplane.formats.jpeg.huffman import BLOCK, CODE_BITS, SHORT_BITS, ZEROS
from dataplane.formats.jpeg.scan import MAX_CATEGORY, Fault, Integers
from dataplane.jit import compiled

__all__ = ["Blocks", "Progression", "Scan", "Tables", "decode", "encode"]

Coefficients = NDArray[np.int16]

_MAX_AC_CATEGORY: Final = 10
_LARGEST = 1 << 14  # of a coefficient: far more than sound ones have, and shifts stay within 16 bits
_NONE, _CODE, _COEFFICIENTS = int(Fault.NONE), int(Fault.CODE), int(Fault.COEFFICIENTS)
_TOO_SHORT, _TOO_LONG, _RANGE = int(Fault.TOO_SHORT), int(Fault.TOO_LONG), int(Fault.RANGE)
_FIRST_SHIFT = np.uint64(64 - SHORT_BITS)
_CODE_SHIFT = np.uint64(64 - CODE_BITS)
_1 = np.uint64(1)


class Blocks(NamedTuple):
    """The blocks that a scan goes through."""

    order: Integers
    """By block of the scan: its row of the coefficients."""
    components: Integers
    """By block of an MCU: the number of its component."""
    restart: int
    """Blocks between restarts."""


class Tables(NamedTuple):
    """Decodes symbols; see `huffman.Lookup`."""

    entries: NDArray[np.uint16]
    """Of all tables, one after the other."""
    bases: Integers
    """By component: where its table's entries begin, and `huffman.Lookup.long`."""


class Progression(NamedTuple):
    """Which bits of which coefficients a scan has: T.81, G.1.1.1."""

    first: int
    last: int
    refines: bool
    shift: int


class Scan(NamedTuple):
    """What the header of a progressive scan says."""

    blocks: Blocks
    tables: Tables
    progression: Progression


@compiled
def _symbol(word: Word, component: int, tables: Tables) -> Any:
    """The entry of the symbol that a word begins with; 0: none does."""
    base, long = tables.bases[component, 0], tables.bases[component, 1]
    entry = np.int64(tables.entries[base + np.int64(word >> _FIRST_SHIFT)])
    beyond = np.int64(word >> _CODE_SHIFT) - long
    return np.int64(tables.entries[base + (1 << SHORT_BITS) + beyond]) if entry == 0 and beyond >= 0 else entry


@compiled
def _bits(bits: Bytes, at: Any, count: Any) -> Any:
    """`count` bits, up to 32, as a number."""
    word = load(bits, at >> 3) << np.uint64(at & 7)
    return np.int64(word >> _1 >> np.uint64(63 - count))


@compiled
def _value(bits: Bytes, at: Any, category: Any) -> Any:
    """The number that `category` extra bits stand for."""
    value = _bits(bits, at, category)
    return value if category == 0 or value >> (category - 1) else value - (1 << category) + 1


@compiled
def _pass_over(bits: Bytes, block: Coefficients, progression: Progression, zeros: Any, position: tuple[Any, Any]) -> tuple[Any, Any]:
    """Go past `zeros` coefficients that are 0, to the next one that is. Each other on the way has a bit that refines it. A position is that
    in the bits, and that in the block."""
    at, place = position
    step = 1 << progression.shift
    while place <= progression.last:
        if block[place]:
            if _bits(bits, at, 1):
                block[place] += step if block[place] > 0 else -step
            at += 1
        elif zeros == 0:
            break
        else:
            zeros -= 1
        place += 1
    return at, place


@compiled
def decode(bits: Bytes, ends: Integers, scan: Scan, coefficients: Coefficients) -> int:
    """Add what a progressive scan says to the coefficients; a fault. `bits` and `ends` are `scan.unstuff`'s."""
    blocks, tables = scan.blocks, scan.tables
    first, last, refines, shift = scan.progression
    predictions = np.zeros(4, np.int64)
    at: Any = np.int64(0)
    stop: Any = 8 * ends[0]
    skipped: Any = np.int64(0)  # blocks to come that have nothing new
    interval = 0
    for number in range(blocks.order.size):
        if number and number % blocks.restart == 0:
            if stop - at >= 8 or skipped:
                return _TOO_LONG
            interval += 1
            at, stop = stop, 8 * ends[interval]
            predictions[:] = 0
        component = blocks.components[number % blocks.components.size]
        block = coefficients[blocks.order[number]]
        if first == 0 and refines:
            block[0] |= _bits(bits, at, 1) << shift
            at += 1
        elif first == 0:
            entry = _symbol(load(bits, at >> 3) << np.uint64(at & 7), component, tables)
            if entry == 0:
                return _CODE
            at += entry & 31
            predictions[component] += _value(bits, at, entry >> 5)
            at += entry >> 5
            if abs(predictions[component]) >= _LARGEST >> shift:
                return _RANGE
            block[0] = predictions[component] << shift
        else:
            place: Any = np.int64(first)
            while skipped == 0 and place <= last:
                entry = _symbol(load(bits, at >> 3) << np.uint64(at & 7), component, tables)
                if entry == 0:
                    return _CODE
                at += entry & 31
                zeros, category = entry >> 9, entry >> 5 & 15
                if category == 0 and zeros < 15:
                    skipped = (1 << zeros) + _bits(bits, at, zeros)
                    at += zeros
                    break
                value: Any = np.int64(0)
                if category:
                    if refines and category != 1:
                        return _CODE
                    value = _value(bits, at, category) << shift
                    at += category
                    if abs(value) >= _LARGEST:
                        return _RANGE
                if refines:
                    at, place = _pass_over(bits, block, scan.progression, zeros, (at, place))
                else:
                    place += zeros
                if place > last:
                    return _COEFFICIENTS
                block[place] = value
                place += 1
            if skipped:
                if refines:
                    at, place = _pass_over(bits, block, scan.progression, BLOCK, (at, place))
                skipped -= 1
        if at > stop:
            return _TOO_SHORT
    return _TOO_LONG if stop - at >= 8 or skipped else _NONE


@compiled
def encode(coefficients: Coefficients, blocks: Blocks, codes: Integers, frequencies: Integers, bits: Bytes) -> tuple[int, int]:
    """Code all blocks as one sequential scan; (fault, bits). `codes` and `frequencies`: by DC table and AC table of each component, and
    symbol: code and length, and how often it occurs. An empty `bits` only counts; else it has to hold the bits and a word."""
    predictions = np.zeros(4, np.int64)
    to = 0
    for number in range(blocks.order.size):
        component = blocks.components[number % blocks.components.size]
        block = coefficients[blocks.order[number]]
        zeros = 0
        for place in range(BLOCK):
            value: Any = np.int64(block[place])
            if place == 0:
                value -= predictions[component]
                predictions[component] += value
            elif value == 0:
                zeros += 1
                continue
            kind = 2 * component + (place > 0)
            category = 64 - leading_zeros(np.uint64(abs(value)))
            if category > (_MAX_AC_CATEGORY if place else MAX_CATEGORY):
                return _RANGE, to
            while zeros > 15:
                zeros -= 16
                frequencies[kind, ZEROS] += 1
                if bits.size:
                    to = append(np.uint64(codes[kind, ZEROS, 0]), codes[kind, ZEROS, 1], bits, to)
            symbol = zeros << 4 | category
            zeros = 0
            frequencies[kind, symbol] += 1
            if bits.size:
                extra = value if value >= 0 else value + (1 << category) - 1
                to = append(np.uint64(codes[kind, symbol, 0] << category | extra), codes[kind, symbol, 1] + category, bits, to)
        if zeros:
            kind = 2 * component + 1
            frequencies[kind, 0] += 1
            if bits.size:
                to = append(np.uint64(codes[kind, 0, 0]), codes[kind, 0, 1], bits, to)
    if bits.size and to & 7:
        to = append(np.uint64(0xFF), 8 - (to & 7), bits, to)
    return _NONE, to
