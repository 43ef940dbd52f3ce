"""Pictures before they become samples: what format the bytes are in, what their header says, and whether they decode.

JPEG data are decoded with simplejpeg (libjpeg-turbo), because it reports what libjpeg only warns about. Measured over 240 photographs:
cut off with an end marker put behind, simplejpeg finds 240, Pillow 0; 4 KiB zeroed inside the scan, 239 and 0; 512 bytes missing, 240
and 1. Decoding at an eighth of the size goes through all of the compressed data, finds the same, and takes about half of Pillow's time.
JPEG has no checksums: a single flipped bit is found in one file out of eight. The other formats are decoded with Pillow, after the CRCs of
PNG, which Pillow does not look at.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from dataplane.errors import BadSample
from dataplane.formats import npy
from dataplane.formats.index import ImageInfo
from dataplane.prep.jpeg import plain_header

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "NOT_AN_IMAGE",
    "ORIENTATION",
    "SNIFF_BYTES",
    "Picture",
    "alone",
    "decode",
    "examine",
    "pixels",
    "plain_reasons",
    "sniff",
]

SNIFF_BYTES: Final = 32

FORMATS: Final = ("bmp", "gif", "jpg", "png", "tif", "webp")
"""The names of the formats, which are the names of their fields."""

EXTENSIONS: Final = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), "jpg"),
    **dict.fromkeys(("tif", "tiff"), "tif"),
    **dict.fromkeys(("bmp", "dib"), "bmp"),
    **{name: name for name in ("png", "webp", "gif")},
}
"""File name extensions, in lower case, and the format that they promise."""

NOT_AN_IMAGE: Final = "not an image (JPEG, PNG, WebP, BMP, TIFF and GIF are)"
ORIENTATION: Final = 0x0112
"""The EXIF tag."""

_WIDTH, _HEIGHT = 256, 257  # the TIFF tags
_BMP_HEADERS: Final = {12, 16, 40, 52, 56, 64, 108, 124}
_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_TIFF_STARTS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OPEN: Final[dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]]] = {  # not Image.open: its limit is a global
    "bmp": BmpImageFile,
    "gif": GifImageFile,
    "jpg": JpegImageFile,
    "png": PngImageFile,
    "tif": TiffImageFile,
    "webp": WebPImageFile,
}
_JPEG_TARGET: Final = {"Gray": "GRAY", "YCbCr": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "YCCK": "CMYK"}
_UPRIGHT: Final = {  # EXIF orientation → whether to swap the axes first, and then to reverse rows, columns
    1: (False, 1, 1),
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}
_one = threading.Lock()
_JPEG_DAMAGE: Final = ("Corrupt JPEG data", "Premature end")


@dataclass(frozen=True, slots=True)
class Picture:
    """What was found out about an image: its format (a name of `FORMATS`), and what its header says."""

    format: str
    info: ImageInfo

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height in pixels after turning the image as its EXIF orientation asks."""
        return self.info.upright


