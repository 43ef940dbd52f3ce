"""Uploads in parts that killed writers never ended. They are no objects, so no listing shows them, and object stores charge for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from dataplane.errors import DataplaneError
from dataplane.refs import digest_of_path
from dataplane.store import Store, Upload, Uploads

__all__ = ["Unfinished", "abort_unfinished"]


@dataclass(slots=True)
class Unfinished:
    """The uploads that were aborted, or would be, and the bytes of their parts. `unknown`: why there may be more of them."""

    count: int = 0
    bytes: int = 0
    unknown: str | None = None


def abort_unfinished(store: Store, old: Callable[[datetime], bool], *, dry_run: bool) -> Unfinished:
    """Abort the uploads of objects to which nothing was added since a time that is `old`. A writer at work adds a part every few seconds.

    Not every key may do this, and not every server can: then the result says so, and nothing is raised. A store that does not tell of
    uploads, or keeps none, has none here.
    """
    found = Unfinished()
    if not isinstance(store, Uploads):
        return found
    try:
        for upload in [upload for upload in store.uploads("objects") if _ours(upload) and old(upload.touched)]:
            if not dry_run:
                store.abort(upload)
            found.count, found.bytes = found.count + 1, found.bytes + upload.bytes
    except DataplaneError as error:
        found.unknown = str(error)
    return found


def _ours(upload: Upload) -> bool:
    """It is to become an object of a lake; nothing else that a lake writes is large enough to come in parts."""
    return digest_of_path(upload.path, upload.bytes) is not None
