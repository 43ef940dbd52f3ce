"""The frame of a page: one HTML file without a script that loads nothing, light or dark as the reader's system is, for phones too."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from importlib import resources

from dataplane.page.markup import Markup, element, join

__all__ = ["card", "code", "data_uri", "details", "document", "section", "table", "tiles"]


def document(title: str, *children: Markup, style: str = "") -> str:
    """The whole page. `style` is appended to the style sheet that all pages share."""
    shared = resources.files("dataplane.page").joinpath("page.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(shared + style)),
    )
    return "<!doctype html>\n" + element("html", head, element("body", element("main", *children)), lang="en") + "\n"


def section(heading: str, note: str, *children: Markup) -> Markup:
    """A part of the page, with what to know about it below its heading."""
    return element("section", element("h2", heading), element("p", note, class_="note") if note else Markup(), *children)


def card(heading: str, *children: Markup) -> Markup:
    """A box with a heading."""
    return element("div", element("h3", heading), join(children), class_="card")


def tiles(entries: Sequence[tuple[str, str, str]]) -> Markup:
    """(value, what it is, style) in large letters, side by side."""
    boxes = (
        element("div", element("b", value), element("span", text), class_=f"card tile {kind}".strip()) for value, text, kind in entries
    )
    return element("div", *boxes, class_="tiles")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int, name: str) -> Markup:
    """A table whose last `numbers` columns are numbers. One that is too wide scrolls in its own box, also from the keyboard."""
    first = len(columns) - numbers

    def cells(tag: str, row: Sequence[str]) -> list[Markup]:
        return [element(tag, cell, class_="number" if place >= first else None) for place, cell in enumerate(row)]

    head = element("thead", element("tr", *cells("th", columns)))
    body = element("tbody", *(element("tr", *cells("td", row)) for row in rows))
    return element("div", element("table", head, body), class_="scroll", tabindex=0, role="region", aria_label=name)


def details(summary: str, *children: Markup) -> Markup:
    """What is shown when somebody asks for it, by pointer or by keyboard."""
    return element("details", element("summary", summary), *children)


def code(text: str) -> Markup:
    """Commands that break between words only, not at hyphens, and can still be copied."""
    words = (element("span", word) if word.strip() else word for word in re.split(r"(\s+)", text))
    return element("pre", element("code", *words))


def data_uri(data: bytes, kind: str) -> str:
    """An address that holds what it leads to: `data` of the media type `kind`."""
    return f"data:{kind};base64," + base64.b64encode(data).decode()
