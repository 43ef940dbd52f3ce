"""Compiled walks over the headers of a tar: from member to member, and from member names to samples. No I/O, no Python objects.

`walk` understands ustar, GNU and PAX headers: octal and base-256 numbers, the prefix of ustar, long names (`L`), and the records `path`,
`size` and `GNU.sparse.*` of PAX headers. It never reads outside the buffer, whatever the bytes are, and each step takes it at least
one block further.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np

from dataplane.jit import compiled

__all__ = ["BLOCK", "COLUMNS", "EXTENDED_BYTES", "FIELDS", "SUFFIX_COLUMNS", "Kind", "Status", "gather", "group", "walk"]

BLOCK: Final = 512
EXTENDED_BYTES: Final = 1 << 20
"""The longest PAX header or long name that is read: a larger one is damage or an attack."""
FIELDS: Final = 256
"""How many different extensions the members of one tar may have."""
COLUMNS: Final = 6
"""Of the table of members: header offset, data offset, size, name offset, name length, kind."""
SUFFIX_COLUMNS: Final = 5
"""Of the table of names: sample number, field number, kind, key offset, key length."""


class Kind(IntEnum):
    """What a member is, or why it cannot be a field of a sample."""

    FILE = 0
    DIRECTORY = 1
    IGNORED = 2
    HARD_LINK = 3
    SYMBOLIC_LINK = 4
    DEVICE = 5
    FIFO = 6
    SPARSE = 7
    OTHER = 8
    CUT = 9
    NAMELESS = 10
    ABSOLUTE = 11
    OUTSIDE = 12
    TWICE = 13


class Status(IntEnum):
    """Why a walk stopped. The last ones are what is wrong at the position that it stopped at."""

    MORE = 0
    FULL = 1
    END = 2
    NO_MARKER = 3
    CUT_DATA = 4
    CUT_HEADER = 5
    CHECKSUM = 6
    NUMBER = 7
    TOO_LONG = 8
    RECORDS = 9
    GLOBAL = 10


_MORE, _FULL, _END, _NO_MARKER, _CUT_DATA, _CUT_HEADER, _CHECKSUM, _NUMBER, _TOO_LONG, _RECORDS, _GLOBAL = (int(s) for s in Status)
_FILE, _DIRECTORY, _IGNORED, _HARD_LINK, _SYMBOLIC_LINK, _DEVICE, _FIFO, _SPARSE, _OTHER, _CUT = (int(k) for k in list(Kind)[:10])
_NAMELESS, _ABSOLUTE, _OUTSIDE, _TWICE = (int(k) for k in list(Kind)[10:])
_LARGEST: Final = 1 << 60  # sums of two stay within 63 bits
_PATH, _SIZE, _SPARSE_PREFIX, _SPARSE_NAME = (
    np.frombuffer(word, np.uint8) for word in (b"path", b"size", b"GNU.sparse.", b"GNU.sparse.name")
)


@compiled
def _number(buffer: Any, at: int, length: int) -> int:
    """A number of a header, octal or base-256; -1 for what is neither, negative, or too large."""
    if buffer[at] & 0x80:
        if buffer[at] == 0xFF:
            return -1
        value = np.int64(buffer[at] & 0x7F)
        for i in range(at + 1, at + length):
            if value >= _LARGEST >> 8:
                return -1
            value = (value << 8) | np.int64(buffer[i])
        return int(value)
    i, end, value = at, at + length, np.int64(0)
    while i < end and buffer[i] == 0x20:
        i += 1
    while i < end and 0x30 <= buffer[i] <= 0x37:
        value = value * 8 + np.int64(buffer[i] - 0x30)
        i += 1
    while i < end and buffer[i] == 0x20:
        i += 1
    return int(value) if i == end or buffer[i] == 0 else -1


@compiled
def _zero(buffer: Any, at: int) -> bool:
    for i in range(at, at + 512):  # noqa: SIM110  (compiled)
        if buffer[i]:
            return False
    return True


@compiled
def _sums(buffer: Any, at: int) -> bool:
    """The header's checksum is right, over unsigned bytes or, as some old programs have it, over signed ones."""
    said = _number(buffer, at + 148, 8)
    total: Any = np.int64(256)  # the checksum itself counts as eight spaces
    for byte in buffer[at : at + 148]:
        total += np.int64(byte)
    for byte in buffer[at + 156 : at + 512]:
        total += np.int64(byte)
    if said == total:
        return True
    for i in range(at, at + 512):
        if buffer[i] & 0x80 and not at + 148 <= i < at + 156:
            total -= 256
    return bool(said == total)


@compiled
def _until_nul(buffer: Any, at: int, length: int) -> int:
    for i in range(length):
        if buffer[at + i] == 0:
            return i
    return length


@compiled
def _is(buffer: Any, at: int, length: int, word: Any) -> bool:
    if length != len(word):
        return False
    for i in range(length):  # noqa: SIM110  (compiled)
        if buffer[at + i] != word[i]:
            return False
    return True


