"""What lies in a tar that somebody else wrote: its samples by the WebDataset convention, found from its headers alone. No I/O happens here.

The members of a sample lie side by side; what stands before the first dot of the file name is the key (with its folders), what follows is
the field, in lower case. A member without an extension is the field `data`. Folders, hidden files and `__…__` are passed over. A sample
with a member that is no plain file, or leads outside, or comes twice, is bad as a whole: it is listed, and nothing of it goes in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataplane.formats.tarheaders import (
    BLOCK,
    COLUMNS,
    EXTENDED_BYTES,
    FIELDS,
    SUFFIX_COLUMNS,
    Kind,
    Status,
    gather,
    group,
    walk,
)

__all__ = ["NO_EXTENSION", "BadMember", "HeaderScan", "Places", "TarContents"]

NO_EXTENSION: Final = "data"
"""The field of a member whose name has no extension."""

_ROWS: Final = 4096
_LARGE: Final = 8 * BLOCK
_NAME_BYTES: Final = 4 * EXTENDED_BYTES
_UNKNOWN_SIZE: Final = 1 << 60
_REASONS: Final = {
    Kind.HARD_LINK: "a hard link: its bytes stand elsewhere",
    Kind.SYMBOLIC_LINK: "a symbolic link: its bytes stand elsewhere",
    Kind.DEVICE: "a device, not a file",
    Kind.FIFO: "a FIFO, not a file",
    Kind.SPARSE: "a sparse file: its bytes do not lie in one piece",
    Kind.OTHER: "of a type that is no plain file",
    Kind.CUT: "truncated: the archive ends before it does",
    Kind.NAMELESS: "a file without a name",
    Kind.ABSOLUTE: "an absolute name; names are relative",
    Kind.OUTSIDE: "a name that leads outside ('..')",
    Kind.TWICE: "the second field of this name in its sample",
}
_PROBLEMS: Final = {
    Status.NO_MARKER: "it ends at byte {} without the end marker, so it may be truncated",
    Status.CUT_DATA: "truncated: it ends inside the member whose header is at byte {}",
    Status.CUT_HEADER: "truncated: it ends inside the header at byte {}",
    Status.CHECKSUM: "the header at byte {} fails its checksum; nothing behind it can be found",
    Status.NUMBER: "the header at byte {} has a size that is no number; nothing behind it can be found",
    Status.TOO_LONG: "the header at byte {} has an extension of more than 1 MiB; nothing behind it can be found",
    Status.RECORDS: "the header at byte {} has malformed PAX records; nothing behind it can be found",
    Status.GLOBAL: "the global PAX header at byte {} gives one name or size to all members; nothing behind it can be told apart",
}


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where a field of each sample lies, as int64 arrays over the samples. A sample without it has size -1."""

    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BadMember:
    """A member that spoils its sample: its name, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class TarContents:
    """The samples of a tar in its order, their fields, and what is no part of any. `problem` says what is wrong with the archive itself:
    samples before the damage are there. `members` counts all headers of members, `ignored` those of hidden files and the like."""

    keys: pa.Array
    fields: Mapping[str, Places]
    bad: tuple[BadMember, ...]
    problem: str | None
    members: int
    ignored: int

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """The bytes of all fields of each sample."""
        total = np.zeros(len(self), np.int64)
        for places in self.fields.values():
            total += np.maximum(places.size, 0)
        return total


class HeaderScan:
    """A walk over the headers of one tar, fed with what it asks for. Not thread-safe.

    While it is not `done`, it needs bytes [`position`, `need`) at least; what `feed` gets may begin before and end behind them.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = size
        """Of the archive in bytes; None while nobody knows, as with a stream."""
        self.position = 0
        self.need = BLOCK
        self.status = Status.MORE
        self.count = 0
        """Members found so far."""
        self.large = 0
        """Of these, members of more than a few blocks."""
        self._members: list[npt.NDArray[np.int64]] = []
        self._names: list[npt.NDArray[np.uint8]] = []
        self._name_bytes = 0
        self._rows = np.empty((_ROWS, COLUMNS), np.int64)
        self._text = np.empty(_NAME_BYTES, np.uint8)

    @property
    def done(self) -> bool:
        """Nothing more is needed: the end, or what looks no more like a tar."""
        return self.status not in {Status.MORE, Status.FULL}

    def feed(self, data: Any, base: int) -> None:
        """Walk on over `data` (any buffer), which lies at `base` in the archive. Where it holds less than `need` the archive must end
        there, and `size` be known."""
        buffer = np.frombuffer(data, np.uint8)
        self.status = Status.FULL
        while self.status is Status.FULL:
            size = _UNKNOWN_SIZE if self.size is None else self.size
            count, used, self.position, status, self.need = walk(buffer, base, size, self.position, self._rows, self._text)
            self.status = Status(status)
            if count:
                rows = self._rows[:count].copy()
                rows[:, 3] += self._name_bytes
                self._members.append(rows)
                self._names.append(self._text[:used].copy())
                self._name_bytes += used
                self.count += count
                self.large += int((rows[:, 2] > _LARGE).sum())

    def contents(self, *, after: bytes = b"") -> TarContents:
        """What was found. `after` is some of what follows the end marker: there should be nothing but zeros."""
        members = np.concatenate(self._members) if self._members else np.empty((0, COLUMNS), np.int64)
        if self.size is not None and len(members):  # the end of a stream is known only when it is there
            cut = members[:, 1] + members[:, 2] > self.size
            members[cut, 5] = Kind.CUT
            if cut.any():
                self.status, self.position = Status.CUT_DATA, int(members[cut][0, 0])
        names = np.concatenate(self._names) if self._names else np.empty(0, np.uint8)
        found = np.empty((len(members), SUFFIX_COLUMNS), np.int64)
        suffixes = np.zeros((FIELDS, 2), np.int64)
        known = group(members, names, found, suffixes)
        if known < 0:
            problem = f"its members have more than {FIELDS} different extensions; as samples they would have as many fields"
            return _nothing(problem, len(members))
        planner = _Planner(members, names, found, suffixes[:known])
        return planner.plan(self._problem(after), damaged=self.status is not Status.END)

    def _problem(self, after: bytes) -> str | None:
        if self.status is Status.END:
            more = after.strip(b"\0")
            return f"more follows its end marker at byte {self.position}, as in tars joined end to end; that is left out" if more else None
        if self.status is Status.CHECKSUM and not self.count:
            return "not a tar: its first header fails its checksum"
        return _PROBLEMS[self.status].format(self.position)