def sniff(start: bytes) -> str | None:
    """The format that the first `SNIFF_BYTES` bytes of a file announce, or None."""
    if start.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if start.startswith(_PNG_START):
        return "png"
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "webp"
    if start.startswith(_TIFF_STARTS):
        return "tif"
    if start.startswith(b"BM") and int.from_bytes(start[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    return None


def examine(data: bytes, *, decode: bool, max_pixels: int) -> Picture:
    """Find out what `data` are, and that they can be used. Raises `BadSample` with a plain reason, and nothing else.

    With `decode` all of it is decoded (of GIF and other sequences, the first frame). Without, for trusted data, only the header and the end
    marker of JPEG and PNG, and the container of WebP, are looked at; the rarer formats are decoded all the same. Images of more than
    `max_pixels` are refused by their header, before anything is decoded. Thread-safe.
    """
    if not data:
        raise BadSample("an empty file")
    name = sniff(data[:SNIFF_BYTES])
    if name is None:
        raise BadSample(NOT_AN_IMAGE)
    plain = plain_header(data) if name == "jpg" and not decode else None
    if plain is not None:
        width, height, scan = plain
        _check_size(width, height, max_pixels)
        _check_end(data, scan)
        return Picture(name, ImageInfo(width, height))
    with alone(), plain_reasons():
        return _examine(data, name, decode=decode, max_pixels=max_pixels)


def decode(data: bytes, *, max_pixels: int) -> npt.NDArray[np.uint8]:
    """The pixels of an image (of GIF and other sequences, the first frame), upright: uint8 [height, width, red green blue]. Transparency is
    left out, and of 16 bits the upper 8 are taken, as the loaders do. Pixels in a NumPy file are as they are. Raises what `examine` raises.
    Thread-safe."""
    if data.startswith(npy.MAGIC):
        return npy.unpack(data)
    picture = examine(data, decode=False, max_pixels=max_pixels)
    stored = pixels(data)
    swap, rows, columns = _UPRIGHT[1 if picture.format == "tif" else picture.info.orientation]  # Pillow has turned a TIFF already
    return np.ascontiguousarray((stored.transpose(1, 0, 2) if swap else stored)[::rows, ::columns])


def pixels(data: bytes) -> npt.NDArray[np.uint8]:
    """What `decode` gives of an image that `examine` has passed, but not turned as its EXIF orientation says (a TIFF is)."""
    name = sniff(data[:SNIFF_BYTES])
    if name == "jpg":
        with plain_reasons():  # it gives no warnings, so threads may do it side by side
            stored = _decode_jpeg(data)
        if stored is not None:
            return stored
    with alone(), plain_reasons():
        image = _OPEN[name or ""](io.BytesIO(data))
        with _libtiff_held_back() if name == "tif" else nullcontext():
            image.load()
        return _rgb(image)


def _examine(data: bytes, name: str, *, decode: bool, max_pixels: int) -> Picture:
    image = _OPEN[name](io.BytesIO(data))
    width, height = _stored_size(image)
    turned = _orientation(image) if name == "tif" else None  # loading turns the pixels of a TIFF, and the tag
    _check_size(width, height, max_pixels)
    if name == "png":
        _check_png(data, crc=decode)
    elif name == "jpg":
        _check_jpeg(data, image, decode=decode)
    if name not in {"jpg", "png", "webp"} or (decode and name != "jpg"):
        with _libtiff_held_back() if name == "tif" else nullcontext():
            image.load()
    return Picture(name, ImageInfo(width, height, turned or _orientation(image)))


@contextmanager
def alone() -> Iterator[None]:
    """One thread at a time, without warnings: Python's filters of these, and for TIFF file descriptor 2, are those of the process."""
    with _one, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def plain_reasons() -> Iterator[None]:
    """Turns whatever a decoder raises over hostile bytes into a `BadSample`. Pillow raises nearly every builtin exception."""
    try:
        yield
    except BadSample:
        raise
    except Image.DecompressionBombError as error:
        raise BadSample(f"too large: {error}") from error
    except MemoryError as error:
        raise BadSample("too large to decode in the memory there is") from error
    except Exception as error:
        text = f"unknown value {error} in its header" if isinstance(error, KeyError) else str(error).strip().rstrip(".")
        raise BadSample(f"{'truncated' if 'truncated' in text.lower() else 'damaged'}: {text or type(error).__name__}") from error


@contextmanager
def _libtiff_held_back() -> Iterator[None]:
    """Puts what libtiff writes to file descriptor 2 by itself into the reason of a failure, instead of over the user's progress bar."""
    try:
        before = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    said = os.memfd_create("libtiff")
    os.dup2(said, 2)
    try:
        yield
    except OSError as error:
        text = os.pread(said, 200, 0).decode("utf-8", "replace").split("\n")[0].removeprefix("tempfile.tif: ").strip()
        raise OSError(text or str(error)) from error
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(said)


def _stored_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Width and height as stored; Pillow gives those of the upright image for TIFF."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[_WIDTH]), int(image.tag_v2[_HEIGHT])
    return image.size


def _orientation(image: ImageFile.ImageFile) -> int:
    """The EXIF orientation; 1 where there is none, or none that can be read."""
    if isinstance(image, (BmpImageFile, GifImageFile)):
        return 1
    if isinstance(image, PngImageFile) and not {"exif", "XML:com.adobe.xmp", "Raw profile type exif"} & image.info.keys():
        return 1  # asking Pillow would decode the image
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF is common in sound photographs; it raises as freely as the decoders
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadSample(f"too large: {width:,} × {height:,} pixels are {width * height:,}; {max_pixels:,} are allowed")


def _check_png(data: bytes, *, crc: bool) -> None:
    """Walk the chunks up to IEND."""
    at = len(_PNG_START)
    while True:
        if at + 12 > len(data):
            raise BadSample("truncated: it ends before its IEND chunk")
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + size
        if end > len(data):
            raise BadSample(f"truncated: it ends inside a chunk of {size:,} bytes")
        if crc and zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise BadSample(f"damaged: its {kind.decode('latin-1')!r} chunk fails its checksum")
        if kind == b"IEND":
            return
        at = end


def _check_jpeg(data: bytes, image: ImageFile.ImageFile, *, decode: bool) -> None:
    if not decode:
        _check_end(data, image.fp.tell() if image.fp else 0)
        return
    try:
        _, _, space, _ = simplejpeg.decode_jpeg_header(data)
        simplejpeg.decode_jpeg(data, colorspace=_JPEG_TARGET[space], min_height=1, min_width=1, min_factor=8, strict=True)
    except (ValueError, KeyError) as error:
        text = str(error)
        if text.startswith(_JPEG_DAMAGE):
            kind = "truncated" if "remature end" in text else "damaged"
            raise BadSample(f"{kind}: {text.removeprefix('Corrupt JPEG data: ')}") from error
        image.load()  # odd chroma samplings, which simplejpeg does not read, and harmless warnings


def _check_end(data: bytes, scan: int) -> None:
    if data.rfind(b"\xff\xd9", scan) < 0:  # thumbnails before the scan have end markers of their own
        raise BadSample("truncated: it has no end marker")


def _decode_jpeg(data: bytes) -> npt.NDArray[np.uint8] | None:
    """RGB; None for what simplejpeg cannot turn into that, but Pillow can."""
    try:
        _, _, space, _ = simplejpeg.decode_jpeg_header(data)
        if _JPEG_TARGET[space] == "CMYK":
            return None
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True)
        return pixels
    except (ValueError, KeyError) as error:
        if str(error).startswith(_JPEG_DAMAGE):
            raise
        return None


def _rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise BadSample(f"pixels of Pillow's mode {image.mode} have no agreed range; allowed are up to 16 bits a channel")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # to "RGB" at once, Pillow warns that it drops the alpha; it is meant to
    return np.array(image.convert("RGB"))