@compiled
def _records(buffer: Any, at: int, length: int, found: Any) -> bool:
    """Read the records of a PAX header into `found`: name offset and length (-1: none), size (-1: none), whether the member is sparse.
    False where they are malformed."""
    i, end = at, at + length
    while i < end and buffer[i]:
        j, size = i, np.int64(0)
        while j < end and 0x30 <= buffer[j] <= 0x39 and j - i < 10:
            size = size * 10 + np.int64(buffer[j] - 0x30)
            j += 1
        if j == i or j >= end or buffer[j] != 0x20 or size > end - i or i + size <= j + 1 or buffer[i + size - 1] != 0x0A:
            return False
        word, last = j + 1, i + size - 1
        equals = word
        while equals < last and buffer[equals] != 0x3D:
            equals += 1
        if equals in (last, word):
            return False
        value = equals + 1
        if _is(buffer, word, equals - word, _PATH):
            if not found[3]:  # the true name of a sparse member stands in a record of its own
                found[0], found[1] = value, last - value
        elif _is(buffer, word, equals - word, _SIZE):
            number = np.int64(0)
            if value == last or last - value > 18:
                return False
            for k in range(value, last):
                if not 0x30 <= buffer[k] <= 0x39:
                    return False
                number = number * 10 + np.int64(buffer[k] - 0x30)
            if number >= _LARGEST:
                return False
            found[2] = number
        elif equals - word >= len(_SPARSE_PREFIX) and _is(buffer, word, len(_SPARSE_PREFIX), _SPARSE_PREFIX):
            found[3] = 1
            if _is(buffer, word, equals - word, _SPARSE_NAME):
                found[0], found[1] = value, last - value
        i += int(size)
    return True


@compiled
def _kind(flag: int) -> int:
    if flag in (0x30, 0, 0x37):
        return _FILE
    if flag == 0x35:
        return _DIRECTORY
    if flag == 0x31:
        return _HARD_LINK
    if flag == 0x32:
        return _SYMBOLIC_LINK
    if flag in (0x33, 0x34):
        return _DEVICE
    if flag == 0x36:
        return _FIFO
    return _SPARSE if flag == 0x53 else _OTHER


