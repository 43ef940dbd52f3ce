"""Compiled rules for the names of a tar's members: which sample and which field each one is. No I/O, no Python objects.

Names lie side by side in `names` (uint8); members are rows of the table that `tarheaders.walk` fills. What loops over bytes takes a slice
of them first: an index that counts from 0 needs no check for negative ones, which makes it up to three times as fast.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from dataplane.formats.tarheaders import Kind
from dataplane.jit import compiled

__all__ = ["FIELDS", "PART_COLUMNS", "gather", "group", "place", "rising"]

FIELDS: Final = 256
"""How many different extensions the members of one tar may have."""
PART_COLUMNS: Final = 5
"""Of the table of parts: sample number, field number, kind, key offset, key length."""

_FILE, _DIRECTORY, _IGNORED, _CUT = int(Kind.FILE), int(Kind.DIRECTORY), int(Kind.IGNORED), int(Kind.CUT)
_NAMELESS, _ABSOLUTE, _OUTSIDE, _TWICE = int(Kind.NAMELESS), int(Kind.ABSOLUTE), int(Kind.OUTSIDE), int(Kind.TWICE)


@compiled
def group(members: Any, names: Any, parts: Any, fields: Any) -> tuple[int, int]:
    """Which sample and which field each member is, by the WebDataset convention: the key is the name up to the first dot after the last
    slash, the extension what follows, and neighbours of one key are a sample.

    Fills `parts` (int64 [n, PART_COLUMNS]); samples count from 0, and are -1 for what is no part of any. `fields` (int64 [FIELDS, 2])
    gets offset and length of each extension in `names`; length 0 stands for none. Returns the counts of samples and of extensions, or -1
    for these where there are more than FIELDS.
    """
    known, sample = 0, -1
    last_at = last_length = -1
    seen = np.full(FIELDS, -1, np.int64)
    for m in range(len(members)):
        at, length, kind = members[m, 3], members[m, 4], members[m, 5]
        row = parts[m]
        row[0], row[1], row[2], row[3], row[4] = -1, -1, kind, at, length
        if kind == _DIRECTORY:
            continue
        key = _plain(names[at : at + length])
        if key < 0:
            here = _here(names, at, length)
            at, length = at + here, length - here
            judged = _judge(names, at, length)
            if judged == _IGNORED and kind != _CUT:
                row[2] = _IGNORED
                continue
            if kind == _FILE:
                row[2] = judged
            key = _key(names, at, length)
        if key != last_length or not _same(names[at : at + key], names[last_at : last_at + key]):
            sample += 1
            last_at, last_length = at, key
        field = _field(names, at + key + 1, max(0, length - key - 1), fields, known)
        if field < 0:
            return sample + 1, -1
        known = max(known, field + 1)
        if seen[field] == sample and row[2] == _FILE:
            row[2] = _TWICE
        seen[field] = sample
        row[0], row[1], row[3], row[4] = sample, field, at, key
    return sample + 1, known


@compiled
def _plain(name: Any) -> int:
    """The length of the key of a name that is nothing special, as most are, in one go; -1 for one that needs a closer look: where a part
    of it is empty or begins with a dot or an underscore."""
    dot, began = -1, True
    for i in range(len(name)):
        byte = name[i]
        if began and byte in (0x2E, 0x2F, 0x5F):
            return -1
        began = byte == 0x2F
        if began:
            dot = -1
        elif byte == 0x2E and dot < 0:
            dot = i
    if began:
        return -1
    return len(name) if dot < 0 else dot


@compiled
def _here(names: Any, at: int, length: int) -> int:
    """How many bytes of `./` a name begins with."""
    i, end = at, at + length
    while end - i >= 2 and names[i] == 0x2E and names[i + 1] == 0x2F:
        i += 2
        while i < end and names[i] == 0x2F:
            i += 1
    return i - at


@compiled
def _judge(names: Any, at: int, length: int) -> int:
    """Whether a file of this name can be a field: FILE, or why not."""
    if length == 0 or names[at + length - 1] == 0x2F:
        return _NAMELESS
    if names[at] == 0x2F:
        return _ABSOLUTE
    hidden, i, end = False, at, at + length
    while i <= end:
        stop = i
        while stop < end and names[stop] != 0x2F:
            stop += 1
        if stop - i == 2 and names[i] == 0x2E and names[i + 1] == 0x2E:
            return _OUTSIDE
        if stop == end and stop - i == 1 and names[i] == 0x2E:
            return _NAMELESS
        if stop > i and names[i] == 0x2E and stop - i > 1:
            hidden = True
        if i == at and stop - i >= 4 and names[i] == 0x5F and names[i + 1] == 0x5F and names[stop - 1] == 0x5F and names[stop - 2] == 0x5F:
            hidden = True  # what webdataset keeps for itself
        i = stop + 1
    return _IGNORED if hidden else _FILE


@compiled
def _key(names: Any, at: int, length: int) -> int:
    """The length of a name's key: it ends before the first dot behind the last slash."""
    dot, end = at + length, at + length
    for i in range(end - 1, at - 1, -1):
        if names[i] == 0x2F:
            break
        if names[i] == 0x2E:
            dot = i
    return dot - at


