"""Paths inside a store: relative, of plain segments, so that none can leave the store's root."""

from __future__ import annotations

import re
from typing import Final

from dataplane.errors import InvalidArgument

__all__ = ["check_path"]

_PATH: Final = re.compile(r"(?:(?!\.{1,2}(?:/|\Z))[^/\x00-\x1f]+(?:/(?!\Z)|\Z))+\Z")


def check_path(path: str) -> str:
    """`path` itself. Raises `InvalidArgument` for absolute paths, empty or dot segments, and control characters."""
    if _PATH.match(path) is None:
        raise InvalidArgument(f"not a path inside a store: {path!r}; allowed are plain segments joined by '/', as in 'objects/ab/cd.tar'")
    return path
