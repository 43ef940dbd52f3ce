"""Zip files whose members are stored as they are: what a Zarr shard is packed into, and where the members of somebody else's lie."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from dataplane.errors import CorruptObject, DataplaneError, InvalidArgument
from dataplane.formats.zarr_fetch import Place, fetch
from dataplane.formats.zarr_members import Member
from dataplane.objects import Objects
from dataplane.refs import ObjectRef

__all__ = ["Pack", "members_of_zip"]

_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can say
_MODE: Final = 0o100644 << 16
_UNIX: Final = 3
_HEADER_BYTES: Final = 30
_BUFFER_BYTES: Final = 256 << 10
_ENCRYPTED: Final = 1


class Pack:
    """Writes a zip file, with fixed times and modes: equal members in the same order give equal bytes. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self.bytes = 0
        self.members: list[Member] = []
        self._file = path.open("wb")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED, allowZip64=True)

    def add(self, name: str, data: Any, *, keep: bool = False, tail: int = 0) -> None:
        """Append a member. `keep`: its bytes go into the index, too; `tail`: or just so many of its last ones."""
        info = zipfile.ZipInfo(name, _TIME)
        info.external_attr, info.create_system = _MODE, _UNIX
        self._zip.writestr(info, data)
        self.bytes = self._file.tell()
        view = memoryview(data)
        kept, end = bytes(view) if keep else None, bytes(view[len(view) - tail :]) if tail else None
        self.members.append(Member(name, len(view), self.bytes - len(view), info.CRC, data=kept, tail=end))

    def close(self) -> None:
        """End the file."""
        self._zip.close()
        self._file.close()

    def __enter__(self) -> Pack:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._zip.close()
        self._file.close()


def members_of_zip(objects: Objects, ref: ObjectRef) -> list[Member]:
    """The members of a zip file that lies somewhere, from its directory and the headers of its members; no data are read.

    Raises `InvalidArgument` where they are compressed or encrypted inside it, `CorruptObject` where it is no zip file.
    """
    where = objects.where(ref)
    try:
        with zipfile.ZipFile(io.BufferedReader(_Remote(objects, ref), _BUFFER_BYTES)) as file:
            infos = [info for info in file.infolist() if not info.is_dir()]
    except DataplaneError:
        raise
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CorruptObject(f"{where} cannot be read as a zip file: {error}") from error
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & _ENCRYPTED:
            raise InvalidArgument(
                f"{where}: {info.filename} is compressed or encrypted inside the zip file, so no part of it can be read by itself; "
                "pack it again with: zip -0 -r"
            )
    headers = fetch(objects, [Place(ref, info.header_offset, _HEADER_BYTES, info.filename) for info in infos])
    members = []
    for info, header in zip(infos, headers, strict=True):
        if bytes(header[:4]) != b"PK\x03\x04":
            raise CorruptObject(f"{where}: {info.filename} has no header where the zip file's directory says")
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        members.append(Member(info.filename, info.file_size, info.header_offset + _HEADER_BYTES + lengths, info.CRC))
    return members


class _Remote(io.RawIOBase):
    """An object as a file that can be read and sought in."""

    def __init__(self, objects: Objects, ref: ObjectRef) -> None:
        super().__init__()
        self._objects = objects
        self._ref = ref
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ref.size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._ref.size - self._at))
        if not wanted:
            return 0
        (piece,) = self._objects.ranges(self._ref, starts=[self._at], lengths=[wanted])
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)
