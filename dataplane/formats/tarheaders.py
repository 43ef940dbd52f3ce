"""The compiled walk over the headers of a tar, from member to member. No I/O, no Python objects.

`walk` understands ustar, GNU and PAX headers: octal and base-256 numbers, the prefix of ustar, long names (`L`), and the records `path`,
`size` and `GNU.sparse.*` of PAX headers. It never reads outside the buffer, whatever the bytes are, and each step takes it at least
one block further.

Its parts share a vocabulary: `buffer` (uint8) holds the bytes of the archive from `base` on, and the archive has `size` bytes. `at` and
`position` are places in the archive, `o` is one in the buffer. `said` is what extended headers say of the member that they stand before:
offset and length of its name in the buffer, its size, and whether it is sparse; -1 (for the name, its offset) where they say nothing.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np

from dataplane.jit import compiled

__all__ = ["BLOCK", "COLUMNS", "EXTENDED_BYTES", "Kind", "Status", "walk"]

BLOCK: Final = 512
EXTENDED_BYTES: Final = 1 << 20
"""The longest PAX header or long name that is read: a larger one is damage or an attack."""
COLUMNS: Final = 6
"""Of the table of members: header offset, data offset, size, name offset, name length, kind."""


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


_FINE: Final = -1  # no reason to stop
_MORE, _FULL, _END, _NO_MARKER, _CUT_DATA, _CUT_HEADER, _CHECKSUM, _NUMBER, _TOO_LONG, _RECORDS, _GLOBAL = (int(s) for s in Status)
_FILE, _DIRECTORY, _IGNORED, _HARD_LINK, _SYMBOLIC_LINK, _DEVICE, _FIFO, _SPARSE, _OTHER, _CUT = (int(k) for k in list(Kind)[:10])
_LARGEST: Final = 1 << 60  # sums of two stay within 63 bits
_PATH, _SIZE, _SPARSE_PREFIX, _SPARSE_NAME = (
    np.frombuffer(word, np.uint8) for word in (b"path", b"size", b"GNU.sparse.", b"GNU.sparse.name")
)


@compiled
def walk(  # noqa: PLR0917  (compiled functions take positions)
    buffer: Any, base: int, size: int, position: int, members: Any, count: int, names: Any, used: int
) -> tuple[int, int, int, int, int]:
    """Read headers from `position`, where a member begins, until the buffer, a table or the archive ends.

    Appends rows to the table `members` (int64 [n, COLUMNS]), which has `count`, and their names to `names` (uint8), of which `used` bytes
    are taken. Returns the new `count` and `used`, the position of the next member, the status, and with MORE the end of the bytes that
    it needs, from the position on. FULL: a table has no row left, or not EXTENDED_BYTES for one more name.
    """
    said = np.empty(4, np.int64)
    while True:
        if count == len(members) or used + EXTENDED_BYTES > len(names):
            return count, used, position, _FULL, 0
        count, used, position = _plain(buffer, base, size, position, members, count, names, used)
        if count == len(members) or used + EXTENDED_BYTES > len(names):
            continue
        status, at, length = _own_header(buffer, base, size, position, said)
        if status != _FINE:
            return count, used, position, status, at
        status, data = _data(buffer, base, size, at)
        if status != _FINE:
            return count, used, position, status, data
        o = at - base
        kind = _kind(buffer, o, said[3] > 0)
        payload = said[2] if said[2] >= 0 else length
        if kind not in (_FILE, _SPARSE, _OTHER):
            payload = 0
        cut = data + payload > size
        end = _name(buffer, o, said, names, used)
        row = members[count]
        row[0], row[1], row[2], row[3], row[4], row[5] = position, data, payload, used, end - used, _CUT if cut else kind
        count, used = count + 1, end
        if cut:
            return count, used, position, _CUT_DATA, 0
        position = data + _padded(payload)


@compiled
def _plain(  # noqa: PLR0917
    buffer: Any, base: int, size: int, position: int, members: Any, count: int, names: Any, used: int
) -> tuple[int, int, int]:
    """Take the members that are files with an ordinary header of one block, as most are, up to the first that is anything else or does not
    check: three times as fast as what can read them all. Returns the new `count` and `used`, and the position of the next member."""
    while count < len(members) and used + EXTENDED_BYTES <= len(names):
        o = position - base
        if o < 0 or o + BLOCK > len(buffer) or buffer[o] == 0:
            break
        header = buffer[o : o + BLOCK]
        total = np.uint32(256)  # the checksum itself counts as eight spaces
        for byte in header:
            total = np.uint32(total + byte)
        for i in range(148, 156):
            total = np.uint32(total - header[i])
        ended = header[154] == 0 or (header[154] == 0x20 and header[155] in (0, 0x20))
        if not ended or header[156] != 0x30 or header[345] != 0 or header[135] not in (0, 0x20):
            break
        length = _digits(header, 124, 11)
        if length < 0 or _digits(header, 148, 6) != np.int64(total) or position + BLOCK + length > size:
            break
        end = _copied(header, names[used : used + 100]) + used
        row = members[count]
        row[0], row[1], row[2], row[3], row[4], row[5] = position, position + BLOCK, length, used, end - used, _FILE
        count, used = count + 1, end
        position += BLOCK + _padded(length)
    return count, used, position


@compiled
def _digits(header: Any, at: int, count: int) -> int:
    """A number of that many octal digits; -1 where one is none."""
    value = np.int64(0)
    for i in range(at, at + count):
        digit = np.int64(header[i]) - 0x30
        if digit < 0 or digit > 7:
            return -1
        value = (value << 3) | digit
    return int(value)


@compiled
def _copied(header: Any, out: Any) -> int:
    """Copy the name that a header begins with; its length."""
    i = 0
    while i < len(out) and header[i] != 0:
        out[i] = header[i]
        i += 1
    return i


@compiled
def _own_header(buffer: Any, base: int, size: int, position: int, said: Any) -> tuple[int, int, int]:
    """Pass over the extended headers that stand before the header of the member at `position` itself, and note what they say.

    Gives _FINE, where the member's header is, and the size that stands in it; else the reason to stop, and the end of the bytes it needs.
    """
    at = position
    said[0], said[1], said[2], said[3] = -1, 0, -1, 0
    while True:
        status = _readable(buffer, base, size, at)
        if status != _FINE:
            return _within(status, at > position), at + BLOCK, 0
        o = at - base
        length = _number(buffer, o + 124, 12)
        if length < 0 or length >= _LARGEST:
            return _NUMBER, 0, 0
        flag = buffer[o + 156]
        if flag not in (0x4C, 0x4B, 0x78, 0x58, 0x67):  # L, K, x, X, g
            return _FINE, at, length
        if length >= EXTENDED_BYTES or at - position >= 4 * EXTENDED_BYTES:
            return _TOO_LONG, 0, 0
        if at + BLOCK + length > size:
            return _CUT_HEADER, 0, 0
        end = min(at + BLOCK + _padded(length), size)
        if end > base + len(buffer):
            return _MORE, end, 0
        status = _extended(buffer, o + BLOCK, length, flag, said)
        if status != _FINE:
            return status, 0, 0
        at += BLOCK + _padded(length)


@compiled
def _readable(buffer: Any, base: int, size: int, at: int) -> int:
    """Whether a header with a right checksum stands at `at`: _FINE, or what is there instead."""
    if at + BLOCK > base + len(buffer):
        if at + BLOCK <= size:
            return _MORE
        return _NO_MARKER if at >= size else _CUT_HEADER
    if _zero(buffer, at - base):
        return _END
    return _FINE if _sums(buffer, at - base) else _CHECKSUM


@compiled
def _within(status: int, inside: bool) -> int:
    """What stops at a header, where it is `inside` a member, behind extended headers: an archive cannot end there."""
    if inside and status == _END:
        return _CHECKSUM
    return _CUT_HEADER if inside and status == _NO_MARKER else status


@compiled
def _extended(buffer: Any, o: int, length: int, flag: int, said: Any) -> int:
    """Note what one extended header says, whose payload is given. Of several the first one has the last word."""
    if flag == 0x4B:  # the target of a link
        return _FINE
    if flag == 0x4C:
        if said[0] < 0:
            said[0], said[1] = o, _until_nul(buffer, o, length)
        return _FINE
    own = np.empty(4, np.int64)
    if not _records(buffer, o, length, own):
        return _RECORDS
    if flag == 0x67:
        return _GLOBAL if own[0] >= 0 or own[2] >= 0 or own[3] else _FINE
    if said[0] < 0:
        said[0], said[1] = own[0], own[1]
    if said[2] < 0:
        said[2] = own[2]
    said[3] |= own[3]
    return _FINE


@compiled
def _records(buffer: Any, at: int, length: int, said: Any) -> bool:
    """What the records of a PAX header say. False where they are malformed."""
    said[0], said[1], said[2], said[3] = -1, 0, -1, 0
    i, end = at, at + length
    while i < end and buffer[i]:
        j, size = i, np.int64(0)
        while j < end and 0x30 <= buffer[j] <= 0x39 and j - i < 10:
            size = size * 10 + np.int64(buffer[j] - 0x30)
            j += 1
        if j == i or j >= end or buffer[j] != 0x20 or size > end - i or i + size <= j + 1 or buffer[i + size - 1] != 0x0A:
            return False
        word, last = j + 1, i + int(size) - 1
        equals = word
        while equals < last and buffer[equals] != 0x3D:
            equals += 1
        if equals in (last, word) or not _record(buffer, word, equals, last, said):
            return False
        i = last + 1
    return True


@compiled
def _record(buffer: Any, word: int, equals: int, last: int, said: Any) -> bool:
    """What one record says: its keyword from `word` to `equals`, its value from there to `last`."""
    value, length = equals + 1, equals - word
    if _is(buffer, word, length, _PATH):
        if not said[3]:  # the true name of a sparse member stands in a record of its own
            said[0], said[1] = value, last - value
    elif _is(buffer, word, length, _SIZE):
        said[2] = _decimal(buffer, value, last)
        return bool(said[2] >= 0)
    elif length >= len(_SPARSE_PREFIX) and _is(buffer, word, len(_SPARSE_PREFIX), _SPARSE_PREFIX):
        said[3] = 1
        if _is(buffer, word, length, _SPARSE_NAME):
            said[0], said[1] = value, last - value
    return True


@compiled
def _data(buffer: Any, base: int, size: int, at: int) -> tuple[int, int]:
    """Where the payload begins of the member whose header is at `at`: behind the blocks that go on listing the holes of a sparse one.
    With another status than _FINE, the end of the bytes that are needed."""
    data = at + BLOCK
    if buffer[at - base + 156] != 0x53:
        return _FINE, data
    more = buffer[at - base + 482]
    while more:
        if data - at >= EXTENDED_BYTES:
            return _TOO_LONG, 0
        if data + BLOCK > base + len(buffer):
            return _MORE if data + BLOCK <= size else _CUT_HEADER, data + BLOCK
        more = buffer[data - base + 504]
        data += BLOCK
    return _FINE, data


@compiled
def _kind(buffer: Any, o: int, sparse: bool) -> int:
    flag = buffer[o + 156]
    if flag in (0x30, 0, 0x37):
        plain = _until_nul(buffer, o, 100) if flag == 0 else 0
        if plain and buffer[o + plain - 1] == 0x2F:
            return _DIRECTORY  # as tars older than the type flag say it
        return _SPARSE if sparse else _FILE
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
def _name(buffer: Any, o: int, said: Any, names: Any, used: int) -> int:
    """Append the name of a member, from what was said of it or from its own header; where it ends in `names`."""
    if said[0] >= 0:
        for i in range(said[1]):
            names[used + i] = buffer[said[0] + i]
        return used + int(said[1])
    ustar = buffer[o + 257] == 0x75 and buffer[o + 258] == 0x73 and buffer[o + 262] == 0  # old GNU tars keep times in the prefix
    if ustar and buffer[o + 345]:
        used = _append(buffer, o + 345, 155, names, used)
        names[used] = 0x2F
        used += 1
    return _append(buffer, o, 100, names, used)


@compiled
def _append(buffer: Any, at: int, length: int, names: Any, used: int) -> int:
    """Copy bytes to `names` up to a NUL; where they end there."""
    for byte in buffer[at : at + length]:
        if byte == 0:
            break
        names[used] = byte
        used += 1
    return used


@compiled
def _padded(length: int) -> int:
    return (length + BLOCK - 1) // BLOCK * BLOCK


@compiled
def _zero(buffer: Any, at: int) -> bool:
    for i in range(at, at + BLOCK):  # noqa: SIM110  (compiled)
        if buffer[i]:
            return False
    return True


@compiled
def _sums(buffer: Any, at: int) -> bool:
    """The header's checksum is right, over unsigned bytes or, as some old programs have it, over signed ones."""
    said = _number(buffer, at + 148, 8)
    total = np.uint32(256)  # the checksum itself counts as eight spaces
    for byte in buffer[at : at + BLOCK]:
        total = np.uint32(total + byte)
    for byte in buffer[at + 148 : at + 156]:
        total = np.uint32(total - byte)
    if said == total:
        return True
    signed = np.int64(total)
    for i in range(at, at + BLOCK):
        if buffer[i] & 0x80 and not at + 148 <= i < at + 156:
            signed -= 256
    return bool(said == signed)


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
    value, started, ended = np.int64(0), False, False
    for byte in buffer[at : at + length]:
        if 0x30 <= byte <= 0x37 and not ended:
            value, started = (value << 3) | np.int64(byte - 0x30), True
        elif byte == 0x20:
            ended = started
        else:
            return int(value) if byte == 0 else -1
    return int(value)


@compiled
def _decimal(buffer: Any, at: int, end: int) -> int:
    """A number of a PAX record; -1 for what is none, or too large."""
    value = np.int64(0)
    if at == end or end - at > 18:
        return -1
    for i in range(at, end):
        if not 0x30 <= buffer[i] <= 0x39:
            return -1
        value = value * 10 + np.int64(buffer[i] - 0x30)
    return int(value) if value < _LARGEST else -1


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
