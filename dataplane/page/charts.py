"""Charts as SVG: pure functions from numbers to markup. Colours come from the page's classes, so they follow its light or dark mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dataplane.page.markup import Markup, element

__all__ = ["Band", "Line", "Span", "legend", "line_chart", "stacked_bar", "ticks"]

WIDTH: Final = 440.0
HEIGHT: Final = 226.0
LEFT: Final = 48.0
RIGHT: Final = 12.0
TOP: Final = 28.0
BOTTOM: Final = 40.0


@dataclass(frozen=True, slots=True)
class Line:
    """A named series of (x, y) in rising x. `style` is a class of the page's style sheet, which gives the colour."""

    name: str
    style: str
    points: tuple[tuple[float, float], ...]
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    """A marked stretch of the x axis, with a word at each of its ends."""

    start: float
    stop: float
    at_start: str
    at_stop: str


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a stacked bar."""

    name: str
    style: str
    value: float


@dataclass(frozen=True, slots=True)
class _Axes:
    """From data to the drawing's coordinates. Both axes start at 0."""

    x_end: float
    y_end: float

    def x(self, value: float) -> float:
        return LEFT + value / self.x_end * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - value / self.y_end * (HEIGHT - BOTTOM - TOP)


def ticks(end: float, count: int) -> tuple[float, ...]:
    """At most `count` round steps (1, 2 or 5 times a power of ten) from 0 to at least `end`, which is above 0."""
    power = 10.0 ** math.floor(math.log10(end / count))
    step = next(power * factor for factor in (1, 2, 5, 10) if end / (power * factor) <= count)
    return tuple(round(number * step, 10) for number in range(math.ceil(end / step - 1e-9) + 1))


def line_chart(
    lines: Sequence[Line], *, title: str, x_label: str, x_end: float, y_format: Callable[[float], str], y_least: float, band: Band | None
) -> Markup:
    """Lines over an x axis from 0 to `x_end`; the y axis starts at 0 and reaches at least `y_least`. Points tell their values when
    pointed at."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return element("p", "Nothing was recorded.", class_="empty")
    y_ticks = ticks(max([y_least, *(y for line in drawn for _, y in line.points)]), 4)
    axes = _Axes(x_end, y_ticks[-1])
    return element(
        "svg",
        element("title", title),
        *_grid(axes, y_ticks, y_format, x_label),
        *([] if band is None else _band(axes, band)),
        *(part for line in drawn for part in _line(axes, line, x_label, y_format)),
        viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
        role="img",
        class_="chart",
    )


def stacked_bar(spans: Sequence[Span], *, title: str, value_format: Callable[[float], str]) -> Markup:
    """One bar whose parts are as long as their values, with a gap between them."""
    total = sum(span.value for span in spans) or 1.0
    height, gap = 22.0, 2.0
    room = WIDTH - gap * (len(spans) - 1)
    parts: list[Markup] = []
    left = 0.0
    for span in spans:
        width = room * span.value / total
        tip = element("title", f"{span.name}: {value_format(span.value)}, {span.value / total:.0%}")
        parts.append(element("rect", tip, x=left, y=0, width=max(width, 0.5), height=height, rx=3, class_=f"fill {span.style}"))
        left += width + gap
    return element("svg", element("title", title), *parts, viewBox=f"0 0 {WIDTH:.0f} {height:.0f}", role="img", class_="chart bar")


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """(name, style) pairs as a list with a key of the colour before each name."""
    items = (element("li", element("span", class_=f"key {style}"), name) for name, style in entries)
    return element("ul", *items, class_="legend")


def _grid(axes: _Axes, y_ticks: Sequence[float], y_format: Callable[[float], str], x_label: str) -> list[Markup]:
    base = HEIGHT - BOTTOM
    parts = []
    for value in y_ticks:
        y = axes.y(value)
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid" if value else "axis"))
        parts.append(element("text", y_format(value), x=LEFT - 7, y=y + 4, text_anchor="end"))
    parts += [
        element("text", f"{value:,.10g}", x=axes.x(value), y=base + 17, text_anchor="middle")
        for value in ticks(axes.x_end, 6)
        if value <= axes.x_end
    ]
    parts.append(element("text", x_label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 4, text_anchor="middle", class_="axis-name"))
    return parts


def _band(axes: _Axes, band: Band) -> list[Markup]:
    left, right, base = axes.x(band.start), axes.x(band.stop), HEIGHT - BOTTOM
    return [
        element("rect", x=left, y=TOP, width=max(right - left, 1.0), height=base - TOP, class_="band"),
        element("line", x1=left, x2=left, y1=TOP, y2=base, class_="mark resumed"),
        element("line", x1=right, x2=right, y1=TOP, y2=base, class_="mark killed"),
        element("text", band.at_start, x=left - 2, y=TOP - 13, text_anchor="end", class_="mark-name"),
        element("text", band.at_stop, x=right + 2, y=TOP - 13, text_anchor="start", class_="mark-name"),
    ]


def _line(axes: _Axes, line: Line, x_label: str, y_format: Callable[[float], str]) -> list[Markup]:
    path = "M" + "L".join(f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in line.points)
    parts = [element("path", d=path, class_=f"line {line.style}")]
    for x, y in line.points:
        tip = element("title", f"{line.name}, {x_label} {x:,.10g}: {y_format(y)}")
        at = {"cx": axes.x(x), "cy": axes.y(y)}
        if line.dots:
            parts.append(element("circle", **at, r=3.5, class_=f"dot {line.style}"))
        parts.append(element("circle", tip, **at, r=7, class_="hover"))
    return parts
