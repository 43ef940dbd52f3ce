"""What the parameters of transforms have to be, and the short forms that users may write."""

from __future__ import annotations

import math
from typing import Any, TypeAlias, get_args

from dataplane.errors import InvalidArgument

__all__ = [
    "Fill",
    "Range",
    "Size",
    "check_choice",
    "check_fill",
    "check_p",
    "check_range",
    "check_size",
    "check_spread",
    "colour",
    "is_int",
    "is_number",
    "pair",
    "spread",
]

Size: TypeAlias = int | tuple[int, int]
"""(height, width); an int means a square."""

Range: TypeAlias = tuple[float, float]
"""(low, high), both included."""

Fill: TypeAlias = int | tuple[int, int, int]
"""A level of 0 … 255 for the pixels that no pixel comes to, or one each for red, green and blue."""


def pair(size: Size) -> tuple[int, int]:
    """(height, width)."""
    return (size, size) if isinstance(size, int) else size


def colour(fill: Fill) -> tuple[int, int, int]:
    """(red, green, blue)."""
    return (fill, fill, fill) if isinstance(fill, int) else fill


def spread(value: float | Range, center: float = 0.0) -> Range:
    """A number is the most that a parameter is away from its `center`; a range is what it is."""
    return value if isinstance(value, tuple) else (center - value, center + value)


def check_size(op: object, size: Any) -> None:
    sides = size if isinstance(size, tuple) and len(size) == 2 else (size,)
    if not all(is_int(side) and side > 0 for side in sides):
        raise InvalidArgument(f"{op}: size must be a positive int or (height, width) of positive ints")


def check_p(op: object, p: Any) -> None:
    if not is_number(p) or not 0 <= p <= 1:
        raise InvalidArgument(f"{op}: p must be 0 ≤ p ≤ 1")


def check_choice(op: object, name: str, choices: Any) -> None:
    """`choices` is a `Literal`."""
    if getattr(op, name) not in get_args(choices):
        raise InvalidArgument(f"{op}: {name} must be one of {', '.join(get_args(choices))}")


def check_range(op: object, name: str, value: Any, *, least: float = -math.inf, most: float = math.inf, above: bool = False) -> None:
    """`value` is (low, high), finite, ordered, and within least … most; `above` leaves `least` itself out."""
    sound = isinstance(value, tuple) and len(value) == 2 and all(is_number(v) and math.isfinite(v) for v in value)
    if not sound or not least <= value[0] <= value[1] <= most or (above and value[0] == least):
        lower = "" if least == -math.inf else f"{least:g} {'<' if above else '≤'} "
        upper = "" if most == math.inf else f" ≤ {most:g}"
        raise InvalidArgument(f"{op}: {name} must be (low, high) with {lower}low ≤ high{upper}")


def check_spread(op: object, name: str, value: Any, *, least: float = -math.inf, most: float = math.inf) -> None:
    """`value` is a number from 0 on, or a range."""
    if not isinstance(value, tuple) and not (is_number(value) and 0 <= value < math.inf):
        raise InvalidArgument(f"{op}: {name} must be a number of at least 0 or (low, high)")
    if isinstance(value, tuple):
        check_range(op, name, value, least=least, most=most)


def check_fill(op: object, fill: Any) -> None:
    levels = fill if isinstance(fill, tuple) and len(fill) == 3 else (fill,)
    if not all(is_int(level) and 0 <= level <= 255 for level in levels):
        raise InvalidArgument(f"{op}: fill must be a level from 0 to 255 or (red, green, blue)")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
