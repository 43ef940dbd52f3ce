"""Listings of the past: what a store whose listings lag behind its writes would give."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dataplane.store.protocol import Store

if TYPE_CHECKING:
    from obspec import ListResult, ObjectMeta

__all__ = ["Past"]


class Past:
    """Remembers what the objects were before the last `writes` writes; None for all of them. Thread-safe."""

    def __init__(self, writes: int | None) -> None:
        self._writes = writes
        self._before: list[tuple[str, ObjectMeta | None]] = []
        self._lock = threading.Lock()

    def note(self, path: str, meta: ObjectMeta | None) -> None:
        """`path` is about to be written or deleted; until now it is `meta`, or nothing."""
        with self._lock:
            self._before.append((path, meta))

    def list(self, store: Store, prefix: str | None, offset: str | None) -> Sequence[ObjectMeta]:
        """What `store.list` would have given then, as one chunk."""
        found = {meta["path"]: meta for chunk in store.list(prefix, offset=offset) for meta in chunk}
        below = f"{prefix.rstrip('/')}/" if prefix else ""
        with self._lock:
            unknown = self._before if self._writes is None else self._before[max(0, len(self._before) - self._writes) :]
        for path, meta in reversed(unknown):
            found.pop(path, None)
            if meta and path.startswith(below) and (offset is None or path > offset):
                found[path] = meta
        return [found[path] for path in sorted(found)]

    def list_with_delimiter(self, store: Store, prefix: str | None) -> ListResult[Sequence[ObjectMeta]]:
        """What `store.list_with_delimiter` would have given then."""
        below = f"{prefix.rstrip('/')}/" if prefix else ""
        folders: set[str] = set()
        objects: list[ObjectMeta] = []
        for meta in self.list(store, prefix, None):
            first, slash, _ = meta["path"][len(below) :].partition("/")
            if slash:
                folders.add(below + first)
            else:
                objects.append(meta)
        return {"common_prefixes": sorted(folders), "objects": objects}
