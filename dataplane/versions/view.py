"""Views: versions that select samples of shards that are there, and commits that share objects with other versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dataplane.catalog import Change, Version, check_name, parse_spec
from dataplane.dataset import Dataset
from dataplane.errors import AlreadyExists, CommitConflict, InvalidArgument
from dataplane.lake import Lake
from dataplane.parts import PartShards, split_counts

__all__ = ["Committed", "commit", "commit_view", "find", "origin", "same_state"]


@dataclass(frozen=True, slots=True)
class Committed:
    """The newest version of a dataset, and whether this call made it."""

    version: Version
    committed: bool


def find(lake: Lake, spec: str) -> Version:
    """The version of this lake that `spec` names. Raises `InvalidArgument` for one that lies elsewhere, and `NotFound`."""
    if "/" in spec or "\\" in spec:
        raise InvalidArgument(
            f"{spec!r} names no version of {lake.url}; write NAME, NAME@7 or NAME@TAG. Objects are shared within one lake only"
        )
    return lake.catalog.version(spec)


def origin(version: Version) -> dict[str, Any]:
    """What the parameters of a commit say of the version it was made from."""
    return {"source": str(version), "source_id": version.id}


def same_state(version: Version, change: Change) -> bool:
    """The version is what the change would make it."""
    return version.parts == change.parts and version.schema == change.schema and dict(version.splits) == dict(change.splits)


def commit(lake: Lake, name: str, make: Callable[[Version | None], Change | None]) -> Committed:
    """Commit what `make(newest version)` returns, as `Catalog.commit` does it; None where that version has it all."""
    newest: Version | None = None

    def heard(version: Version | None) -> Change | None:
        nonlocal newest
        newest = version
        return make(version)

    made = lake.catalog.commit(name, heard)
    version = made or newest
    if version is None:
        raise InvalidArgument("nothing was made, and nothing is there")
    return Committed(version, made is not None)


def commit_view(
    lake: Lake,
    spec: str,
    to: str | None,
    *,
    operation: str,
    parameters: Mapping[str, Any],
    build: Callable[[Dataset], Sequence[PartShards]],
) -> Committed:
    """Commit what `build` makes of the version `spec`, as dataset `to`, or as the next version of its own dataset.

    A `to` that is there must be an earlier view of the same dataset by the same operation, which this one takes the place of. Where it is
    that already, nothing is committed. In place it must be the newest version; a plain name follows commits that come first.
    """
    source = find(lake, spec)
    name = check_name(to) if to is not None else source.name
    built: dict[int, Sequence[PartShards]] = {}

    def make(newest: Version | None) -> Change | None:
        nonlocal source
        if newest is not None and name == source.name:
            source = _followed(spec, source, newest)
        elif newest is not None:
            _check_replaces(newest, source, operation)
        if source.number not in built:
            built[source.number] = build(Dataset(lake.store, source))
        parts = built[source.number]
        change = Change(
            operation,
            {**origin(source), **parameters},
            source.schema,
            tuple(part for part, _ in parts),
            split_counts(parts),
            source.bad if name == source.name else {},
            parents=(str(source),),
        )
        return None if newest is not None and same_state(newest, change) else change

    return commit(lake, name, make)


def _followed(spec: str, source: Version, newest: Version) -> Version:
    """The version to work on in place: the newest one."""
    if newest.number == source.number or parse_spec(spec)[1] is None:
        return newest
    raise CommitConflict(
        f"{source} is not the newest version of {source.name}, which is {newest.number}: what came after it would be lost in the next one; "
        f"name {source.name}, or another dataset to put this in"
    )


def _check_replaces(newest: Version, source: Version, operation: str) -> None:
    before = newest.lineage["parameters"].get("source", "")
    if newest.lineage["operation"] != operation or str(before).partition("@")[0] != source.name:
        raise AlreadyExists(
            f"{newest.name!r} is there already, and no view of {source.name} that {operation!r} made: it is {newest} "
            f"({newest.lineage['operation']}); choose another name"
        )
