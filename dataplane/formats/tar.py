"""Tar shards in the WebDataset convention: `KEY.EXTENSION` members, the members of a sample side by side.

The webdataset library, DALI and plain `tar` read them. Member names are ASCII without dots before the extension; what would confuse
a reader is escaped (`%2E`), and the index holds the true key. Headers are POSIX ustar with fixed owner and time, so equal samples
give equal shards.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final

import google_crc32c
import numpy as np
import numpy.typing as npt
from blake3 import blake3

from dataplane.errors import CorruptObject, InvalidArgument
from dataplane.formats import compressed
from dataplane.formats.index import ImageInfo, IndexColumns, ShardIndex
from dataplane.objects import Objects
from dataplane.refs import Digest, ObjectRef
from dataplane.store import Draft

__all__ = ["SUFFIX", "Reader", "Writer", "crc32c", "lead", "member_name", "open", "span"]

SUFFIX: Final = ".tar"
_BLOCK: Final = 512
_BASE_BYTES: Final = 84  # the same for all extensions: the members of a sample share a base, or readers take them for two
_EXTENSION_BYTES: Final = 15  # with the dot, a name fills the 100 bytes of its header
_EXTENSION: Final = re.compile(r"[ -.0-~]{1,15}\Z")
_MEMBER_BYTES: Final = 8 << 30  # what a header can say is less
_END: Final = bytes(2 * _BLOCK)
_PLAIN_BYTES: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_+=@,~/ ()"
_PLAIN: Final = frozenset(_PLAIN_BYTES)
_PADDING: Final = bytes(_BLOCK)
_HEADER: Final = (  # name, size and checksum are what differs
    b"%b0000644\x000000000\x000000000\x00%b\x0000000000000\x00%06o\x00 0" + bytes(100) + b"ustar\x0000" + bytes(247)
)
_HEADER_SUM: Final = sum(_HEADER % (b"", b"", 0)) - sum(b"000000\x00 ") + sum(b" " * 8)  # the checksum counts as spaces
_WRITE_BYTES: Final = 1 << 20
_VERIFY_ROWS: Final = 64


def crc32c(data: bytes | memoryview | npt.NDArray[np.uint8]) -> int:
    """The CRC-32C (Castagnoli) of `data`."""
    return int(google_crc32c.value(data if isinstance(data, bytes | np.ndarray) else np.frombuffer(data, np.uint8)))


def member_name(key: str, extension: str) -> str:
    """The tar member of a field: at most 100 ASCII bytes that every tar reader splits back into one base and one extension.

    Dots, `%`, control and non-ASCII bytes are percent-escaped, and so is a leading `__`, which webdataset skips. A name that gets
    too long is cut and ends in 16 hexadecimal digits of the key's hash.
    """
    try:
        raw = key.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{key!r} cannot be a key: it is not Unicode text; escape its odd bytes first") from error
    if not raw:
        raise InvalidArgument("a sample needs a key that is not empty")
    if not _EXTENSION.match(extension):
        raise InvalidArgument(
            f"{extension!r} cannot be the name of a field in a tar shard: 1 to {_EXTENSION_BYTES} ASCII characters without '/' are allowed"
        )
    if len(raw) <= _BASE_BYTES and b"__" not in raw and not raw.translate(None, _PLAIN_BYTES):
        return f"{key}.{extension}"
    escaped = "".join(chr(b) if b in _PLAIN else f"%{b:02X}" for b in raw)
    escaped = "/".join("%5F" + part[1:] if part.startswith("__") else part for part in escaped.split("/"))
    if len(escaped) > _BASE_BYTES:
        tag = hashlib.blake2b(raw, digest_size=8).hexdigest()
        head = escaped[: _BASE_BYTES - 17]
        if "%" in head[-2:]:  # never cut through an escape
            head = head[: head.rindex("%")]
        escaped = f"{head.rstrip('/')}~{tag}"
    return f"{escaped}.{extension}"


def span(size: int) -> int:
    """How many bytes of a tar the `size` bytes of a field take: whole blocks."""
    return -(-size // _BLOCK) * _BLOCK


def lead(before: tuple[str, bytes] | None) -> int:
    """How many bytes lie in front of those of a field that is placed, with or without a small one `before` it."""
    return 2 * _BLOCK + span(len(before[1])) if before else _BLOCK


class Writer:
    """Writes one shard to a local file, or into a draft of the store, and gathers its index. Not thread-safe; use it in a `with` block.

    The file is plain scratch: durability is the business of the store that takes it. A draft stays the caller's to close.
    """

    def __init__(self, target: Path | Draft) -> None:
        self.path = target if isinstance(target, Path) else target.path
        self.size = 0
        self._out = _Hashed(target) if isinstance(target, Path) else target
        self._names: set[str] = set()
        self._index = IndexColumns()
        self._pending: _Pending | None = None

    def add(self, key: str, fields: Mapping[str, bytes], images: Mapping[str, ImageInfo] | None = None) -> None:
        """Append a sample. `fields` maps extensions to bytes; `images` says what the headers of its images hold."""
        members = self._members(key, fields)
        self.flush()
        self._names.update(members.values())
        self._index.row(key)
        for extension, name in sorted(members.items()):
            data = fields[extension]
            self._write(_header(name, len(data)))
            self._index.place(extension, self.size, len(data), crc32c(data), images.get(extension) if images else None)
            self._write(data)
            self._write(_PADDING[: -len(data) % _BLOCK])

    def place(
        self,
        key: str,
        extension: str,
        buffer: npt.NDArray[np.uint8],
        at: int,
        size: int,
        *,
        image: ImageInfo | None = None,
        before: tuple[str, bytes] | None = None,
    ) -> None:
        """Append a sample whose bytes lie in `buffer` at `at`, without a copy of them, and `before` it a second, small field that sorts
        before the first: a name and its bytes. `lead` bytes in front are taken for headers, and what is behind up to `span`. The buffer is
        the writer's until `flush`: samples that lie side by side there are written at once. Raises `InvalidArgument` as `add` does;
        nothing is written to the buffer then."""
        name = self._member(key, extension, size)
        head, offset = b"", self.size
        if before is not None:
            small, data = before
            beside = self._member(key, small, len(data))
            head = b"%b%b%b" % (_header(beside, len(data)), data, _PADDING[: -len(data) % _BLOCK])
            self._names.add(beside)
        head += _header(name, size)
        self._names.add(name)
        pending = self._room(buffer, at - len(head))
        pending.view[at - len(head) : at] = head
        pending.end = end = at + span(size)
        pending.view[at + size : end] = _PADDING[: end - at - size]
        self._index.row(key)
        if before is not None:
            self._index.place(small, offset + _BLOCK, len(data), crc32c(data))
        self._index.place(extension, offset + len(head), size, crc32c(buffer[at : at + size]), image)
        self.size = offset + len(head) + end - at

    def flush(self) -> None:
        """Write what was placed: its buffer is the caller's again."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._out.write(pending.view[pending.start : pending.end])

    def _room(self, buffer: npt.NDArray[np.uint8], start: int) -> _Pending:
        """What is placed and not written yet, up to `start`; from there on it may go on."""
        pending = self._pending
        if pending is None or pending.buffer is not buffer or pending.end != start:
            self.flush()
            self._pending = pending = _Pending(buffer, buffer.data, start, start)
        return pending

    def check(self, key: str, fields: Mapping[str, bytes]) -> None:
        """Raise `InvalidArgument` for a sample that `add` would refuse."""
        self._members(key, fields)

    def _members(self, key: str, fields: Mapping[str, bytes]) -> dict[str, str]:
        """The names of a sample's members by their extensions, checked."""
        members = {}
        for extension, data in fields.items():
            if not isinstance(data, bytes):
                raise InvalidArgument(f"{key!r}: field {extension!r} holds {type(data).__name__}; a tar shard holds bytes")
            members[extension] = self._member(key, extension, len(data))
        return members

    def _member(self, key: str, extension: str, size: int) -> str:
        """The name of a member, checked."""
        name = member_name(key, extension)
        if name in self._names:
            raise InvalidArgument(f"{key!r} and another sample of this shard both become {name!r}")
        _check_size(name, size)
        return name

    def finish(self) -> tuple[Digest, bytes]:
        """End the file. The digest of the shard, and the bytes of its index."""
        self.flush()
        self._write(_END)
        return Digest(self._out.finish(), SUFFIX, self.size), self._index.encode()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(self._out, _Hashed):
            self._out.close()

    def _write(self, data: bytes) -> None:
        self._out.write(data)
        self.size += len(data)


