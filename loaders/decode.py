"""Bytes of a sample to values: images to pixels, as they are stored, and text to numbers.

**Nothing to decode.** Pixels that were decoded before (`dataplane materialize`) are used where the bytes lie.

**Exact.** JPEGs are decoded as libjpeg-turbo's defaults do (accurate integer DCT, smooth chroma upsampling), so pixels equal Pillow's.
What is not RGB becomes RGB by Pillow's conversion, with three rules: alpha is dropped (colours stay as they are, nothing is blended),
16-bit values keep their high byte, and of an animation the first frame is taken. Colour profiles are not applied.

**Only what is needed.** Of a JPEG whose segments are indexed, only those that the box touches are decoded, as a smaller JPEG cut out of
it. Any other sequential JPEG is decoded down to the box's last row and no further: the height in its header is lowered. The pixels are
the same, bit for bit.

**Errors.** Whatever is wrong with the bytes is a `BadSample`; libjpeg's warnings about damaged data count as wrong.
"""

from __future__ import annotations

import io
import re
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from dataplane.errors import BadSample, FormatTooNew
from dataplane.formats import npy
from dataplane.formats.jpeg import Area
from dataplane.formats.jpeg.crop import crop
from loaders.kernels.jpeg import frame
from loaders.orientation import inverse, known, oriented, swaps_sides
from loaders.transforms import Box

__all__ = ["Data", "Decoded", "Part", "Pixels", "Workspace", "decode", "decode_int64", "decode_part", "part_of", "stored_shape"]

Data: TypeAlias = bytes | bytearray | memoryview | NDArray[np.uint8]
Pixels: TypeAlias = NDArray[np.uint8]

_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_KEPT_BYTES: Final = 1 << 26  # scratch for a larger image is not held on to
_MAX_PIXELS: Final = 178_956_970  # where Pillow, too, refuses: half a gibibyte of RGB
_UPSAMPLING_ROWS: Final = 2  # smooth chroma upsampling looks at one chroma row more, which is two rows of pixels at most
_SURPLUS: Final = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9")
_UNKNOWN_SAMPLING: Final = "Could not determine subsampling"
_NUMBER: Final = re.compile(rb"[+-]?[0-9]{1,19}")


class Workspace:
    """Scratch memory of one decoding thread; it grows to what images need, up to 64 MiB for each use. Not thread-safe: one for each
    thread."""

    __slots__ = ("_bytes", "_pixels")

    def __init__(self) -> None:
        self._pixels: Pixels = np.empty(0, np.uint8)
        self._bytes: dict[int, Pixels] = {}

    def pixels(self, shape: tuple[int, int, int]) -> Pixels:
        """An array of this shape, contents undefined, until the next call."""
        size = shape[0] * shape[1] * shape[2]
        if size > _KEPT_BYTES:
            return np.empty(shape, np.uint8)
        if self._pixels.size < size:
            self._pixels = np.empty(size, np.uint8)
        return self._pixels[:size].reshape(shape)

    def bytes(self, size: int, slot: int = 0) -> Pixels:
        """At least `size` bytes, contents undefined, until the next call for this slot."""
        if size > _KEPT_BYTES:
            return np.empty(size, np.uint8)
        kept = self._bytes.get(slot)
        if kept is None or kept.size < size:
            kept = self._bytes[slot] = np.empty(size, np.uint8)
        return kept


class Part(NamedTuple):
    """What is to be decoded: the bytes of an image of `shape` (height, width), down to its row `bottom` and no further if that is cheaper.
    Its first pixel is at (y, x) of the stored image. `cut`: it is one of segments, cut out of the stored one."""

    data: Pixels
    shape: tuple[int, int]
    y: int
    x: int
    bottom: int
    cut: bool


class Decoded(NamedTuple):
    """A part of a stored image: uint8 [height, width, 3], RGB, C-contiguous, and where in the image its first pixel is."""

    pixels: Pixels
    y: int
    x: int


