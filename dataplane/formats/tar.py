"""Tar shards in the WebDataset convention: `KEY.EXTENSION` members, the members of a sample side by side.

The webdataset library, DALI and plain `tar` read them. Member names are ASCII without dots before the extension; what would confuse
a reader is escaped (`%2E`), and the index holds the true key. Headers are POSIX ustar with fixed owner and time, so equal samples
give equal shards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

import google_crc32c
from blake3 import blake3

from dataplane.errors import CorruptObject, InvalidArgument
from dataplane.formats.index import ImageInfo, IndexRow, Placed, ShardIndex, write_index
from dataplane.refs import Digest, ObjectRef
from dataplane.store import Store

__all__ = ["SUFFIX", "TarWriter", "crc32c", "member_name", "read", "read_many", "verify"]

SUFFIX: Final = ".tar"
_BLOCK: Final = 512
_BASE_BYTES: Final = 84  # the same for all extensions: the members of a sample share a base, or readers take them for two
_EXTENSION_BYTES: Final = 15  # with the dot, a name fills the 100 bytes of its header
_END: Final = bytes(2 * _BLOCK)
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_+=@,~/ ()")
_WRITE_BYTES: Final = 1 << 20


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C (Castagnoli) of `data`."""
    return int(google_crc32c.value(data if isinstance(data, bytes) else bytes(data)))


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
    if not 1 <= len(extension) <= _EXTENSION_BYTES:
        raise InvalidArgument(f"{extension!r} cannot be the name of a field in a tar shard: 1 to {_EXTENSION_BYTES} characters are allowed")
    escaped = "".join(chr(b) if b in _PLAIN else f"%{b:02X}" for b in raw)
    escaped = "/".join("%5F" + part[1:] if part.startswith("__") else part for part in escaped.split("/"))
    if len(escaped) > _BASE_BYTES:
        tag = hashlib.blake2b(raw, digest_size=8).hexdigest()
        head = escaped[: _BASE_BYTES - 17]
        if "%" in head[-2:]:  # never cut through an escape
            head = head[: head.rindex("%")]
        escaped = f"{head.rstrip('/')}~{tag}"
    return f"{escaped}.{extension}"


class TarWriter:
    """Writes one shard to a local file and gathers its index. Not thread-safe; use it in a `with` block.

    The file is plain scratch: durability is the business of the store that takes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[IndexRow] = []
        self.bytes = 0
        self._file = open(path, "wb", buffering=_WRITE_BYTES)  # noqa: SIM115
        self._hasher = blake3()
        self._names: set[str] = set()

    def add(self, key: str, fields: Mapping[str, bytes], images: Mapping[str, ImageInfo] | None = None) -> None:
        """Append a sample. `fields` maps extensions to bytes; `images` says what the headers of its images hold."""
        placed = {}
        for extension, data in sorted(fields.items()):
            name = member_name(key, extension)
            if name in self._names:
                raise InvalidArgument(f"{key!r} and another sample of this shard both become {name!r}")
            self._names.add(name)
            self._write(_header(name, len(data)))
            placed[extension] = Placed(self.bytes, len(data), crc32c(data), (images or {}).get(extension))
            self._write(data)
            self._write(bytes(-len(data) % _BLOCK))
        self.rows.append(IndexRow(key, placed))

    def finish(self) -> tuple[Digest, bytes]:
        """End the file. The digest of the shard, and the bytes of its index."""
        self._write(_END)
        self._file.close()
        return Digest(self._hasher.hexdigest(), SUFFIX, self.bytes), write_index(self.rows)

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hasher.update(data)
        self.bytes += len(data)


def read(store: Store, ref: ObjectRef, index: ShardIndex, row: int) -> dict[str, bytes]:
    """The fields of one sample, each checked against its CRC. One ranged read."""
    return read_many(store, ref, index, [row])[0]


def read_many(store: Store, ref: ObjectRef, index: ShardIndex, rows: Sequence[int]) -> list[dict[str, bytes]]:
    """The fields of several samples, in the order asked for; neighbours share a request."""
    if not isinstance(ref, Digest):
        raise InvalidArgument(f"{ref}: only shards of the lake can be read")
    wanted = [(i, name, placed) for i, row in enumerate(rows) for name, placed in index.placed(row).items()]
    pieces = store.get_ranges(ref.path, starts=[p.offset for *_, p in wanted], lengths=[p.size for *_, p in wanted])
    samples: list[dict[str, bytes]] = [{} for _ in rows]
    for (i, name, placed), piece in zip(wanted, pieces, strict=True):
        data = bytes(memoryview(piece))
        if len(data) != placed.size or crc32c(data) != placed.crc32c:
            raise CorruptObject(
                f"{store.url}/{ref.path}: field {name!r} of sample {index.key(rows[i])!r} fails its checksum; "
                "see what else is damaged with: dataplane verify"
            )
        samples[i][name] = data
    return samples


def verify(store: Store, ref: ObjectRef, index: ShardIndex) -> None:
    """Read every sample and check its checksums. Raises `CorruptObject`."""
    for row in range(len(index)):
        read(store, ref, index, row)


def _header(name: str, size: int) -> bytes:
    """A ustar header (IEEE Std 1003.1-1988) of a regular file, owner 0, mode 0644, time 0."""
    if size >= 8 << 30:
        raise InvalidArgument(f"{name} has {size} bytes; a member of a tar shard holds less than 8 GiB")
    header = bytearray(_BLOCK)
    header[0 : len(name)] = name.encode("ascii")
    header[100:136] = b"0000644\x000000000\x000000000\x00%011o\x00" % size
    header[136:148] = b"00000000000\x00"
    header[148:156] = b" " * 8
    header[156:157] = b"0"
    header[257:265] = b"ustar\x0000"
    header[148:156] = b"%06o\x00 " % sum(header)
    return bytes(header)
