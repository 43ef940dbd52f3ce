"""EXIF orientations: how stored pixels become the upright image, and where a box of that is stored. Pure.

Orientations are numbers from 1 (stored as seen) to 8; see `known` for any other.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loaders.transforms import Box

__all__ = ["inverse", "known", "oriented", "stored_box", "swaps_sides"]

_UPRIGHT: Final = {  # transpose the stored pixels, then reverse the rows, then the columns
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


def known(value: Any) -> int:
    """`value` if it is an orientation, else 1: files hold anything there."""
    return value if value in _UPRIGHT else 1


def inverse(orientation: int) -> int:
    """The orientation that undoes this one."""
    return _INVERSE[orientation]


def swaps_sides(orientation: int) -> bool:
    """Whether the width of the stored image is the height of the upright one."""
    return _UPRIGHT[orientation][0]


def stored_box(box: Box, orientation: int, upright: tuple[int, int]) -> Box:
    """Where the pixels of a box of the upright image (height, width) are stored."""
    transpose, reverse_rows, reverse_columns = _UPRIGHT[orientation]
    y = upright[0] - box.y - box.height if reverse_rows else box.y
    x = upright[1] - box.x - box.width if reverse_columns else box.x
    return Box(x, y, box.width, box.height) if transpose else Box(y, x, box.height, box.width)


def oriented(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Stored pixels [height, width, channels] turned upright, C-contiguous."""
    transpose, reverse_rows, reverse_columns = _UPRIGHT[orientation]
    turned = pixels.transpose(1, 0, 2) if transpose else pixels
    return np.ascontiguousarray(turned[:: -1 if reverse_rows else 1, :: -1 if reverse_columns else 1])
