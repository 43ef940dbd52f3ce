"""Paths inside a store: relative, of plain segments, so that none can leave the store's root."""

from __future__ import annotations

from dataplane.errors import InvalidArgument

__all__ = ["check_path"]


def check_path(path: str) -> str:
    """`path` itself. Raises `InvalidArgument` for absolute paths, empty or dot segments, and control characters."""
    if not path or any(segment in {"", ".", ".."} for segment in path.split("/")) or any(ord(c) < 32 for c in path):
        raise InvalidArgument(f"not a path inside a store: {path!r}; allowed are plain segments joined by '/', as in 'objects/ab/cd.tar'")
    return path
