"""What one file becomes: the fields of a sample, by the kind of data that a source holds."""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from dataplane.errors import BadSample
from dataplane.formats.index import ImageInfo
from dataplane.formats.protocol import Value
from dataplane.prep.image import EXTENSIONS, NOT_AN_IMAGE, SNIFF_BYTES, sniff
from dataplane.prep.options import PictureOptions
from dataplane.prep.stored import Stored, stored

__all__ = ["FileKind", "Prepared", "as_is", "check_start", "misnamed", "prepare", "start_bytes"]

FileKind = Literal["pictures", "files", "arrays"]
"""Kinds of which one file is one sample: pictures of known formats, any files as they are, NumPy's `.npy` and `.npz`."""

_NAME: Final = re.compile(r"[a-z0-9]{1,15}\Z")
_SNIFF_FIRST: Final = 16 << 20  # a larger file is read whole only if its start is that of an image


@dataclass(frozen=True, slots=True)
class Prepared:
    """The fields of a sample; what the headers of its pictures hold; for a picture its upright size, what was done to it, and whether it is
    of another format than its file's name says."""

    fields: Mapping[str, Value]
    images: Mapping[str, ImageInfo] = field(default_factory=dict)
    size: tuple[int | None, int | None] = (None, None)
    stored: Stored | None = None
    renamed: bool = False


def start_bytes(kind: FileKind, size: int) -> int | None:
    """How much of a file of `size` bytes to give to `check_start` before it is read whole; None to read it at once."""
    return SNIFF_BYTES if kind == "pictures" and size > _SNIFF_FIRST else None


def check_start(kind: FileKind, start: bytes) -> None:
    """Raise `BadSample` where the start of a file says that it is none of its kind."""
    if kind == "pictures" and sniff(start) is None:
        raise BadSample(NOT_AN_IMAGE)


def prepare(kind: FileKind, path: str, data: bytes, *, decode: bool, max_pixels: int, pictures: PictureOptions) -> Prepared:
    """The sample in a file. Raises `BadSample`."""
    if kind == "pictures":
        return _picture(path, stored(data, decode=decode, max_pixels=max_pixels, options=pictures))
    if not data:
        raise BadSample("it is empty")
    return Prepared({_field(path): data}) if kind == "files" else _arrays(path, data)


def _picture(path: str, made: Stored) -> Prepared:
    picture = made.picture
    renamed = misnamed(path, picture.format)
    return Prepared({picture.format: made.data}, {picture.format: picture.info}, picture.upright, made, renamed)


def misnamed(path: str, format_: str) -> bool:
    """A picture is of another format than its file's name says."""
    return EXTENSIONS.get(posixpath.splitext(path)[1][1:].lower()) not in {None, format_}


def as_is(kind: FileKind, path: str, size: int, *, plain_jpeg: bool) -> str | None:
    """The field that a file of `size` bytes becomes as it is, as `prepare` would have it where nothing is changed or decoded; None where
    `prepare` must look for itself. `plain_jpeg`: its header and its end are those of a JPEG file."""
    if kind == "pictures":
        return "jpg" if plain_jpeg else None
    return _field(path) if kind == "files" and size else None


def _field(path: str) -> str:
    """The field of a file: its extension."""
    name = posixpath.splitext(path)[1][1:].lower()
    return name if _NAME.match(name) and name != "cls" else "bin"


def _arrays(path: str, data: bytes) -> Prepared:
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        arrays = {"array": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except Exception as error:  # whatever a damaged zip or header raises
        raise BadSample(f"it is no NumPy file: {error}") from error
    if not arrays:
        raise BadSample("it holds no array")
    for name, array in arrays.items():
        if array.dtype.kind not in "biufc":
            raise BadSample(f"its array {name!r} holds {array.dtype}, not numbers")
    return Prepared({name: array if array.ndim else array.item() for name, array in arrays.items()})
