"""Bytes of a sample to arrays: images into their slot of the batch, numbers to int64.

**Exact.** JPEGs are decoded as libjpeg-turbo's defaults do (accurate integer DCT, smooth chroma upsampling), so pixels equal Pillow's;
resampling is in float32 without Pillow's rounding to 8 bits between its two passes, so results differ from its by less than one level of
255. What is not RGB becomes RGB by Pillow's conversion, with three rules: alpha is dropped (colours stay as they are, nothing is blended),
16-bit values keep their high byte, and of an animation the first frame is taken. Colour profiles are not applied.

**Only what is needed.** A sequential JPEG is decoded down to the last row that the plan looks at and no further: the height in its header
is lowered. The pixels above are the same, bit for bit.

**Errors.** Whatever is wrong with the bytes is a `BadSample`; libjpeg's warnings about damaged data count as wrong.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from dataplane.errors import BadSample, InvalidArgument
from loaders.kernels.jpeg import frame
from loaders.kernels.resample import resample
from loaders.transforms import Box, ImageTransform, ImageTransforms, Normalize

__all__ = ["ImagePipeline", "Workspace", "decode", "decode_int64"]

Data: TypeAlias = bytes | bytearray | memoryview | NDArray[np.uint8]
Pixels: TypeAlias = NDArray[np.uint8]

_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_KEPT_BYTES: Final = 1 << 26  # scratch for a larger image is not held on to
_MAX_PIXELS: Final = 178_956_970  # where Pillow, too, refuses: half a gibibyte of RGB
_UPSAMPLING_ROWS: Final = 2  # smooth chroma upsampling looks at one chroma row more, which is two rows of pixels at most
_SURPLUS: Final = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9")
_UNKNOWN_SAMPLING: Final = "Could not determine subsampling"
_NUMBER: Final = re.compile(rb"[+-]?[0-9]{1,19}")

_UPRIGHT: Final = {  # EXIF orientation: transpose the stored pixels, then reverse the rows, then the columns
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_INVERSE: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


class Workspace:
    """Scratch memory of one decoding thread; it grows to what images need, up to 64 MiB. Not thread-safe: one for each thread."""

    __slots__ = ("_bytes", "_pixels")

    def __init__(self) -> None:
        self._pixels: Pixels = np.empty(0, np.uint8)
        self._bytes: Pixels = np.empty(0, np.uint8)

    def pixels(self, shape: tuple[int, int, int]) -> Pixels:
        """An array of this shape, contents undefined, until the next call."""
        size = shape[0] * shape[1] * shape[2]
        if size > _KEPT_BYTES:
            return np.empty(shape, np.uint8)
        if self._pixels.size < size:
            self._pixels = np.empty(size, np.uint8)
        return self._pixels[:size].reshape(shape)

    def copy(self, data: Pixels) -> Pixels:
        """A writable copy of `data`, until the next call."""
        if data.size > _KEPT_BYTES:
            return data.copy()
        if self._bytes.size < data.size:
            self._bytes = np.empty(data.size, np.uint8)
        copied = self._bytes[: data.size]
        copied[:] = data
        return copied


class ImagePipeline:
    """Decodes and transforms images into their slots of a batch, as `transforms` describe it.

    Immutable after construction, and thread-safe as long as each thread brings its own `Workspace`.
    """

    def __init__(self, transforms: ImageTransforms | Sequence[ImageTransform]) -> None:
        self.transforms = transforms if isinstance(transforms, ImageTransforms) else ImageTransforms(tuple(transforms))
        self.shape = (3, *self.transforms.size)
        self.dtype = self.transforms.dtype
        self._levels = _levels(self.transforms)

    def run(
        self,
        data: Data,
        *,
        width: int,
        height: int,
        orientation: int | None,
        seed: int,
        component: int,
        epoch: int,
        position: int,
        out: NDArray[Any],
        workspace: Workspace,
    ) -> None:
        """Write the image of `data` to `out`: C-contiguous, of this pipeline's `shape` and `dtype`; a 16-byte aligned one is faster.

        `width`, `height` (as stored) and EXIF `orientation` are the index's; where one is 0 or None, all are read from the header. `data`
        is changed during the call if it is writable, and restored: nobody else may read it meanwhile. The random parameters are those of
        `position` in `epoch` of `component` under `seed`. A pure function of its arguments. Raises `BadSample`; `out` is undefined then.
        """
        if out.dtype != self.dtype or out.shape != self.shape or not out.flags.c_contiguous:
            raise InvalidArgument(
                f"out must be C-contiguous {self.dtype} {self.shape}; it is {out.dtype} {out.shape}, strides {out.strides}"
            )
        if not (width and height and orientation):
            height, width, orientation = _stored_shape(data)
        turned = orientation != 1 and orientation in _UPRIGHT
        upright = (width, height) if turned and _UPRIGHT[orientation][0] else (height, width)
        plan = self.transforms.plan(*upright, seed=seed, component=component, epoch=epoch, position=position)
        rows, columns = plan.axes
        reach = plan.reach
        if not turned:
            pixels = decode(data, height=height, width=width, bottom=reach.y + reach.height, workspace=workspace)
        else:
            box = _stored_box(reach, orientation, upright)
            pixels = decode(data, height=height, width=width, bottom=box.y + box.height, workspace=workspace)
            pixels = _oriented(pixels[box.y : box.y + box.height, box.x : box.x + box.width], orientation)
            rows, columns = (rows[0] - reach.y, *rows[1:]), (columns[0] - reach.x, *columns[1:])
        resample(pixels, (rows, columns), (plan.filter, plan.flip), self._levels, out)


def decode(data: Data, *, height: int, width: int, bottom: int, workspace: Workspace) -> Pixels:
    """The image of `data`, uint8 [at least `bottom` rows, width, 3], RGB, as stored: its orientation is not applied.

    `height` and `width` are those of the stored image, which the bytes must confirm. The result may lie in `workspace` (until its next
    use) and has only the upper rows if that is cheaper. `data` is changed during the call if it is writable, and restored. Raises
    `BadSample`.
    """
    if height * width > _MAX_PIXELS:
        raise BadSample(f"the image has {width} × {height} pixels; allowed are {_MAX_PIXELS:,} in all")
    view: Pixels = np.frombuffer(data, np.uint8)
    if view[:3].tobytes() == b"\xff\xd8\xff":
        pixels = _decode_jpeg(view, (height, width), bottom, workspace)
    else:
        pixels = _decode_pillow(view, (height, width))
    if pixels.shape[0] < min(bottom, height) or pixels.shape[1] != width:
        raise _size_differs(pixels.shape, (height, width))
    return pixels


def decode_int64(data: Data) -> int:
    """The number that `data` spells in decimal ASCII, white space around it allowed. Raises `BadSample`."""
    text = bytes(data).strip()
    number = int(text) if _NUMBER.fullmatch(text) else None
    if number is None or not -(1 << 63) <= number < 1 << 63:
        raise BadSample(f"{text[:40]!r} is not a decimal number that fits in an int64")
    return number


def _levels(transforms: ImageTransforms) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale and bias of each channel, from levels 0 … 255 to what the transforms ask for; 0.5 makes a truncation to uint8 round."""
    if transforms.dtype == np.uint8:
        return np.ones(3, np.float32), np.full(3, 0.5, np.float32)
    mean, std = np.zeros(3), np.ones(3)
    for op in transforms:
        if isinstance(op, Normalize):
            mean, std = np.array(op.mean), np.array(op.std)
    return (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)


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
            _decode_upper(view if view.flags.writeable else workspace.copy(view), at_height, pixels)
    except ValueError as error:
        if _UNKNOWN_SAMPLING in str(error):  # a limit of TurboJPEG's interface; libjpeg itself knows more
            return _decode_pillow(view, shape)
        raise BadSample(f"the JPEG cannot be decoded: {error}") from error
    return pixels


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
    return _oriented(_rgb(image), _INVERSE[turned])