@compiled
def walk(  # noqa: PLR0917  (compiled functions take positions)
    buffer: Any, base: int, size: int, position: int, members: Any, names: Any
) -> tuple[int, int, int, int, int]:
    """Read headers from `position`, where a member begins, of an archive of `size` bytes whose bytes from `base` on are `buffer` (uint8).

    Fills rows of `members` (int64 [n, COLUMNS]) and, with their names, `names` (uint8; at least 2 × EXTENDED_BYTES). Returns the count
    of rows, the bytes of names, the position of the next member, the status, and with MORE the end of the bytes that it needs, from
    the position on.
    """
    count = used = 0
    limit = base + len(buffer)
    found, own = np.empty(4, np.int64), np.empty(4, np.int64)
    while True:
        if count == len(members) or used + EXTENDED_BYTES > len(names):
            return count, used, position, _FULL, 0
        at = position
        found[0], found[1], found[2], found[3] = -1, 0, -1, 0
        while True:  # the headers of one member
            if at + BLOCK > limit:
                if at + BLOCK <= size:
                    return count, used, position, _MORE, at + BLOCK
                return count, used, position, _NO_MARKER if at >= size and at == position else _CUT_HEADER, 0
            o = at - base
            if _zero(buffer, o):
                return count, used, position, _END if at == position else _CHECKSUM, 0
            if not _sums(buffer, o):
                return count, used, position, _CHECKSUM, 0
            length = _number(buffer, o + 124, 12)
            if length < 0 or length >= _LARGEST:
                return count, used, position, _NUMBER, 0
            flag = buffer[o + 156]
            if flag not in (0x4C, 0x4B, 0x78, 0x58, 0x67):  # L, K, x, X, g
                break
            if length >= EXTENDED_BYTES or at - position >= 4 * EXTENDED_BYTES:
                return count, used, position, _TOO_LONG, 0
            if at + BLOCK + length > size:
                return count, used, position, _CUT_HEADER, 0
            end = min(at + BLOCK + (length + BLOCK - 1) // BLOCK * BLOCK, size)
            if end > limit:
                return count, used, position, _MORE, end
            if flag == 0x4C:
                if found[0] < 0:
                    found[0], found[1] = o + BLOCK, _until_nul(buffer, o + BLOCK, length)
            elif flag != 0x4B:
                own[0], own[1], own[2], own[3] = -1, 0, -1, 0
                if not _records(buffer, o + BLOCK, length, own):
                    return count, used, position, _RECORDS, 0
                if flag == 0x67:
                    if own[0] >= 0 or own[2] >= 0 or own[3]:
                        return count, used, position, _GLOBAL, 0
                else:  # of several headers the first one has the last word
                    if found[0] < 0:
                        found[0], found[1] = own[0], own[1]
                    found[2] = own[2] if found[2] < 0 else found[2]
                    found[3] |= own[3]
            at += BLOCK + (length + BLOCK - 1) // BLOCK * BLOCK
        o = at - base
        data = at + BLOCK
        kind = _kind(flag)
        if flag == 0x53:  # blocks that go on listing the holes
            more = buffer[o + 482]
            while more:
                if data - at >= EXTENDED_BYTES:
                    return count, used, position, _TOO_LONG, 0
                if data + BLOCK > limit:
                    return count, used, position, _MORE if data + BLOCK <= size else _CUT_HEADER, data + BLOCK
                more = buffer[data - base + 504]
                data += BLOCK
        plain = _until_nul(buffer, o, 100)
        if flag == 0 and plain and buffer[o + plain - 1] == 0x2F:
            kind = _DIRECTORY  # as tars older than the type flag say it
        if found[3] and kind == _FILE:
            kind = _SPARSE
        payload = found[2] if found[2] >= 0 else length
        if kind not in (_FILE, _SPARSE, _OTHER):
            payload = 0
        name = used
        if found[0] >= 0:
            for i in range(found[1]):
                names[used + i] = buffer[found[0] + i]
            used += found[1]
        else:
            ustar = buffer[o + 257] == 0x75 and buffer[o + 258] == 0x73 and buffer[o + 262] == 0  # old GNU tars keep times in the prefix
            prefix = _until_nul(buffer, o + 345, 155) if ustar else 0
            for i in range(prefix):
                names[used + i] = buffer[o + 345 + i]
            if prefix:
                names[used + prefix] = 0x2F
                prefix += 1
            for i in range(plain):
                names[used + prefix + i] = buffer[o + i]
            used += prefix + plain
        cut = data + payload > size
        row = members[count]
        row[0], row[1], row[2], row[3], row[4], row[5] = position, data, payload, name, used - name, _CUT if cut else kind
        count += 1
        if cut:
            return count, used, position, _CUT_DATA, 0
        position = data + (payload + BLOCK - 1) // BLOCK * BLOCK


@compiled
def _lower(byte: int) -> int:
    return byte + 32 if 0x41 <= byte <= 0x5A else byte


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
        if stop > i and names[i] == 0x2E and stop - i > 1:
            hidden = True
        if i == at and stop - i >= 4 and names[i] == 0x5F and names[i + 1] == 0x5F and names[stop - 1] == 0x5F and names[stop - 2] == 0x5F:
            hidden = True  # what webdataset keeps for itself
        i = stop + 1
    return _IGNORED if hidden else _FILE


@compiled
def group(members: Any, names: Any, out: Any, fields: Any) -> int:
    """Which sample and which field each member is, by the WebDataset convention: the key is the name up to the first dot after the last
    slash, the extension what follows, and neighbours of one key are a sample.

    Fills `out` (int64 [n, SUFFIX_COLUMNS]); samples count from 0, and are -1 for what is no part of any. `fields` (int64 [FIELDS, 2])
    gets offset and length of each extension in `names`; length 0 stands for none. Returns the count of extensions, or -1 where there
    are more than FIELDS.
    """
    known, sample = 0, -1
    last_at = last_length = -1
    seen = np.full(FIELDS, -1, np.int64)
    for m in range(len(members)):
        at, length, kind = members[m, 3], members[m, 4], members[m, 5]
        row = out[m]
        row[0], row[1], row[2], row[3], row[4] = -1, -1, kind, at, length
        if kind == _DIRECTORY:
            continue
        while length >= 2 and names[at] == 0x2E and names[at + 1] == 0x2F:
            at, length = at + 2, length - 2
            while length and names[at] == 0x2F:
                at, length = at + 1, length - 1
        judged = _judge(names, at, length)
        if judged == _IGNORED and kind != _CUT:
            row[2] = _IGNORED
            continue
        if kind == _FILE:
            row[2] = judged
        dot = base = at
        for i in range(at, at + length):
            if names[i] == 0x2F:
                base = i + 1
        dot = base
        while dot < at + length and names[dot] != 0x2E:
            dot += 1
        key_length, suffix, suffix_length = dot - at, dot + 1, max(0, at + length - dot - 1)
        same = key_length == last_length
        if same:
            for i in range(key_length):
                if names[at + i] != names[last_at + i]:
                    same = False
                    break
        if not same:
            sample += 1
            last_at, last_length = at, key_length
        row[0], row[3], row[4] = sample, at, key_length
        field = 0
        while field < known:
            equal = fields[field, 1] == suffix_length
            if equal:
                for i in range(suffix_length):
                    if _lower(names[suffix + i]) != _lower(names[fields[field, 0] + i]):
                        equal = False
                        break
            if equal:
                break
            field += 1
        if field == known:
            if known == FIELDS:
                return -1
            fields[field, 0], fields[field, 1] = suffix, suffix_length
            known += 1
        row[1] = field
        if seen[field] == sample and row[2] == _FILE:
            row[2] = _TWICE
        seen[field] = sample
    return known


@compiled
def gather(names: Any, places: Any, offsets: Any, out: Any) -> None:
    """Copy the spans `places` (int64 [n, 2]: offset and length) of `names` side by side to `out`, with their `offsets` (int64 [n + 1])."""
    used = 0
    for i in range(len(places)):
        offsets[i] = used
        for j in range(places[i, 1]):
            out[used + j] = names[places[i, 0] + j]
        used += places[i, 1]
    offsets[len(places)] = used
