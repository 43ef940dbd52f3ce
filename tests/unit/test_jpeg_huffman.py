"""Huffman tables: codes are the standard's, look-ups agree with reading bit by bit, and new codes leave the old ones alone."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.formats.jpeg import Unsupported
from dataplane.formats.jpeg.huffman import END, SHORT_BITS, HuffmanTable, lookup, runs
from tests.jpegs import random_codes

LUMINANCE_DC = HuffmanTable(bytes((0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0)), bytes(range(12)))  # T.81, table K.3


@st.composite
def tables(draw, largest=255):
    symbols = sorted(draw(st.sets(st.integers(0, largest), min_size=1, max_size=min(200, largest))))
    longest = draw(st.integers(max(9, len(symbols).bit_length()), 16))
    made = random_codes(random.Random(draw(st.integers(0, 1 << 32))), symbols, longest)
    return HuffmanTable(made.counts, made.values), made.by_symbol()


def first_symbol(codes, text):
    """(symbol, length of its code), or None, of the bits that `text` spells."""
    return next(((symbol, len(code)) for symbol, code in codes.items() if text.startswith(code)), None)


def test_codes_are_the_standards():
    found = {symbol: f"{code:0{length}b}" for symbol, (code, length) in LUMINANCE_DC.codes.items()}
    assert [found[n] for n in range(12)] == (
        ["00", "010", "011", "100", "101", "110", "1110", "11110", "111110", "1111110", "11111110", "111111110"]  # T.81, table K.3
    )


@settings(deadline=None)
@given(tables(), st.lists(st.integers(0, 0xFFFF), min_size=50, max_size=50))
def test_a_look_up_is_the_first_symbol(table, windows):
    table, codes = table
    entries, long = lookup(table)
    for window in [*windows, 0xFFFF, 0]:
        entry = int(entries[window >> 16 - SHORT_BITS])
        if not entry and window >= long:
            entry = int(entries[(1 << SHORT_BITS) + window - long])
        symbol = first_symbol(codes, f"{window:016b}")
        assert entry == (symbol[0] << 5 | symbol[1] if symbol else 0)


@settings(deadline=None)
@given(tables(), st.lists(st.integers(0, (1 << SHORT_BITS) - 1), min_size=50, max_size=50))
def test_a_run_is_what_reading_symbols_gives(table, windows):
    table, codes = table
    steps = runs(table)
    for window in windows:
        text, bits, passed, end = f"{window:0{SHORT_BITS}b}", 0, 0, 0
        while not end and bits < SHORT_BITS and (symbol := first_symbol(codes, text[bits:])):
            zeros, extra = divmod(symbol[0], 16)
            ends = extra == 0 and zeros != 15
            if passed + (1 if ends else zeros + 1) > 64:
                break
            passed += 1 if ends else zeros + 1
            bits += symbol[1] + extra
            end = END if ends else 0
        assert steps[window] == end | passed << 5 | bits


@settings(deadline=None)
@given(tables(largest=15), st.sets(st.integers(0, 11)))
def test_more_symbols_leave_old_codes_alone(table, wanted):
    table, _ = table
    try:
        extended = table.with_symbols(wanted)
    except Unsupported:
        longest = max(length for _, length in table.codes.values())
        assert longest + len(wanted - table.codes.keys()).bit_length() > 16
        return
    assert extended.codes.keys() == table.codes.keys() | wanted
    assert {symbol: extended.codes[symbol] for symbol in table.codes} == table.codes
    texts = sorted(f"{code:0{length}b}" for code, length in extended.codes.values())
    assert not any(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert all("0" in text for text in texts)


@pytest.mark.parametrize(
    ("counts", "values"),
    [
        (bytes(16), b""),
        (bytes((0, 3)) + bytes(14), b"\1\2"),
        (bytes((2,)) + bytes(15), b"\1\2"),  # one of the two codes is all ones
        (bytes((0, 4)) + bytes(14), b"\1\2\3\4"),
        (bytes((1, 1, 1, 3)) + bytes(12), b"\1\2\3\4\5\6"),
        (bytes(15) + b"\1" * 2, b"\1\2"),
    ],
)
def test_what_is_no_table_is_refused(counts, values):
    with pytest.raises(Unsupported, match="Huffman table"):
        HuffmanTable(counts, values)


def test_tables_are_shared_and_cannot_be_changed():
    assert lookup(LUMINANCE_DC).entries is lookup(HuffmanTable(LUMINANCE_DC.counts, LUMINANCE_DC.values)).entries
    with pytest.raises(ValueError, match="read-only"):
        lookup(LUMINANCE_DC).entries[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        runs(LUMINANCE_DC)[0] = 1
    assert np.asarray(lookup(LUMINANCE_DC).entries).dtype == np.uint16
