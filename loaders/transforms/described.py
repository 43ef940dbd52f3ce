"""Transforms as JSON values, readable by releases older and newer than the one that wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any, Final

from dataplane.errors import InvalidArgument

__all__ = ["ADDED", "described", "read"]

ADDED: Final = {"added": True}
"""Metadata of a field that a transform got in a later release. Its default is what the transform did before, and so never changes.

It is described only where it differs from that, so that older releases read what they can do, and equal transforms look equal.
"""


def described(transform: Any) -> dict[str, Any]:
    """A frozen transform as JSON values."""
    values = {f.name: getattr(transform, f.name) for f in fields(transform) if _is_told(f, transform)}
    return {"op": type(transform).__name__} | {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def read(data: Mapping[str, Any], kinds: Mapping[str, type[Any]]) -> Any:
    """The transform that `described` gave, of one of the `kinds`."""
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items() if name != "op"}
    kind = kinds.get(str(data.get("op")))
    if kind is None:
        raise InvalidArgument(f"unknown transform {data.get('op')!r}; known are {', '.join(kinds)}; was it written by a newer release?")
    try:
        return kind(**values)
    except TypeError as error:
        known = ", ".join(f.name for f in fields(kind))
        raise InvalidArgument(f"{data['op']} cannot be made of {values}: {error}; its parameters are {known or 'none'}") from error


def _is_told(f: Field[Any], transform: Any) -> bool:
    return not f.metadata.get("added") or getattr(transform, f.name) != f.default
