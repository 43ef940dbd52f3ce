"""The entropy-coded bytes of a scan: to have restart markers where there were none, compiled.

A scan is transcoded in four passes, each of which goes through it once:

1. `unstuff` takes the stuffed zeros and the restart markers out, which leaves plain bits.
2. `walk` decodes the bits, to find where blocks begin and what their DC coefficients are, and refuses what is not sound. AC coefficients
   are passed over several at a time, their values unseen. It writes down `Edit`s.
3. `rewrite` copies the bits and carries the edits out: DC coefficients are coded as differences from the block before, so the first ones
   after a restart, old or new, have another code; everything else stays as it is, shifted.
4. `stuff` puts zeros and markers in again.

What is not sound: whatever libjpeg would warn about, conceal or resynchronise on. In everything else what it does with a block depends
on the bits of the block alone, and on the sum of the DC differences: so both files decode to the same pixels.

Nothing is read or written outside the arrays, whatever the bytes are. Each pass is a pure function that releases the GIL.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataplane.formats.jpeg.bits import WORD, Bytes, Word, append, leading_zeros, load, store
from dataplane.formats.jpeg.huffman import BLOCK, CODE_BITS, END, SHORT_BITS, ZEROS
from dataplane.formats.jpeg.markers import EOI, RST0
from dataplane.jit import compiled

__all__ = ["EDIT_COLUMNS", "MAX_CATEGORY", "SLACK", "Decoder", "Edit", "Fault", "rewrite", "stuff", "unstuff", "walk"]

Integers = NDArray[np.int64]

SLACK: Final = 272
"""Bytes that an array of bits has behind its last one: a block has up to 64 × (16 + 15) bits, and is read a word at a time."""
MAX_CATEGORY: Final = 11
"""The bits of the largest DC difference of 8-bit pixels."""
EDIT_COLUMNS: Final = 4
"""Of an edit: copy up to this bit, go on at that one; and in between, a member of `Edit` or the number of a DC table, with whose
code the difference of the last column is written."""

_USABLE = 8 * WORD - 7  # bits of a loaded word, wherever it begins within its first byte
_FIRST_SHIFT = np.uint64(8 * WORD - SHORT_BITS)
_CODE_SHIFT = np.uint64(8 * WORD - CODE_BITS)
_LOW_SEVEN = np.uint64(0x7F7F7F7F7F7F7F7F)
_PADDING = np.uint64(0xFF)
_TOP = np.uint64(8 * WORD - 1)
_1, _8, _64 = np.uint64(1), np.uint64(8), np.uint64(64)
_PIECE = _USABLE - 1  # bits copied at a time: whole bytes
_EOI, _RST0 = EOI, RST0


class Fault(IntEnum):
    """Why a pass stopped."""

    NONE = 0
    NO_END = 1
    MARKER = 2
    RESTARTS = 3
    CODE = 4
    COEFFICIENTS = 5
    TOO_SHORT = 6
    TOO_LONG = 7
    RANGE = 8

    @property
    def reason(self) -> str:
        """In a few words."""
        return _REASONS[self]


_REASONS: Final = {
    Fault.NONE: "",
    Fault.NO_END: "no end marker",
    Fault.MARKER: "a damaged scan: a marker that is none",
    Fault.RESTARTS: "restart markers that are too few, too many, or out of order",
    Fault.CODE: "a damaged scan: bits that are no code",
    Fault.COEFFICIENTS: "a damaged scan: a block of more than 64 coefficients",
    Fault.TOO_SHORT: "a damaged scan: data end before the last block",
    Fault.TOO_LONG: "a damaged scan: data behind the last block",
    Fault.RANGE: "a damaged scan: a DC coefficient out of range",
}
_NONE, _NO_END, _MARKER, _RESTARTS, _CODE, _COEFFICIENTS, _TOO_SHORT, _TOO_LONG, _RANGE = (int(fault) for fault in Fault)


class Edit(IntEnum):
    """What is done between two stretches of copied bits, other than writing a difference."""

    SKIP = -1
    """Nothing: an old restart's padding is left out."""
    CLOSE = -2
    """The segment ends here: fill its last byte with ones."""


_SKIP, _CLOSE = (int(edit) for edit in Edit)


class Decoder(NamedTuple):
    """The blocks of an MCU and the tables that decode them."""

    component: Integers
    """By block: the number of its component."""
    dc: Integers
    """By component: which of `bases` its DC table is."""
    ac: Integers
    """By component: which of `bases` its AC table is."""
    entries: NDArray[np.uint16]
    """`huffman.Lookup.entries` of all tables, one after the other."""
    bases: Integers
    """By table: where its entries begin, and `huffman.Lookup.long`."""
    runs: NDArray[np.uint16]
    """By table: `huffman.runs`; zeros for DC tables."""


