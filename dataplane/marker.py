"""`lake.json`, the file that makes a folder or a bucket a lake: the format's version, the lake's id, and when it was made.

It is canonical JSON with the digest of its other entries under `blake3`. The first lakes have none; they stay readable.
"""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from blake3 import blake3

from dataplane.canonical import canonical_json
from dataplane.errors import CorruptObject, DataplaneError, FormatTooNew
from dataplane.store import Store

__all__ = ["MARKER", "lake_id", "marker_problem", "new_marker"]

MARKER: Final = "lake.json"
_FORMAT: Final = 1
_ID = re.compile(r"[0-9a-f]{32}\Z")
_NAMES: Final = {"created", "format", "id"}


def new_marker() -> bytes:
    """The file of a lake that is made now, with an id of its own."""
    marker = {"format": _FORMAT, "id": uuid.uuid4().hex, "created": datetime.now(UTC).isoformat()}
    return canonical_json({**marker, "blake3": _digest(marker)})


def lake_id(store: Store) -> str:
    """The id of the lake in `store`. Raises `NotFound` where there is none, `CorruptObject` or `FormatTooNew`."""
    return str(_read(store)[1]["id"])


def marker_problem(store: Store) -> str | None:
    """What is wrong with the lake's marker, None where nothing is. Without a digest, only its form can be looked at."""
    try:
        raw, marker = _read(store)
    except DataplaneError as error:
        return str(error)
    wrong = _oddity(raw, marker)
    return None if wrong is None else _damaged(store, wrong)


def _read(store: Store) -> tuple[bytes, dict[str, Any]]:
    """The file and what it says, as far as a lake needs it to be opened."""
    raw = bytes(memoryview(store.get(MARKER).buffer()))
    try:
        marker: dict[str, Any] = json.loads(raw)
        # The digest comes first, so that a damaged format number is damage.
        if "blake3" in marker and (canonical_json(marker) != raw or marker["blake3"] != _digest(marker)):
            raise CorruptObject(_damaged(store, "its digest does not match"))
        if marker["format"] > _FORMAT:
            raise FormatTooNew(f"{store.url} is a lake of format {marker['format']}; this release reads up to {_FORMAT}: upgrade dataplane")
        marker["id"]
    except (CorruptObject, FormatTooNew):
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptObject(_damaged(store, "it should hold the lake's format and id as JSON")) from error
    return raw, marker


def _oddity(raw: bytes, marker: dict[str, Any]) -> str | None:
    """How it looks like no marker that was ever written."""
    if marker.keys() - {"blake3"} != _NAMES:
        return f"it has {', '.join(sorted(marker))}; it should have {', '.join(sorted(_NAMES))}"
    if canonical_json(marker) != raw:
        return "it is not in canonical form"
    if type(marker["format"]) is not int or marker["format"] < 1:
        return f"its format is {marker['format']!r}"
    if not _ID.match(str(marker["id"])):
        return f"its id is {marker['id']!r}; an id has 32 hexadecimal digits"
    return None if _is_time(marker["created"]) else f"{marker['created']!r} is no time"


def _is_time(value: object) -> bool:
    try:
        return datetime.fromisoformat(str(value)).tzinfo is not None
    except ValueError:
        return False


def _digest(marker: dict[str, Any]) -> str:
    return blake3(canonical_json({name: value for name, value in marker.items() if name != "blake3"})).hexdigest()


def _damaged(store: Store, why: str) -> str:
    return f"{store.url}/{MARKER} is damaged ({why}); put the file back from a copy of the lake"
