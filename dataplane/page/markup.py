"""HTML and SVG as values: text is escaped unless it is markup already, so a name can never become a tag."""

from __future__ import annotations

from html import escape
from typing import Final

__all__ = ["Markup", "element", "join"]

_VOID: Final = frozenset({"img", "meta"})


class Markup(str):
    """A string that is HTML. Everything else is text."""

    __slots__ = ()


def element(tag: str, /, *children: str, **attributes: object) -> Markup:
    """`<tag attributes>children</tag>`. Attribute names: `class_` is class, `stroke_width` is stroke-width; None leaves one out."""
    opening = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_text(value))}"' for name, value in attributes.items() if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{opening}>")
    return Markup(f"<{tag}{opening}>{join(children)}</{tag}>")


def join(parts: tuple[str, ...] | list[str]) -> Markup:
    """The parts one after another, those that are no markup escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def _text(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