@dataclass(slots=True)
class _Pending:
    """Members that lie side by side in a buffer, and are not written yet."""

    buffer: npt.NDArray[np.uint8]
    view: memoryview
    start: int
    end: int


class _Hashed:
    """A local file, and the digest of what is written to it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=_WRITE_BYTES)
        self._hasher = blake3()

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hasher.update(data)

    def finish(self) -> str:
        self._file.close()
        return self._hasher.hexdigest()

    def close(self) -> None:
        self._file.close()


def open(objects: Objects, ref: ObjectRef, index: ShardIndex) -> Reader:
    """A shard, of the lake or adopted, compressed as a whole or not. Reads nothing yet."""
    compression = index.sections.get(compressed.SECTION)
    return Reader(objects if compression is None else compressed.Decompressed(objects, compression.decode()), ref, index)


class Reader:
    """The `ShardReader` of a tar: the bytes of its members, each checked against its CRC where one is known. Thread-safe."""

    def __init__(self, objects: Objects | compressed.Decompressed, ref: ObjectRef, index: ShardIndex) -> None:
        self.fields = tuple(sorted(index.fields))
        self._objects = objects
        self._ref = ref
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def keys(self) -> list[str]:
        """The keys of the samples, in the shard's order."""
        return self._index.keys()

    def read(self, row: int, fields: Sequence[str] | None = None) -> dict[str, bytes]:
        """`read_many` of one row."""
        return self.read_many([row], fields)[0]

    def read_many(self, rows: Sequence[int], fields: Sequence[str] | None = None) -> list[dict[str, bytes]]:
        """Samples in the order asked for; neighbours share a request. Raises `NotFound`, `CorruptObject`, `SourceChanged`."""
        for name in fields or ():
            self._index.field(name)
        return list(self.each(rows, fields))

    def each(self, rows: Sequence[int], fields: Sequence[str] | None = None) -> Iterator[dict[str, bytes]]:
        """What `read_many` gives, one sample after the other; in a folder, each is read when it is asked for."""
        for name in fields or ():
            self._index.field(name)
        names = [name for name in self.fields if fields is None or name in fields]
        has, offsets, sizes, crcs = self._places(names, np.asarray(rows, np.int64))
        pieces = self._objects.pieces(self._ref, starts=offsets, lengths=sizes)
        told = zip([names[n] for n in np.nonzero(has)[1].tolist()], sizes, crcs, strict=True)
        if len(names) == 1 and has.all():
            for row, (name, size, crc) in zip(rows, told, strict=True):
                yield {name: self._checked(next(pieces), row, name, size, crc)}  # nothing here keeps hold of the bytes
            return
        for row, count in zip(rows, has.sum(axis=1).tolist(), strict=True):
            yield {name: self._checked(next(pieces), row, name, size, crc) for name, size, crc in islice(told, count)}

    def _places(self, names: Sequence[str], rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.bool_], list[int], list[int], list[int]]:
        """Which samples have which fields (bool [rows, names]), and of those that there are, sample by sample, their offsets, sizes and
        CRCs (-1 where nobody knows one)."""
        shape, columns = (len(rows), len(names)), [self._index.field(name) for name in names]
        offset, size, crc = (np.empty(shape, np.int64) for _ in range(3))
        for n, column in enumerate(columns):
            offset[:, n], size[:, n], crc[:, n] = column.offset[rows], column.size[rows], column.crc32c[rows]
        has = size >= 0
        return has, offset[has].tolist(), size[has].tolist(), crc[has].tolist()

    def _checked(self, piece: bytes | memoryview, row: int, name: str, size: int, crc: int) -> bytes:
        """What was read of a field, as bytes."""
        data = piece if type(piece) is bytes else _as_bytes(piece)
        if len(data) != size or (crc >= 0 and google_crc32c.value(data) != crc):
            raise CorruptObject(
                f"{self._objects.where(self._ref)}: field {name!r} of sample {self._index.key(row)!r} fails its checksum; "
                "see what else is damaged with: dataplane verify"
            )
        return data

    def verify(self) -> None:
        """Read every sample and check it."""
        for start in range(0, len(self), _VERIFY_ROWS):
            self.read_many(range(start, min(start + _VERIFY_ROWS, len(self))))


def _as_bytes(piece: bytes | memoryview) -> bytes:
    """The bytes of a piece, without a copy where it is all of a bytes object."""
    whole = memoryview(piece).obj
    return whole if type(whole) is bytes and len(whole) == len(piece) else bytes(piece)


def _check_size(name: str, size: int) -> None:
    if size >= _MEMBER_BYTES:
        raise InvalidArgument(f"{name} has {size} bytes; a member of a tar shard holds less than 8 GiB")


def _header(name: str, size: int) -> bytes:
    """A ustar header (IEEE Std 1003.1-1988) of a regular file, owner 0, mode 0644, time 0."""
    _check_size(name, size)
    raw, digits = name.encode("ascii"), b"%011o" % size
    return _HEADER % (raw.ljust(100, b"\x00"), digits, _HEADER_SUM + sum(raw) + sum(digits))