def _rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise BadSample(f"pixels of Pillow's mode {image.mode} have no agreed range; allowed are up to 16 bits a channel")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # to "RGB" at once, Pillow warns that it drops the alpha; it is meant to
    return np.array(image.convert("RGB"))


def _stored_shape(data: Data) -> tuple[int, int, int]:
    """(height, width, orientation) from the header."""
    try:
        with Image.open(io.BytesIO(np.frombuffer(data, np.uint8).data), formats=_FORMATS) as image:
            orientation = _orientation(image)
            swapped = image.format == "TIFF" and _UPRIGHT[orientation][0]  # Pillow's size of a TIFF is that of the upright image
            return (image.width, image.height, orientation) if swapped else (image.height, image.width, orientation)
    except MemoryError:
        raise
    except Exception as error:  # as in _decode_pillow
        raise _unreadable(error) from error


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if value in _UPRIGHT else 1


def _stored_box(box: Box, orientation: int, upright: tuple[int, int]) -> Box:
    """Where the pixels of a box of the upright image (height, width) are stored."""
    transpose, reverse_rows, reverse_columns = _UPRIGHT[orientation]
    y = upright[0] - box.y - box.height if reverse_rows else box.y
    x = upright[1] - box.x - box.width if reverse_columns else box.x
    return Box(x, y, box.width, box.height) if transpose else Box(y, x, box.height, box.width)


def _oriented(pixels: Pixels, orientation: int) -> Pixels:
    """Stored pixels turned upright, C-contiguous."""
    transpose, reverse_rows, reverse_columns = _UPRIGHT[orientation]
    turned = pixels.transpose(1, 0, 2) if transpose else pixels
    return np.ascontiguousarray(turned[:: -1 if reverse_rows else 1, :: -1 if reverse_columns else 1])


def _read_only(view: Pixels) -> Pixels:
    """The same memory as a type of its own, so that the header's reader is compiled once for bytes and buffers."""
    shown = view.view()
    shown.flags.writeable = False
    return shown


def _size_differs(got: tuple[int, ...], expected: tuple[int, int]) -> BadSample:
    return BadSample(f"the image has {got[1]} × {got[0]} pixels, the index says {expected[1]} × {expected[0]}: index the shard anew")


def _unreadable(error: Exception) -> BadSample:
    if isinstance(error, UnidentifiedImageError):
        return BadSample("not an image that can be read; readable are JPEG, PNG, WebP, BMP, TIFF and GIF")
    return BadSample(f"the image cannot be decoded: {error}")