def decode(data: Data, *, height: int, width: int, box: Box, segments: Data = b"", workspace: Workspace) -> Decoded:
    """The image of `data` as stored (its orientation is not applied): `box` of it, and whatever around it is cheaper to have than to avoid.

    `height` and `width` are those of the stored image, which the bytes must confirm; `segments` are the packed ones of a JPEG whose index
    has them, else empty. They change how much around the box is decoded, and no pixel of it: those of a later release are passed over. The
    result may lie in `workspace` (until its next use). `data` is changed during the call if it is writable, and restored. Raises
    `BadSample`, or `CorruptObject` if `segments` are damaged or those of another file.
    """
    part = part_of(data, height=height, width=width, box=box, segments=segments, workspace=workspace)
    return Decoded(decode_part(part, workspace), part.y, part.x)


def part_of(data: Data, *, height: int, width: int, box: Box, segments: Data = b"", workspace: Workspace, slot: int = 0) -> Part:
    """The first half of `decode`, which is done soon: what `decode_part` is to decode. It may lie in the workspace, until the next call
    for this slot."""
    if height * width > _MAX_PIXELS:
        raise BadSample(f"the image has {width} × {height} pixels; allowed are {_MAX_PIXELS:,} in all")
    view: Pixels = np.frombuffer(data, np.uint8)
    bottom = box.y + box.height
    if len(segments):
        with suppress(FormatTooNew):  # without them more is decoded, to the same pixels
            out = workspace.bytes(view.size, slot)
            size, (x0, y0, x1, y1) = crop(view, segments, (width, height), Area(box.x, box.y, box.x + box.width, bottom), out)
            return Part(out[:size], (y1 - y0, x1 - x0), y0, x0, bottom, cut=True)
    return Part(view, (height, width), 0, 0, bottom, cut=False)


def decode_part(part: Part, workspace: Workspace) -> Pixels:
    """The second half of `decode`: its pixels."""
    view, shape, _, _, bottom, cut = part
    if cut:
        return _decode_cut(view, shape, workspace)
    start = view[: len(npy.MAGIC)].tobytes()
    if start[:3] == b"\xff\xd8\xff":
        pixels = _decode_jpeg(view, shape, bottom, workspace)
    elif start == npy.MAGIC:
        pixels = _stored_pixels(view, shape, workspace)
    else:
        pixels = _decode_pillow(view, shape)
    if pixels.shape[0] < min(bottom, shape[0]) or pixels.shape[1] != shape[1]:
        raise _size_differs(pixels.shape, shape)
    return pixels


def decode_int64(data: Data) -> int:
    """The number that `data` spells in decimal ASCII, white space around it allowed. Raises `BadSample`."""
    text = bytes(data).strip()
    number = int(text) if _NUMBER.fullmatch(text) else None
    if number is None or not -(1 << 63) <= number < 1 << 63:
        raise BadSample(f"{text[:40]!r} is not a decimal number that fits in an int64")
    return number


def _decode_cut(view: Pixels, shape: tuple[int, int], workspace: Workspace) -> Pixels:
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(view, buffer=workspace.pixels((*shape, 3)))
    except ValueError as error:
        pixels = _otherwise(error, view, shape)
    if pixels.shape[:2] != shape:  # what the index takes for the size in the header was none
        raise _size_differs(pixels.shape, shape)
    return pixels


def _decode_jpeg(view: Pixels, shape: tuple[int, int], bottom: int, workspace: Workspace) -> Pixels:
    height, width, components, at_height, cuttable = frame(_read_only(view))
    if height and (height, width) != shape:
        raise _size_differs((height, width), shape)
    if components == 4:
        return _decode_pillow(view, shape)  # CMYK, in Adobe's several ways
    rows = min(height, bottom + _UPSAMPLING_ROWS) if cuttable else shape[0]
    pixels = workspace.pixels((rows, shape[1], 3))
    try:
        if rows == shape[0]:
            pixels = simplejpeg.decode_jpeg(view, buffer=pixels)
        else:
            _decode_upper(view if view.flags.writeable else _copied(view, workspace), at_height, pixels)
    except ValueError as error:
        pixels = _otherwise(error, view, shape)
    return pixels


