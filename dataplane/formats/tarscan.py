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

from dataplane.formats.tarheaders import BLOCK, COLUMNS, EXTENDED_BYTES, Kind, Status, walk
from dataplane.formats.tarnames import FIELDS, PART_COLUMNS, gather, group, place, rising

__all__ = ["NO_EXTENSION", "BadMember", "HeaderScan", "Places", "TarContents"]

NO_EXTENSION: Final = "data"
"""The field of a member whose name has no extension."""

_ROWS: Final = 1 << 17  # to begin with: memory that is not touched costs nothing
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
        self._members = np.empty((_ROWS, COLUMNS), np.int64)
        self._names = np.empty(_NAME_BYTES, np.uint8)
        self._name_bytes = 0

    @property
    def done(self) -> bool:
        """Nothing more is needed: the end, or what looks no more like a tar."""
        return self.status not in {Status.MORE, Status.FULL}

    def feed(self, data: Any, base: int) -> None:
        """Walk on over `data` (any buffer), which lies at `base` in the archive. Where it holds less than `need` the archive must end
        there, and `size` be known."""
        buffer, before = np.frombuffer(data, np.uint8), self.count
        size = _UNKNOWN_SIZE if self.size is None else self.size
        self.status = Status.FULL
        while self.status is Status.FULL:
            self._make_room()
            self.count, self._name_bytes, self.position, status, self.need = walk(
                buffer, base, size, self.position, self._members, self.count, self._names, self._name_bytes
            )
            self.status = Status(status)
        self.large += int(np.count_nonzero(self._members[before : self.count, 2] > _LARGE))

    def _make_room(self) -> None:
        """For one more member at least; twice as much as there was, so that little is copied."""
        if self.count == len(self._members):
            self._members = _doubled(self._members)
        if self._name_bytes + EXTENDED_BYTES > len(self._names):
            self._names = _doubled(self._names)

    def contents(self, *, after: bytes = b"") -> TarContents:
        """What was found. `after` is some of what follows the end marker: there should be nothing but zeros."""
        members, names = self._members[: self.count], self._names[: self._name_bytes]
        if self.size is not None and len(members):  # the end of a stream is known only when it is there
            cut = members[:, 1] + members[:, 2] > self.size
            members[cut, 5] = Kind.CUT
            if cut.any():
                self.status, self.position = Status.CUT_DATA, int(members[cut][0, 0])
        parts = np.empty((len(members), PART_COLUMNS), np.int64)
        suffixes = np.zeros((FIELDS, 2), np.int64)
        samples, known = group(members, names, parts, suffixes)
        if known < 0:
            problem = f"its members have more than {FIELDS} different extensions; as samples they would have as many fields"
            return _nothing(problem, len(members))
        planner = _Planner(members, names, parts, suffixes[:known], samples)
        return planner.plan(self._problem(after), damaged=self.status is not Status.END)

    def _problem(self, after: bytes) -> str | None:
        if self.status is Status.END:
            more = after.strip(b"\0")
            return f"more follows its end marker at byte {self.position}, as in tars joined end to end; that is left out" if more else None
        if self.status is Status.CHECKSUM and not self.count:
            return "not a tar: its first header fails its checksum"
        return _PROBLEMS[self.status].format(self.position)


