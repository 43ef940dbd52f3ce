"""`lineage`: where a version comes from, over all versions that it was made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dataplane.catalog import parse_spec
from dataplane.errors import CorruptObject, InvalidArgument, NotFound
from dataplane.lake import Lake
from dataplane.log import Entry, Log
from dataplane.versions.view import find

__all__ = ["Ancestor", "lineage"]


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A version in a lineage. `gone`: it was expired, or its dataset removed; what its commit says is known all the same, unless the
    commit itself cannot be read, then `operation` is None."""

    version: str
    operation: str | None = None
    parents: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    tool: str | None = None
    created: datetime | None = None
    samples: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict, hash=False)
    gone: bool = False

    @property
    def source(self) -> str | None:
        """What its samples were taken from: a folder, a URL, a version."""
        found = self.parameters.get("source")
        return None if found is None else str(found)

    def to_json(self) -> dict[str, Any]:
        """An element of what `dataplane lineage --json` prints."""
        return {
            "version": self.version,
            "operation": self.operation,
            "parents": list(self.parents),
            "source": self.source,
            "parameters": dict(self.parameters),
            "tool": self.tool,
            "created": self.created.isoformat() if self.created else None,
            "samples": self.samples,
            "counts": dict(self.counts),
            "gone": self.gone,
        }


def lineage(lake: Lake, spec: str, *, limit: int = 1000) -> list[Ancestor]:
    """The version `spec` and every version that it was made of, nearest first, each once: over ingests, clones, appends, views and splits.

    At most `limit` versions; a parent that is then not in the list was not looked at. Raises `NotFound` for `spec` itself only.
    """
    if limit < 1:
        raise InvalidArgument(f"limit is {limit}; it must be 1 or more")
    first = str(find(lake, spec))
    found: list[Ancestor] = []
    seen, todo, logs = {first}, deque([first]), _Logs(lake)
    while todo and len(found) < limit:
        ancestor = logs.ancestor(todo.popleft())
        found.append(ancestor)
        for parent in ancestor.parents:
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)
    return found


class _Logs:
    """The logs of datasets, and which of their versions are there: one request a version, after a few a dataset."""

    def __init__(self, lake: Lake) -> None:
        self._catalog = lake.catalog
        self._logs: dict[str, tuple[Log, frozenset[int]]] = {}

    def ancestor(self, version: str) -> Ancestor:
        name, which = parse_spec(version)
        log, there = self._log(name)
        number = int(which or 0)
        try:
            return _ancestor(version, log.read(number), gone=number not in there)
        except (NotFound, CorruptObject):
            return Ancestor(version, gone=True)

    def _log(self, name: str) -> tuple[Log, frozenset[int]]:
        if name not in self._logs:
            try:
                there = frozenset(self._catalog.numbers(name))
            except NotFound:
                there = frozenset()
            self._logs[name] = self._catalog.log(name), there
        return self._logs[name]


def _ancestor(version: str, entry: Entry, *, gone: bool) -> Ancestor:
    body = entry.body
    parents: Sequence[str] = body.get("parents", ())
    samples = sum(count["samples"] for count in body.get("splits", {}).values())
    return Ancestor(
        version,
        body.get("operation"),
        tuple(parents),
        body.get("parameters", {}),
        body.get("tool"),
        entry.created,
        samples,
        body.get("counts", {}),
        gone,
    )
