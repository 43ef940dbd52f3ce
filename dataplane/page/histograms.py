"""Counts as SVG: columns over a scale, cells over two, and the outline of a sound. Pure functions from numbers to markup.

As in `charts`, colours come from the page's classes, and every drawing has a title that is read aloud; parts tell their numbers when
pointed at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dataplane.page.charts import ticks
from dataplane.page.markup import Markup, element

__all__ = ["Column", "column_chart", "grid_chart", "outline_chart", "share_bar"]

WIDTH: Final = 440.0
HEIGHT: Final = 200.0
LEFT: Final = 54.0
RIGHT: Final = 10.0
TOP: Final = 10.0
BOTTOM: Final = 40.0
_AT_MOST: Final = 6  # labels below an axis
_CELL_LEAST: Final = 0.12  # how much of the colour a cell of one sample has


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a histogram: the scale's value at its left edge, and how many there are."""

    start: str
    stop: str
    count: int


def column_chart(columns: Sequence[Column], *, title: str, x_label: str, style: str = "s1") -> Markup:
    """Columns side by side, as high as their counts."""
    if not columns:
        return element("p", "There is nothing to count.", class_="empty")
    y_ticks = ticks(max(1, *(column.count for column in columns)), 4)
    room, base = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM
    width = room / len(columns)
    parts = _rows(y_ticks, lambda value: base - value / y_ticks[-1] * (base - TOP))
    for place, column in enumerate(columns):
        height = column.count / y_ticks[-1] * (base - TOP)
        tip = element("title", f"{column.start} to {column.stop}: {column.count:,}")
        gap = min(2.0, width * 0.1)
        left = LEFT + place * width
        parts.append(
            element("rect", x=left + gap / 2, y=base - height, width=max(width - gap, 0.2), height=height, rx=1.5, class_=f"fill {style}")
        )
        parts.append(element("rect", tip, x=left, y=TOP, width=width, height=base - TOP, class_="hover"))
    edges = [*(column.start for column in columns), columns[-1].stop]
    parts += _edge_names(edges, x_label, base)
    return _svg(title, parts, HEIGHT)


def grid_chart(
    cells: Mapping[tuple[int, int], int], x_edges: Sequence[str], y_edges: Sequence[str], *, title: str, x_label: str, y_label: str
) -> Markup:
    """`cells` by (x, y), each a place between neighbours of the edges; the more there are, the stronger its colour."""
    if not cells:
        return element("p", "There is nothing to count.", class_="empty")
    height = 320.0
    base, columns, rows = height - BOTTOM, len(x_edges) - 1, len(y_edges) - 1
    wide, high = (WIDTH - LEFT - RIGHT) / columns, (base - TOP) / rows
    most = max(cells.values())
    parts = [element("rect", x=LEFT, y=TOP, width=WIDTH - LEFT - RIGHT, height=base - TOP, class_="frame")]
    for (x, y), count in sorted(cells.items()):
        tip = element("title", f"{x_label} {x_edges[x]} to {x_edges[x + 1]}, {y_label} {y_edges[y]} to {y_edges[y + 1]}: {count:,}")
        strength = _CELL_LEAST + (1 - _CELL_LEAST) * (count / most) ** 0.5
        place = {"x": LEFT + x * wide + 0.5, "y": base - (y + 1) * high + 0.5, "width": wide - 1, "height": high - 1}
        parts.append(element("rect", tip, **place, class_="fill s1", fill_opacity=f"{strength:.2f}"))
    every = -(-rows // _AT_MOST)
    parts += [element("text", y_edges[row], x=LEFT - 7, y=base - row * high + 4, text_anchor="end") for row in range(0, rows + 1, every)]
    parts += _edge_names(x_edges, f"{x_label} across, {y_label} up", base)
    return _svg(title, parts, height)


def outline_chart(low: Sequence[float], high: Sequence[float], *, title: str, style: str = "s1") -> Markup:
    """The outline of a sound or of another long row of values: column by column from its lowest to its highest value, which lie in
    -1 … 1."""
    height, middle = 84.0, 42.0
    step = WIDTH / max(1, len(low))
    top = [f"{step * (place + 0.5):.1f} {middle - 40 * value:.1f}" for place, value in enumerate(high)]
    bottom = [f"{step * (place + 0.5):.1f} {middle - 40 * value:.1f}" for place, value in enumerate(low)]
    shape = "M" + "L".join([*top, *reversed(bottom)]) + "Z" if top else "M0 0"
    parts = [
        element("line", x1=0, x2=WIDTH, y1=middle, y2=middle, class_="grid"),
        element("path", d=shape, class_=f"outline {style}"),
    ]
    return element(
        "svg",
        element("title", title),
        *parts,
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        class_="chart",
        preserveAspectRatio="none",
    )


def share_bar(parts: Sequence[tuple[str, str, int]], *, most: int, title: str) -> Markup:
    """(name, style, count) behind one another in one bar, which is full at `most`."""
    width, height = 200.0, 14.0
    drawn, left = [], 0.0
    for name, style, count in parts:
        size = width * count / max(1, most)
        tip = element("title", f"{name}: {count:,}")
        drawn.append(element("rect", tip, x=f"{left:.2f}", y=0, width=f"{size:.2f}", height=height, class_=f"fill {style}"))
        left += size
    return element(
        "svg",
        element("title", title),
        *drawn,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        class_="chart share",
        preserveAspectRatio="none",
    )


def _svg(title: str, parts: Sequence[Markup], height: float) -> Markup:
    return element("svg", element("title", title), *parts, viewBox=f"0 0 {WIDTH:.0f} {height:.0f}", role="img", class_="chart")


def _rows(values: Sequence[float], place: Callable[[float], float]) -> list[Markup]:
    parts = []
    for value in values:
        y = place(value)
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid" if value else "axis"))
        if value == int(value):
            parts.append(element("text", f"{value:,.0f}", x=LEFT - 7, y=y + 4, text_anchor="end"))
    return parts


def _edge_names(edges: Sequence[str], label: str, base: float) -> list[Markup]:
    """Some of the edges below the axis: so many that they do not touch."""
    step = (WIDTH - LEFT - RIGHT) / (len(edges) - 1)
    every = -(-(len(edges) - 1) // _AT_MOST)
    parts = [
        element("text", edges[place], x=LEFT + place * step, y=base + 17, text_anchor="middle") for place in range(0, len(edges), every)
    ]
    parts.append(
        element(
            "text", label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 4 + base - (HEIGHT - BOTTOM), text_anchor="middle", class_="axis-name"
        )
    )
    return parts
