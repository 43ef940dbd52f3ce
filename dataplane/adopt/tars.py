"""One tar, scanned where it lies: only headers are fetched of a plain one; a compressed one is decompressed from end to end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import google_crc32c
import numpy as np
import numpy.typing as npt
from blake3 import blake3

from dataplane.adopt.windows import Costs, Windows
from dataplane.errors import CorruptObject, SourceChanged
from dataplane.formats.compressed import Decompressing, Fetch
from dataplane.formats.tarscan import HeaderScan, TarContents

__all__ = ["Checksums", "scan", "scan_compressed", "verify"]

_AFTER_BYTES: Final = 16 << 10
_STREAM_BYTES: Final = 256 << 10
_VERIFY_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Checksums:
    """What reading a tar through gives: the BLAKE3 of the object, and the CRC-32C of every field (uint32 over the samples, 0 for none)."""

    blake3: str
    crc32c: dict[str, npt.NDArray[np.uint32]]


def scan(fetch: Fetch, size: int, costs: Costs, *, head: bytes, where: str) -> TarContents:
    """What a plain tar of `size` bytes holds, from its headers; `head` is how it begins. Payloads are jumped over where that is cheaper."""
    headers, windows = HeaderScan(size), Windows(costs)
    data, base = memoryview(head), 0
    while True:
        before, large = headers.position, headers.large
        headers.feed(data, base)
        if headers.done:
            break
        windows.learn(advanced=headers.position - before, jumps=headers.large - large)
        base = headers.position
        wanted = min(windows.next(headers.need - base), size - base)
        data = memoryview(fetch(base, wanted))
        if len(data) < wanted:
            raise SourceChanged(f"{where} ended at byte {base + len(data)} while it was scanned; it had {size} bytes")
    return headers.contents(after=_after(fetch, headers.position, size, data, base))


def _after(fetch: Fetch, position: int, size: int, data: memoryview, base: int) -> bytes:
    """Some of what follows the end marker."""
    end = min(size, position + _AFTER_BYTES)
    return bytes(data[position - base : end - base]) if end <= base + len(data) else bytes(fetch(position, end - position))


def scan_compressed(fetch: Fetch, size: int, compression: str, *, where: str) -> TarContents:
    """What a compressed tar holds; offsets are those of the decompressed stream."""
    stream = Decompressing(fetch, size, compression, where=where)
    headers, data, base, trouble = HeaderScan(), b"", 0, None
    while not headers.done:
        data, base = data[max(0, headers.position - base) :], headers.position
        try:
            if not data and trouble is None:
                stream.skip_to(base)
            missing = max(_STREAM_BYTES, headers.need - base) - len(data)
            more = stream.read(missing) if trouble is None and stream.position == base + len(data) else b""
        except CorruptObject as error:
            more, trouble = b"", str(error)
        data += more
        if base + len(data) < headers.need:
            headers.size = stream.position
        headers.feed(data if headers.position <= stream.position else b"", base)
    contents = headers.contents(after=data[headers.position - base :][:_AFTER_BYTES])
    if trouble is None:
        return contents
    return TarContents(contents.keys, contents.fields, contents.bad, trouble, contents.members, contents.ignored)


def verify(fetch: Fetch, size: int, compression: str | None, contents: TarContents, *, where: str) -> Checksums:
    """Read a tar through, once."""
    hasher, read = blake3(), 0

    def hashed(start: int, length: int) -> Any:
        nonlocal read
        piece = fetch(start, length)
        hasher.update(piece)
        read += len(piece)
        return piece

    def pieces() -> Iterator[Any]:
        if compression is None:
            while read < size and (piece := hashed(read, min(_VERIFY_BYTES, size - read))):
                yield piece
            return
        stream = Decompressing(hashed, size, compression, where=where)
        while piece := stream.read(_VERIFY_BYTES):
            yield piece

    places = _in_order(contents)
    crcs = _checked(pieces(), places)
    while read < size and hashed(read, min(_VERIFY_BYTES, size - read)):  # what lies behind the last field
        pass
    if read != size:
        raise SourceChanged(f"{where} ended at byte {read} while it was read; it had {size} bytes")
    columns = {name: np.zeros(len(contents), np.uint32) for name in contents.fields}
    names = list(contents.fields)
    for (field, row, _, _), crc in zip(places, crcs, strict=True):
        columns[names[field]][row] = crc
    return Checksums(hasher.hexdigest(), columns)


def _in_order(contents: TarContents) -> list[tuple[int, int, int, int]]:
    """Field number, row, offset and size of all fields, in the archive's order."""
    places = []
    for number, field in enumerate(contents.fields.values()):
        rows = np.flatnonzero(field.size >= 0)
        places += [(number, *values) for values in zip(rows.tolist(), field.offset[rows].tolist(), field.size[rows].tolist(), strict=True)]
    return sorted(places, key=lambda place: place[2:])


def _checked(pieces: Iterator[Any], places: list[tuple[int, int, int, int]]) -> list[int]:
    """The CRC of each place of a stream that comes in pieces."""
    crcs, base, view = [], 0, memoryview(b"")
    for _, _, offset, size in places:
        crc, at, end = 0, offset, offset + size
        while at < end:
            while base + len(view) <= at:
                base += len(view)
                piece = next(pieces, None)
                if piece is None:
                    raise SourceChanged(f"the archive ends at byte {base}; a member reaches to byte {end}")
                view = memoryview(piece)
            part = view[at - base : end - base]
            crc = google_crc32c.extend(crc, bytes(part))
            at += len(part)
        crcs.append(crc)
    return crcs
