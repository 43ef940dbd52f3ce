"""`clone`: a new dataset that shares everything with a version of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dataplane.catalog import Change, Version, check_name
from dataplane.errors import AlreadyExists
from dataplane.lake import Lake
from dataplane.versions.view import commit, find, origin, same_state

__all__ = ["CloneResult", "clone"]


@dataclass(frozen=True, slots=True)
class CloneResult:
    """What `clone` made. `parent` is the version whose objects it shares; `committed` is False where the same clone was there already."""

    name: str
    version: int
    parent: str
    samples: int
    committed: bool

    def to_json(self) -> dict[str, Any]:
        """What `dataplane clone --json` prints."""
        return {"name": self.name, "version": self.version, "parent": self.parent, "samples": self.samples, "committed": self.committed}


def clone(lake: Lake, spec: str, name: str) -> CloneResult:
    """Make the dataset `name`, whose first version is the version `spec` (`photos`, `photos@7`, `photos@TAG`) of the same lake.

    It costs one commit, whatever the size: no object is read or written. From then on the two go their own ways. Cloned again under the
    same name, nothing happens. Raises `AlreadyExists` where the name belongs to anything else, `NotFound` where there is no such version.
    """
    check_name(name)
    source = find(lake, spec)
    change = Change(
        "clone",
        origin(source),
        source.schema,
        source.parts,
        source.splits,
        source.bad,
        parents=(str(source),),
        counts={"added": source.samples},
    )

    def make(newest: Version | None) -> Change | None:
        if newest is None:
            return change
        if newest.lineage["operation"] == "clone" and newest.lineage["parameters"] == change.parameters and same_state(newest, change):
            return None
        raise AlreadyExists(
            f"{name!r} is there already: it is {newest} ({newest.lineage['operation']}), no clone of {source}; choose another name"
        )

    done = commit(lake, name, make)
    return CloneResult(name, done.version.number, str(source), done.version.samples, done.committed)