@compiled
def _same(one: Any, other: Any) -> bool:
    """They have one length. Names that follow each other differ at their ends, so these come first."""
    for i in range(len(one) - 1, -1, -1):  # noqa: SIM110  (compiled)
        if one[i] != other[i]:
            return False
    return True


@compiled
def _field(names: Any, at: int, length: int, fields: Any, known: int) -> int:
    """The number of an extension, in any case of ASCII; a new one is entered in `fields`. -1 where there is no room."""
    for field in range(known):
        if fields[field, 1] == length and _same_word(names[at : at + length], names[fields[field, 0] :]):
            return field
    if known == FIELDS:
        return -1
    fields[known, 0], fields[known, 1] = at, length
    return known


@compiled
def _same_word(one: Any, other: Any) -> bool:
    for i in range(len(one)):  # noqa: SIM110  (compiled)
        if _lower(one[i]) != _lower(other[i]):
            return False
    return True


@compiled
def _lower(byte: int) -> int:
    return byte + 32 if 0x41 <= byte <= 0x5A else byte


@compiled
def place(members: Any, parts: Any, first: Any, bad: Any, offset: Any, size: Any) -> None:  # noqa: PLR0917
    """From members to samples: the first member of each (`first`, int64), whether it has one that spoils it (`bad`, bool), and where its
    fields lie (`offset` and `size`, int64 [fields, samples], filled with -1 before)."""
    for m in range(len(members) - 1, -1, -1):  # backwards: the first one has the last word
        sample = parts[m, 0]
        if sample < 0:
            continue
        first[sample] = m
        if parts[m, 2] != _FILE:
            bad[sample] = True
            continue
        field = parts[m, 1]
        offset[field, sample], size[field, sample] = members[m, 1], members[m, 2]


@compiled
def gather(names: Any, parts: Any, rows: Any, offsets: Any, out: Any) -> None:
    """Copy the keys of the members `rows` (int64 [n]) side by side to `out`, with their `offsets` (int64 [n + 1])."""
    used = 0
    for i in range(len(rows)):
        offsets[i] = used
        at, length = parts[rows[i], 3], parts[rows[i], 4]
        name, key = names[at : at + length], out[used : used + length]
        for j in range(length):
            key[j] = name[j]
        used += length
    offsets[len(rows)] = used


@compiled
def rising(offsets: Any, data: Any) -> bool:
    """Each text is larger than the one before, so no two are equal. They lie side by side in `data`, at `offsets` (int64 [n + 1])."""
    for i in range(1, len(offsets) - 1):  # noqa: SIM110  (compiled)
        if not _less(data[offsets[i - 1] : offsets[i]], data[offsets[i] : offsets[i + 1]]):
            return False
    return True


@compiled
def _less(one: Any, other: Any) -> bool:
    for i in range(min(len(one), len(other))):
        if one[i] != other[i]:
            return bool(one[i] < other[i])
    return len(one) < len(other)