class _Planner:
    """The samples from the tables of members and of the parts that they are."""

    def __init__(self, members: Any, names: Any, parts: Any, suffixes: Any, samples: int) -> None:
        self.members, self.names, self.parts, self.suffixes, self.samples = members, names, parts, suffixes, samples

    def plan(self, problem: str | None, *, damaged: bool) -> TarContents:
        fields = self._unite()
        first, bad = np.empty(self.samples, np.int64), np.zeros(self.samples, bool)
        offset, size = (np.full((len(self.suffixes), self.samples), -1, np.int64) for _ in range(2))
        place(self.members, self.parts, first, bad, offset, size)
        listed = self._wrong() if bad.any() else []
        last = self._incomplete() if damaged and self.samples and not bad[-1] else None
        if last:
            bad[-1] = True
            listed.append(last)
        if bad.any():
            first, offset, size = first[~bad], offset[:, ~bad], size[:, ~bad]
        keys = self._keys(first)
        again = _repeats(keys)
        if again is not None:
            listed += [BadMember(self._name(row), "its key is that of an earlier sample") for row in first[again].tolist()]
            keys, offset, size = keys.filter(pa.array(~again)), offset[:, ~again], size[:, ~again]
        ignored = int(np.count_nonzero(self.parts[:, 2] == Kind.IGNORED))
        places = {name: Places(offset[number], size[number]) for name, number in fields.items() if (size[number] >= 0).any()}
        return TarContents(keys, places, tuple(listed), problem, len(self.members), ignored)

    def _unite(self) -> dict[str, int]:
        """The number of each field, sorted by name. Extensions that only Unicode's lower case makes one are one; `data` and none too."""
        numbers: dict[str, int] = {}
        for number, (at, length) in enumerate(self.suffixes):
            name = _text(self.names[at : at + length].tobytes()).lower() or NO_EXTENSION
            one = numbers.setdefault(name, number)
            if one != number:
                self._rename(number, one)
        return dict(sorted(numbers.items()))

    def _rename(self, number: int, one: int) -> None:
        """Give the members of a field the number of another; a sample that has both has it twice."""
        field, kind = self.parts[:, 1], self.parts[:, 2]
        field[field == number] = one
        rows = np.flatnonzero(field == one)
        sample = self.parts[rows, 0]
        again = rows[1:][sample[1:] == sample[:-1]]
        kind[again[kind[again] == Kind.FILE]] = Kind.TWICE

    def _wrong(self) -> list[BadMember]:
        """The members that spoil their samples."""
        kind = self.parts[:, 2]
        rows = np.flatnonzero((self.parts[:, 0] >= 0) & (kind != Kind.FILE)).tolist()
        return [BadMember(self._name(row), _REASONS[Kind(int(kind[row]))]) for row in rows]

    def _keys(self, rows: npt.NDArray[np.int64]) -> pa.Array:
        """The keys of the samples whose first members are given."""
        offsets = np.empty(len(rows) + 1, np.int64)
        data = np.empty(int(self.parts[rows, 4].sum()), np.uint8)
        gather(self.names, self.parts, rows, offsets, data)
        array = pa.Array.from_buffers(pa.large_string(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(data)])
        try:
            array.validate(full=True)
        except pa.ArrowInvalid:  # names in an old encoding: shown as files of such names are
            return pa.array([_text(data[start:end].tobytes()) for start, end in pairwise(offsets.tolist())], pa.large_string())
        return array

    def _incomplete(self) -> BadMember | None:
        """The last sample of a damaged archive, where it lacks a field that the one before has: the rest of it is what is lost."""
        sample, field = self.parts[:, 0], self.parts[:, 1]
        of_last, of_previous = (set(field[sample == self.samples - back].tolist()) for back in (1, 2))
        if not of_last < of_previous:
            return None
        row = int(np.flatnonzero(sample == self.samples - 1)[0])
        return BadMember(self._name(row), "the archive ends or is damaged behind it, and fields that the sample before has are missing")

    def _name(self, member: int) -> str:
        at, length = self.members[member, 3:5]
        return _text(self.names[at : at + length].tobytes())


def _doubled(table: npt.NDArray[Any]) -> npt.NDArray[Any]:
    larger = np.empty((2 * len(table), *table.shape[1:]), table.dtype)
    larger[: len(table)] = table
    return larger


def _repeats(keys: pa.Array) -> npt.NDArray[np.bool_] | None:
    """Which keys have come before; None where none has."""
    _, offsets, data = keys.buffers()
    if len(keys) < 2 or rising(np.frombuffer(offsets, np.int64, len(keys) + 1), np.frombuffer(data, np.uint8)):
        return None
    codes = keys.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    again = np.zeros(len(codes), bool)
    again[1:] = codes[1:] <= np.maximum.accumulate(codes)[:-1]  # codes count up with first appearances
    return again if again.any() else None


def _nothing(problem: str, members: int) -> TarContents:
    return TarContents(pa.array([], pa.large_string()), {}, (), problem, members, 0)


def _text(raw: bytes) -> str:
    """A name as text: what is not UTF-8 in it becomes `\\xff` escapes."""
    return raw.decode("utf-8", "backslashreplace")