@compiled
def _bytes_before_ff(word: Word) -> int:
    """How many of a word's first bytes are not 0xFF, up to the first that is."""
    inverse = ~word
    zero = ~(((inverse & _LOW_SEVEN) + _LOW_SEVEN) | inverse | _LOW_SEVEN)  # the high bit of each byte of the inverse that is 0
    return leading_zeros(zero) >> 3


@compiled
def unstuff(data: Bytes, at: int, bits: Bytes, ends: Integers) -> tuple[int, int]:
    """The scan that begins at byte `at` of `data`, without its stuffing and restart markers, to `bits`; (fault, where the next marker is).

    `ends` gets where in `bits` the data of each restart interval end. `bits` has to hold the bytes from `at` to the end of `data`, and
    `SLACK` more, which are zeros behind the last bit.
    """
    to = found = 0
    while at < data.size:
        if at + WORD <= data.size:
            word = load(data, at)
            store(bits, to, word)
            plain = _bytes_before_ff(word)
            at += plain
            to += plain
            if plain == WORD:
                continue
        elif data[at] != 0xFF:
            bits[to] = data[at]
            at += 1
            to += 1
            continue
        marker = at + 1
        while marker < data.size and data[marker] == 0xFF:  # a marker may have fill bytes before it
            marker += 1
        if marker >= data.size:
            break
        code = np.int64(data[marker])
        if code == 0 and marker == at + 1:
            bits[to] = 0xFF
            to += 1
        elif code & ~7 == _RST0:
            if found + 1 >= ends.size or code & 7 != found & 7:
                return _RESTARTS, at
            ends[found] = to
            found += 1
        elif code == 0:
            return _MARKER, at
        else:
            ends[found] = to
            bits[to : to + SLACK] = 0
            return (_NONE if found + 1 == ends.size else _RESTARTS), marker - 1
        at = marker + 1
    return _NO_END, at


@compiled
def walk(bits: Bytes, ends: Integers, plan: tuple[int, int, int], decoder: Decoder, edits: Integers) -> tuple[int, int, int]:
    """Decode the bits, and write down the `edits` that give them another restart interval; (fault, number of edits, categories).

    `bits` and `ends` are `unstuff`'s; `plan` is the number of MCUs, and how many of them are between restarts, before and after. Each new
    segment ends with a CLOSE, and there are up to 1 + components edits for each segment, old or new. The categories are those of the
    differences to be written: bit 16 · DC table + category.
    """
    mcus, old, new = plan
    values, before = np.zeros(4, np.int64), np.zeros(4, np.int64)
    at: Any = np.int64(0)
    stop: Any = 8 * ends[0]
    count = interval = categories = 0
    to_old, to_new = old, new
    for _ in range(mcus):
        seen = -1  # the components of this MCU whose first block was met; all, where nothing is to be edited
        if to_old == 0:
            if stop - at >= 8:
                return _TOO_LONG, count, categories
            edits[count, 0], edits[count, 1], edits[count, 2] = at, stop, _SKIP
            count += 1
            interval += 1
            at, stop, to_old = stop, 8 * ends[interval], old
            seen = 0
            values[:] = 0
        if to_new == 0:
            edits[count, 0], edits[count, 1], edits[count, 2] = at, at, _CLOSE
            count += 1
            to_new = new
            seen = 0
            before[:] = 0
        to_old -= 1
        to_new -= 1
        for block in range(decoder.component.size):
            component = decoder.component[block]
            word = load(bits, at >> 3) << np.uint64(at & 7)
            table = decoder.dc[component]
            entry: Any = np.int64(decoder.entries[decoder.bases[table, 0] + np.int64(word >> _FIRST_SHIFT)])
            if entry == 0:
                entry = _long(word, table, decoder)
                if entry == 0:
                    return _CODE, count, categories
            length, category = entry & 31, entry >> 5
            used = length + category
            extra = word << np.uint64(length)
            values[component] += np.int64(extra >> _1 >> np.uint64(63 - category)) - (0 if extra >> _TOP else (1 << category) - 1)
            if not seen >> component & 1:
                seen |= 1 << component
                difference = values[component] - before[component]
                size = 64 - leading_zeros(np.uint64(abs(difference)))
                if size > MAX_CATEGORY:
                    return _RANGE, count, categories
                categories |= 1 << 16 * table + size
                edits[count, 0], edits[count, 1], edits[count, 2], edits[count, 3] = at, at + used, table, difference
                count += 1
            before[component] = values[component]
            table = decoder.ac[component]
            passed = 1
            while True:
                step: Any = np.int64(decoder.runs[table, np.int64((word << np.uint64(used)) >> _FIRST_SHIFT)])
                reached = passed + (step >> 5 & 127)
                if step != 0 and reached <= BLOCK:
                    used += step & 31
                    passed = reached
                    if step >= END or reached == BLOCK:
                        break
                    if used + SHORT_BITS <= _USABLE:
                        continue
                    at += used
                    used = 0
                    word = load(bits, at >> 3) << np.uint64(at & 7)
                else:  # a long code, or the block ends within the run
                    at += used
                    word = load(bits, at >> 3) << np.uint64(at & 7)
                    entry = np.int64(decoder.entries[decoder.bases[table, 0] + np.int64(word >> _FIRST_SHIFT)])
                    if entry == 0:
                        entry = _long(word, table, decoder)
                        if entry == 0:
                            return _CODE, count, categories
                    symbol = entry >> 5
                    used = (entry & 31) + (symbol & 15)
                    if symbol & 15 == 0 and symbol != ZEROS:
                        break
                    passed += (symbol >> 4) + 1
                    if passed > BLOCK:
                        return _COEFFICIENTS, count, categories
                    if passed == BLOCK:
                        break
            at += used
            if at > stop:
                return _TOO_SHORT, count, categories
    if stop - at >= 8:
        return _TOO_LONG, count, categories
    edits[count, 0], edits[count, 1], edits[count, 2] = at, at, _CLOSE
    return _NONE, count + 1, categories


