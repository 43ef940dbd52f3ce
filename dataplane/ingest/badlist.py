"""The list of bad sources that a commit carries: the first thousand in the commit itself, all of them in an object where there are more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dataplane.errors import CorruptObject
from dataplane.ingest.options import Bad
from dataplane.objects import Objects
from dataplane.refs import ref_from_json, ref_to_json

__all__ = ["from_commit", "to_commit"]

_IN_COMMIT: Final = 1000


def to_commit(objects: Objects, bad: Sequence[Bad]) -> dict[str, Any]:
    """The form that bad sources have in a commit. A long list is stored as an object."""
    rows = [item.to_json() for item in bad]
    body: dict[str, Any] = {"count": len(rows), "samples": rows[:_IN_COMMIT]}
    if len(rows) > _IN_COMMIT:
        body["report"] = ref_to_json(objects.put(json.dumps(rows, ensure_ascii=False).encode(), suffix=".json"))
    return body


def from_commit(objects: Objects, body: Mapping[str, Any]) -> dict[str, Bad]:
    """The inverse of `to_commit`, by source."""
    try:
        rows = json.loads(bytes(objects.get(ref_from_json(body["report"])))) if "report" in body else body.get("samples", ())
        return {row["source"]: Bad(row["source"], row["reason"], row.get("etag")) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptObject(f"not a list of bad sources: {error}") from error
