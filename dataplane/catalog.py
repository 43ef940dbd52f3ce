"""Datasets and their versions: the commit logs below `datasets/`, and tags.

`NAME@7` is version 7, `NAME@TAG` the version a tag names, `NAME` the newest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from typing import Any

from dataplane.errors import CorruptObject, InvalidArgument, NotFound
from dataplane.log import Entry, Log
from dataplane.manifest import Part
from dataplane.schema import Schema
from dataplane.store import Store

__all__ = ["Catalog", "Change", "SplitCount", "Version", "check_name", "folders", "parse_spec"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")


def check_name(name: str, what: str = "dataset") -> str:
    """`name` itself. Raises `InvalidArgument` for what could not be a folder or would need quoting."""
    if not _NAME.match(name):
        raise InvalidArgument(f"{name!r} cannot name a {what}: letters, digits, '.', '_' and '-', starting with a letter or digit")
    return name


def folders(store: Store, prefix: str) -> list[str]:
    """What lies right below `prefix` and could be a name, sorted. Others put `.DS_Store` and the like beside."""
    found = (path.rstrip("/").rsplit("/", 1)[-1] for path in store.list_with_delimiter(prefix)["common_prefixes"])
    return sorted(name for name in found if _NAME.match(name))


def parse_spec(spec: str) -> tuple[str, str | None]:
    """`NAME`, `NAME@7` or `NAME@TAG` → the name and what follows the `@`."""
    name, at, which = spec.partition("@")
    if at and not which:
        raise InvalidArgument(f"{spec!r} names no version; write {name}, {name}@7 or {name}@TAG")
    return check_name(name), which or None


@dataclass(frozen=True, slots=True)
class SplitCount:
    """What a split of a version adds up to."""

    samples: int
    shards: int
    bytes: int

    def to_json(self) -> dict[str, int]:
        """The form a count has in a commit."""
        return {"samples": self.samples, "shards": self.shards, "bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit makes the newest state: all of it, not the difference."""

    operation: str
    parameters: Mapping[str, Any]
    schema: Schema
    parts: tuple[Part, ...]
    splits: Mapping[str, SplitCount]
    bad: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable state of a dataset."""

    name: str
    number: int
    id: str
    created: datetime
    schema: Schema
    parts: tuple[Part, ...]
    splits: Mapping[str, SplitCount]
    lineage: Mapping[str, Any]
    bad: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"

    @property
    def samples(self) -> int:
        """Samples of all splits."""
        return sum(count.samples for count in self.splits.values())

    @property
    def bytes(self) -> int:
        """Bytes of the fields of all samples."""
        return sum(count.bytes for count in self.splits.values())


class Catalog:
    """The datasets of the lake in `store`. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def names(self) -> list[str]:
        """All datasets that have a version, sorted."""
        return [name for name in folders(self.store, "datasets") if self.log(name).newest()]

    def log(self, name: str) -> Log:
        """The commits of a dataset."""
        return Log(self.store, f"datasets/{check_name(name)}/log")

    def version(self, spec: str) -> Version:
        """The version that `NAME[@NUMBER|@TAG]` names. Raises `NotFound`, saying what there is."""
        name, _ = parse_spec(spec)
        return _version(name, self.log(name).read(self.number(spec)))

    def number(self, spec: str) -> int:
        """The number of the version that `spec` names, without reading its commit. Raises `NotFound`."""
        name, which = parse_spec(spec)
        newest = self.log(name).newest()
        if not newest:
            have = ", ".join(self.names()) or "none yet"
            raise NotFound(f"{self.store.url} has no dataset {name!r}; it has: {have}")
        number = newest if which is None else int(which) if which.isdecimal() else self._tagged(name, which)
        if not 1 <= number <= newest:
            raise NotFound(f"{name} has no version {number}; it has 1 to {newest}")
        return number

    def tag(self, name: str, tag: str, number: int) -> None:
        """Make `NAME@TAG` mean version `number` from now on."""
        if tag.isdecimal():
            raise InvalidArgument(f"{tag!r} cannot be a tag: it would read as a version number")
        self.number(f"{name}@{number}")
        self.tag_log(name, tag).append(lambda _: {"version": number})

    def tags(self, name: str) -> list[str]:
        """The tags of a dataset, sorted."""
        return [tag for tag in folders(self.store, f"datasets/{check_name(name)}/tags") if self.tag_log(name, tag).newest()]

    def tag_log(self, name: str, tag: str) -> Log:
        """The commits of a tag: the newest says which version it means."""
        return Log(self.store, f"datasets/{check_name(name)}/tags/{check_name(tag, 'tag')}")

    def commit(self, name: str, make: Callable[[Version | None], Change | None]) -> Version | None:
        """Commit what `make(newest version)` returns; it is called again when another commit comes first (see `Log.append`)."""

        def body(tip: Entry | None) -> Mapping[str, Any] | None:
            newest = _version(name, tip) if tip else None
            change = make(newest)
            return None if change is None else _body(change, parent=newest)

        entry = self.log(name).append(body)
        return None if entry is None else _version(name, entry)

    def _tagged(self, name: str, tag: str) -> int:
        entry = self.tag_log(name, tag).last()
        if entry is None:
            raise NotFound(f"{name} has no tag {tag!r}; it has: {', '.join(self.tags(name)) or 'none'}")
        return int(entry.body["version"])


def _body(change: Change, *, parent: Version | None) -> dict[str, Any]:
    return {
        "operation": change.operation,
        "parameters": dict(change.parameters),
        "parents": [f"{parent}"] if parent else [],
        "tool": f"dataplane {metadata.version('dataplane')}",
        "schema": change.schema.to_json(),
        "parts": [part.to_json() for part in change.parts],
        "splits": {name: count.to_json() for name, count in sorted(change.splits.items())},
        "bad": dict(change.bad),
    }


def _version(name: str, entry: Entry) -> Version:
    body = entry.body
    try:
        return Version(
            name,
            entry.number,
            entry.id,
            entry.created,
            Schema.from_json(body["schema"]),
            tuple(Part.from_json(part) for part in body["parts"]),
            {split: SplitCount(**count) for split, count in body["splits"].items()},
            {key: body[key] for key in ("operation", "parameters", "parents", "tool")},
            body["bad"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptObject(f"{name}@{entry.number} is no commit of a dataset ({error!r}); something else wrote to its log") from error
