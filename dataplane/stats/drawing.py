"""Values as small pictures for a page: thumbnails, heat maps, and the outlines of sounds and of long rows of numbers."""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from dataplane.errors import BadSample
from dataplane.ingest.options import IngestOptions
from dataplane.page.document import data_uri
from dataplane.page.histograms import outline_chart
from dataplane.page.markup import Markup, element
from dataplane.stats.values import Look, Sound, sound_of

__all__ = ["draw", "heat_png", "outline", "thumbnail"]

_SIDE: Final = 192  # of a thumbnail, in pixels
_CELLS: Final = 64  # of a heat map, along a side
_OUTLINE: Final = 220  # columns of an outline
_PLAYED_BYTES: Final = 1 << 19  # a larger sound is drawn, but not put into the page
_COLOURS: Final = np.array([(28, 20, 68), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float64)  # low to high


def draw(found: Look) -> Markup:
    """The picture of a field; text and plain values are shown as they are. Empty for bytes of which there is nothing to show."""
    if found.kind == "picture":
        try:
            image = element("img", src=data_uri(thumbnail(found.value), "image/jpeg"), alt=f"the picture {found.name}")
        except BadSample as error:
            return element("p", f"cannot be decoded: {error}", class_="bad-ink")
        return image
    if found.kind == "sound":
        return _sound(found)
    if found.kind == "array":
        return _array(found)
    if found.kind == "text":
        return element("blockquote", found.value)
    return element("code", found.preview)


def thumbnail(data: bytes) -> bytes:
    """A JPEG of at most 192 × 192 pixels, upright. Raises `BadSample`."""
    from dataplane.prep.image import decode

    return _jpeg(decode(data, max_pixels=IngestOptions().max_pixels))


def heat_png(values_HW: npt.NDArray[Any]) -> bytes:
    """A PNG of a table of numbers, at most 64 × 64 cells: the lowest dark blue, the highest yellow, what is not finite transparent."""
    table = values_HW.astype(np.float64)
    table = table[np.ix_(*(_spread(size) for size in table.shape))]
    finite = np.isfinite(table)
    low, high = (float(table[finite].min()), float(table[finite].max())) if finite.any() else (0.0, 0.0)
    half = high / 2 - low / 2  # halves, as the whole may be more than a float can hold
    share = (np.where(finite, table, low) / 2 - low / 2) / (half or 1.0) * (len(_COLOURS) - 1)
    below = np.minimum(share.astype(int), len(_COLOURS) - 2)
    mixed = _COLOURS[below] + (_COLOURS[below + 1] - _COLOURS[below]) * (share - below)[:, :, None]
    pixels = np.dstack([mixed, np.where(finite, 255, 0)]).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def outline(values: npt.NDArray[Any], columns: int = _OUTLINE) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The lowest and the highest value in each of at most `columns` stretches of a row of finite numbers."""
    numbers = np.asarray(values, np.float64)
    if not len(numbers):
        return np.zeros(0), np.zeros(0)
    starts = np.unique(np.arange(min(columns, len(numbers))) * len(numbers) // min(columns, len(numbers)))
    return np.minimum.reduceat(numbers, starts), np.maximum.reduceat(numbers, starts)


def _sound(found: Look) -> Markup:
    sound = sound_of(found.value)
    assert sound is not None  # or it would be bytes
    low, high = _of_all_channels(sound)
    peak = max(-low.min(initial=0), high.max(initial=0))
    title = f"waveform of {found.name}: {found.preview}, loudest {peak:.0%} of full scale"
    drawn = outline_chart((low / (peak or 1)).tolist(), (high / (peak or 1)).tolist(), title=title, style="s4")
    if len(found.value) > _PLAYED_BYTES:
        return drawn
    player = element("audio", controls="controls", preload="none", src=data_uri(found.value, "audio/wav"), aria_label=f"play {found.name}")
    return element("div", drawn, player)


def _of_all_channels(sound: Sound) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if not sound.samples.size:
        return np.zeros(0), np.zeros(0)
    low, _ = outline(sound.samples.min(1))
    _, high = outline(sound.samples.max(1))
    return low, high


def _array(found: Look) -> Markup:
    """A picture where it looks like one, a heat map of a table or of the middle of what has more dimensions, an outline of a row."""
    values = found.value
    if not values.size or values.dtype.kind not in "biuf":
        return element("code", found.preview)
    if values.dtype == np.uint8 and values.ndim == 3 and values.shape[2] == 3 and min(values.shape[:2]) > 1:
        return element("img", src=data_uri(_jpeg(values), "image/jpeg"), alt=f"the array {found.name} as a picture")
    if values.ndim == 1:
        return _row(found)
    if values.ndim == 0:
        return element("code", found.preview)
    middle = tuple(size // 2 for size in values.shape[:-2])
    image = element("img", src=data_uri(heat_png(values[middle]), "image/png"), alt=f"the array {found.name} as a heat map", class_="heat")
    if not middle:
        return image
    return element("div", image, element("p", f"[{', '.join(map(str, middle))}] of it", class_="note"))


def _row(found: Look) -> Markup:
    values = found.value.astype(np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return element("code", found.preview)
    low, high = values.min(), values.max()
    half, middle = (high / 2 - low / 2) or 1.0, high / 2 + low / 2
    lows, highs = outline((values - middle) / half)
    title = f"{found.name}: {len(found.value):,} numbers from {low:.4g} to {high:.4g}"
    flat = 0.02  # a line has no height of its own
    return outline_chart((lows - flat).tolist(), (highs + flat).tolist(), title=title, style="s1")


def _jpeg(pixels_HWC: npt.NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(pixels_HWC)
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=82)
    return out.getvalue()


def _spread(size: int) -> npt.NDArray[np.int64]:
    """At most `_CELLS` places of `size`, evenly apart."""
    return np.arange(min(size, _CELLS)) * size // min(size, _CELLS)