@compiled
def _long(word: Word, table: int, decoder: Decoder) -> Any:
    """The entry of a code that is longer than `SHORT_BITS`; 0: no code."""
    beyond = np.int64(word >> _CODE_SHIFT) - decoder.bases[table, 1]
    return np.int64(decoder.entries[decoder.bases[table, 0] + (1 << SHORT_BITS) + beyond]) if beyond >= 0 else np.int64(0)


@compiled
def _copy_bits(bits: Bytes, begin: int, end: int, out: Bytes, to: int) -> int:
    shift = np.uint64(begin & 7)
    while end - begin >= _PIECE:
        to = append((load(bits, begin >> 3) << shift) >> _8, _PIECE, out, to)
        begin += _PIECE
    if end > begin:
        to = append((load(bits, begin >> 3) << shift) >> (_64 - np.uint64(end - begin)), end - begin, out, to)
    return to


@compiled
def rewrite(bits: Bytes, edits: Integers, codes: Integers, out: Bytes, ends: Integers) -> None:
    """Carry out `walk`'s edits; `ends` gets where in `out` each of the new segments ends.

    `codes`: by DC table and category, code and length, for each category that `walk` found. `out` has to hold `bits`, and for each edit 4
    bytes more, and a word.
    """
    to = at = segment = 0
    for edit in range(edits.shape[0]):
        to = _copy_bits(bits, at, edits[edit, 0], out, to)
        at = edits[edit, 1]
        what = edits[edit, 2]
        if what == _CLOSE:
            if to & 7:
                to = append(_PADDING, 8 - (to & 7), out, to)
            ends[segment] = to >> 3
            segment += 1
        elif what != _SKIP:
            difference = edits[edit, 3]
            category = 64 - leading_zeros(np.uint64(abs(difference)))
            extra = difference if difference >= 0 else difference + (1 << category) - 1
            to = append(np.uint64(codes[what, category, 0] << category | extra), codes[what, category, 1] + category, out, to)


@compiled
def stuff(bits: Bytes, ends: Integers, out: Bytes, lengths: Integers) -> int:
    """The segments of `bits` to `out`, with stuffing, restart markers, and the end marker; how many bytes that are.

    `lengths` gets the bytes of each segment, without its marker. `bits` is read up to a word behind its end; `out` has to hold twice
    `bits`, and for each segment 2 bytes more, and a word.
    """
    at = to = 0
    for segment in range(ends.size):
        begin, end = to, ends[segment]
        while at < end:
            word = load(bits, at)
            store(out, to, word)
            plain = _bytes_before_ff(word)
            if plain >= end - at:
                to += end - at
                at = end
            elif plain == WORD:
                at += WORD
                to += WORD
            else:
                at += plain + 1
                to += plain + 1
                out[to] = 0
                to += 1
        lengths[segment] = to - begin
        out[to] = 0xFF
        out[to + 1] = _EOI if segment + 1 == ends.size else _RST0 + (segment & 7)
        to += 2
    return to