def _stored_pixels(view: Pixels, shape: tuple[int, int], workspace: Workspace) -> Pixels:
    """The pixels in a NumPy file, where they lie if that is memory of the caller's own to write to: kernels are compiled for such."""
    height, width, channels, start = npy.layout(view, expected=shape)
    if (height, width) != shape:
        raise _size_differs((height, width), shape)
    stored = view[start : start + height * width * channels].reshape(height, width, channels)
    if channels == 3 and stored.flags.writeable:
        return stored
    pixels = workspace.pixels((height, width, 3))
    pixels[...] = stored
    return pixels


def _copied(data: Pixels, workspace: Workspace) -> Pixels:
    copied = workspace.bytes(data.size)[: data.size]
    copied[:] = data
    return copied


def _otherwise(error: ValueError, data: Pixels, shape: tuple[int, int]) -> Pixels:
    """What Pillow makes of a JPEG that TurboJPEG's interface has no word for, though libjpeg reads it. Other errors are a `BadSample`."""
    if _UNKNOWN_SAMPLING in str(error):
        return _decode_pillow(data, shape)
    raise BadSample(f"the JPEG cannot be decoded: {error}") from error


def _decode_upper(data: Pixels, at_height: int, pixels: Pixels) -> None:
    """Decode as many rows as `pixels` has, with the height in the header lowered for as long as that takes."""
    stored = data[at_height : at_height + 2].copy()
    data[at_height : at_height + 2] = divmod(pixels.shape[0], 256)
    try:
        simplejpeg.decode_jpeg(data, buffer=pixels)
    except ValueError as error:
        # the rows cut off are surplus bytes to libjpeg; it tells its first warning only, so with this one all rows asked for were sound
        if not _SURPLUS.fullmatch(str(error)):
            raise
    finally:
        data[at_height : at_height + 2] = stored


def _decode_pillow(view: Pixels, shape: tuple[int, int]) -> Pixels:
    try:
        with Image.open(io.BytesIO(view.data), formats=_FORMATS) as image:
            if image.width * image.height != shape[0] * shape[1]:
                raise _size_differs((image.height, image.width), shape)
            return _as_stored(image)
    except (BadSample, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise whatever their parsing runs into
        raise _unreadable(error) from error


def _as_stored(image: Image.Image) -> Pixels:
    """RGB of an opened image, C-contiguous and writable. Pillow turns TIFFs upright by itself: that is undone."""
    turned = _orientation(image) if image.format == "TIFF" else 1
    image.load()
    if turned == _orientation(image):
        turned = 1
    return oriented(_rgb(image), inverse(turned))


def _rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise BadSample(f"pixels of Pillow's mode {image.mode} have no agreed range; allowed are up to 16 bits a channel")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # to "RGB" at once, Pillow warns that it drops the alpha; it is meant to
    return np.array(image.convert("RGB"))


def stored_shape(data: Data) -> tuple[int, int, int]:
    """(height, width, EXIF orientation) of the stored image, from its header. Raises `BadSample`."""
    view: Pixels = np.frombuffer(data, np.uint8)
    if view[: len(npy.MAGIC)].tobytes() == npy.MAGIC:
        return *npy.layout(view)[:2], 1
    try:
        with Image.open(io.BytesIO(view.data), formats=_FORMATS) as image:
            orientation = _orientation(image)
            swapped = image.format == "TIFF" and swaps_sides(orientation)  # Pillow's size of a TIFF is that of the upright image
            return (image.width, image.height, orientation) if swapped else (image.height, image.width, orientation)
    except MemoryError:
        raise
    except Exception as error:  # as in _decode_pillow
        raise _unreadable(error) from error


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return known(value)


def _read_only(view: Pixels) -> Pixels:
    """The same memory as a type of its own, so that the header's reader is compiled once for bytes and buffers."""
    shown = view.view()
    shown.flags.writeable = False
    return shown


def _size_differs(got: tuple[int, ...], expected: tuple[int, int]) -> BadSample:
    return BadSample(f"the image has {got[1]} × {got[0]} pixels, the index says {expected[1]} × {expected[0]}: index the shard anew")


def _unreadable(error: Exception) -> BadSample:
    if isinstance(error, UnidentifiedImageError):
        return BadSample("not an image that can be read; readable are JPEG, PNG, WebP, BMP, TIFF, GIF, and NumPy files of pixels")
    return BadSample(f"the image cannot be decoded: {error}")