class _Planner:
    """The samples from the tables of members."""

    def __init__(self, members: Any, names: Any, found: Any, suffixes: Any) -> None:
        self.members, self.names, self.found, self.suffixes = members, names, found, suffixes

    def plan(self, problem: str | None, *, damaged: bool) -> TarContents:
        sample, kind = self.found[:, 0], self.found[:, 2]
        groups = int(sample.max()) + 1 if len(sample) else 0
        part = sample >= 0
        wrong = part & (kind != Kind.FILE)
        bad = np.zeros(groups, bool)
        bad[sample[wrong]] = True
        listed = [BadMember(self._name(m), _REASONS[Kind(int(kind[m]))]) for m in np.flatnonzero(wrong).tolist()]
        last = self._incomplete(groups) if damaged and groups and not bad[-1] else None
        if last:
            bad[-1] = True
            listed.append(last)
        first = np.full(groups, -1, np.int64)
        first[sample[part][::-1]] = np.flatnonzero(part)[::-1]
        good = np.flatnonzero(~bad)
        keys = self._keys(first[good])
        again = ~_first_of_equals(keys)
        if again.any():
            listed += [BadMember(self._name(int(first[g])), "its key is that of an earlier sample") for g in good[again]]
            good, keys = good[~again], keys.filter(pa.array(~again))
        ignored = int((kind == Kind.IGNORED).sum())
        return TarContents(keys, self._fields(groups, good), tuple(listed), problem, len(self.members), ignored)

    def _fields(self, groups: int, good: npt.NDArray[np.int64]) -> dict[str, Places]:
        sample, field, kind = self.found[:, 0], self.found[:, 1], self.found[:, 2]
        fields: dict[str, Places] = {}
        for number, name in enumerate(self._suffixes()):
            rows = np.flatnonzero((field == number) & (kind == Kind.FILE) & (sample >= 0))
            offset, size = np.full(groups, -1, np.int64), np.full(groups, -1, np.int64)
            offset[sample[rows]], size[sample[rows]] = self.members[rows, 1], self.members[rows, 2]
            offset, size = offset[good], size[good]
            if (size >= 0).any():
                before = fields.get(name)  # two spellings that only Unicode's lower case makes one
                fields[name] = Places(offset, size) if before is None else _merged(before, offset, size)
        return dict(sorted(fields.items()))

    def _suffixes(self) -> list[str]:
        """The name of each field."""
        texts = [_text(self.names[at : at + length].tobytes()).lower() for at, length in self.suffixes]
        return [text or NO_EXTENSION for text in texts]

    def _keys(self, rows: npt.NDArray[np.int64]) -> pa.Array:
        """The keys of the samples whose first members are given."""
        places = self.found[rows][:, 3:5]
        data = np.empty(int(places[:, 1].sum()), np.uint8)
        offsets = np.empty(len(rows) + 1, np.int64)
        gather(self.names, places, offsets, data)
        array = pa.Array.from_buffers(pa.large_string(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:  # names in an old encoding: shown as files of such names are
            return pa.array([_text(data[start:end].tobytes()) for start, end in pairwise(offsets)], pa.large_string())
        return array

    def _incomplete(self, groups: int) -> BadMember | None:
        """The last sample of a damaged archive, where it lacks a field that the one before has: the rest of it is what is lost."""
        of_last, of_previous = (set(self.found[self.found[:, 0] == groups - back, 1].tolist()) for back in (1, 2))
        if not of_last < of_previous:
            return None
        row = int(np.flatnonzero(self.found[:, 0] == groups - 1)[0])
        return BadMember(self._name(row), "the archive ends or is damaged behind it, and fields that the sample before has are missing")

    def _name(self, member: int) -> str:
        at, length = self.members[member, 3:5]
        return _text(self.names[at : at + length].tobytes())


def _merged(one: Places, offset: npt.NDArray[np.int64], size: npt.NDArray[np.int64]) -> Places:
    return Places(np.where(one.size >= 0, one.offset, offset), np.where(one.size >= 0, one.size, size))


def _first_of_equals(keys: pa.Array) -> npt.NDArray[np.bool_]:
    """Which keys come for the first time."""
    codes = keys.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    first = np.ones(len(codes), bool)
    first[1:] = codes[1:] > np.maximum.accumulate(codes)[:-1]  # codes count up with first appearances
    return first


def _nothing(problem: str, members: int) -> TarContents:
    return TarContents(pa.array([], pa.large_string()), {}, (), problem, members, 0)


def _text(raw: bytes) -> str:
    """A name as text: what is not UTF-8 in it becomes `\\xff` escapes."""
    return raw.decode("utf-8", "backslashreplace")
