"""`tag`: a name for a version, that can be moved to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dataplane.lake import Lake
from dataplane.versions.view import find

__all__ = ["TagResult", "tag", "tags"]


@dataclass(frozen=True, slots=True)
class TagResult:
    """`name@tag` means `version` from now on."""

    name: str
    tag: str
    version: int

    def to_json(self) -> dict[str, Any]:
        """What `dataplane tag --json` prints."""
        return {"name": self.name, "tag": self.tag, "version": self.version}


def tag(lake: Lake, spec: str, tag: str) -> TagResult:
    """Make `NAME@TAG` mean the version `spec`. A tag that is there moves. Raises `NotFound`; `InvalidArgument` for what cannot be a tag."""
    version = find(lake, spec)
    lake.catalog.tag(version.name, tag, version.number)
    return TagResult(version.name, tag, version.number)


def tags(lake: Lake, name: str) -> dict[str, int]:
    """The tags of a dataset and the number of the version that each means, which may have been expired since. Raises `NotFound`."""
    lake.catalog.numbers(find(lake, name).name)
    return {each: lake.catalog.tagged(name, each) for each in lake.catalog.tags(name)}
