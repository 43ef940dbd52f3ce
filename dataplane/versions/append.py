"""`append`: the samples of another version, added to a dataset. Shards are shared, nothing is copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from dataplane.catalog import Change, Part, SplitCount, Version, check_name
from dataplane.dataset import Dataset
from dataplane.errors import AlreadyExists, InvalidArgument
from dataplane.lake import Lake
from dataplane.parts import PartShards, added, edited, merged, open_parts, split_counts
from dataplane.schema import Schema
from dataplane.versions.pairs import CHANGES, sides
from dataplane.versions.query import database
from dataplane.versions.view import commit, find, origin

__all__ = ["AppendResult", "OnConflict", "append", "joined_schema"]

OnConflict = Literal["error", "skip", "replace"]

_NAMED: Final = 5  # keys in a message
_SHOWN: Final = 6  # classes in a message


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What `append` has come to. `skipped` samples were there already, the same or (`on_conflict="skip"`) others under their keys."""

    name: str
    version: int
    samples: int
    added: int
    skipped: int
    replaced: int
    committed: bool

    def to_json(self) -> dict[str, Any]:
        """What `dataplane append --json` prints."""
        names = ("name", "version", "samples", "added", "skipped", "replaced", "committed")
        return {name: getattr(self, name) for name in names}


def append(lake: Lake, name: str, spec: str, *, on_conflict: OnConflict = "error", new_keys: bool = False) -> AppendResult:
    """Add the samples of the version `spec` to the newest version of `name`, which is made if it is missing. Splits keep their names.

    A sample that is there already, with the same content, label and split, is left as it is: so the same call again changes nothing.
    Another one under the same key is a conflict: an error, or with `on_conflict` the old ("skip") or the new one ("replace") stays.

    Reads the keys of both versions, in columns, except of parts that they share. With `new_keys` no key is read, and it costs one
    commit whatever the sizes: for a caller who knows that no key is in both, since else the version has two samples of that key. What
    the newest version was made of by just this call, and parts that it has, are not added again.

    Raises `AlreadyExists` for keys in conflict, `InvalidArgument` where fields or class ids do not fit together, `NotFound`.
    """
    check_name(name)
    if on_conflict not in get_args(OnConflict):
        raise InvalidArgument(f"on_conflict is {on_conflict!r}; it may be {', '.join(get_args(OnConflict))}")
    if new_keys and on_conflict != "error":
        raise InvalidArgument(f"on_conflict={on_conflict!r} says what to do about equal keys; with new_keys none are looked for")
    source = Dataset(lake.store, find(lake, spec))
    edit = _Edit()

    def make(newest: Version | None) -> Change | None:
        nonlocal edit
        parameters = {**origin(source.version), "on_conflict": on_conflict, **({"new_keys": True} if new_keys else {})}
        schema = source.schema
        bad: Mapping[str, Any] = {}
        if newest is None:
            edit = _Edit(source.version.parts, source.version.splits, source.version.samples)
        else:
            schema, bad = joined_schema(newest.schema, source.schema, name, str(source)), newest.bad
            if new_keys:
                edit = _extended(lake, newest, source.version, parameters)
            else:
                edit = _compare(lake, Dataset(lake.store, newest), source, on_conflict)
            if not edit.added and not edit.replaced:
                return None
        return Change(
            "append",
            parameters,
            schema,
            tuple(merged(lake.objects, edit.parts)),
            edit.splits,
            bad,
            parents=(str(source),),
            counts={"added": edit.added, "skipped": edit.skipped, "replaced": edit.replaced},
        )

    done = commit(lake, name, make)
    return AppendResult(name, done.version.number, done.version.samples, edit.added, edit.skipped, edit.replaced, done.committed)


@dataclass(frozen=True, slots=True)
class _Edit:
    """The parts and counts of the next version, and what that changes."""

    parts: Sequence[Part] = ()
    splits: Mapping[str, SplitCount] = field(default_factory=dict)
    added: int = 0
    skipped: int = 0
    replaced: int = 0


def _extended(lake: Lake, newest: Version, source: Version, parameters: Mapping[str, Any]) -> _Edit:
    """All parts of both. Tables of shards are not opened, unless some of the parts are in both."""
    repeated = newest.lineage["operation"] == "append" and newest.lineage["parameters"] == parameters
    coming = [] if repeated else [part for part in source.parts if part not in set(newest.parts)]
    counts = source.splits if len(coming) == len(source.parts) else split_counts(open_parts(lake.objects, coming))
    new = sum(part.samples for part in coming)
    return _Edit([*newest.parts, *coming], added(newest.splits, counts), new, source.samples - new)


def joined_schema(mine: Schema, theirs: Schema, name: str, spec: str) -> Schema:
    """What samples of both hold. Class ids lie in the shards: unless one list of classes begins with the other, `InvalidArgument`."""
    longer, shorter = (mine.classes, theirs.classes) if len(mine.classes) >= len(theirs.classes) else (theirs.classes, mine.classes)
    if longer[: len(shorter)] != shorter:
        at = next(i for i, (one, other) in enumerate(zip(longer, shorter, strict=False)) if one != other)
        raise InvalidArgument(
            f"{spec} cannot share its shards with {name}: class ids lie in the shards, and id {at} is {mine.classes[at]!r} in {name} "
            f"({_few(mine.classes)}) but {theirs.classes[at]!r} in {spec} ({_few(theirs.classes)}). Ingest the sources of {spec} into "
            f"{name} instead, which gives them its ids"
        )
    return replace(mine.merged(theirs.fields, ()), classes=longer)


def _few(classes: Sequence[str]) -> str:
    return ", ".join(classes[:_SHOWN]) + (" …" if len(classes) > _SHOWN else "")


def _compare(lake: Lake, mine: Dataset, theirs: Dataset, on_conflict: OnConflict) -> _Edit:
    """Join by key, and take out what is not to be in the next version."""
    objects = lake.objects
    here, new = sides(objects, mine, theirs)
    stream = here.stream()
    differs = " OR ".join(f"({sql})" for sql in CHANGES.values())
    with database(stream) as connection:
        connection.register("here", stream.reader)
        connection.register("new", new.table())
        connection.execute(
            "CREATE TEMP TABLE met AS SELECT b.key AS key, a.part AS part, a.shard AS shard, a.row AS row, b.part AS new_part, "
            f"b.shard AS new_shard, b.row AS new_row, NOT coalesce({differs}, false) AS same FROM here a JOIN new b ON a.key = b.key"
        )
        conflicts = int(connection.execute("SELECT count(*) FROM met WHERE NOT same").fetchone()[0])  # type: ignore[index]
        if conflicts and on_conflict == "error":
            few = [key for (key,) in connection.execute(f"SELECT key FROM met WHERE NOT same ORDER BY key LIMIT {_NAMED}").fetchall()]
            raise AlreadyExists(_conflict(mine, theirs, conflicts, few))
        met = connection.execute("SELECT part, shard, row, new_part, new_shard, new_row, same FROM met").fetchnumpy()
    gone = ~met["same"] if on_conflict == "replace" else np.zeros(len(met["same"]), bool)
    kept = _without(lake, mine.parts, range(len(mine.parts)), [met[name][gone] for name in ("part", "shard", "row")])
    coming = _without(lake, theirs.parts, new.numbers, [met[name][~gone] for name in ("new_part", "new_shard", "new_row")])
    replaced, left = int(gone.sum()), len(gone) - int(gone.sum())
    parts = [*kept, *coming]
    skipped = theirs.version.samples - new.samples + left
    return _Edit([part for part, _ in parts], split_counts(parts), new.samples - len(gone), skipped, replaced)


def _without(lake: Lake, parts: Sequence[PartShards], numbers: Sequence[int], places: Sequence[npt.NDArray[Any]]) -> list[PartShards]:
    """The parts of these numbers, without the samples at `places`: their part, shard and row."""
    part, shard, row = places
    hits = {number: np.flatnonzero(part == number) for number in numbers}
    left = (parts[number][1].drop(shard[hit], row[hit]) if len(hit) else parts[number][1] for number, hit in hits.items())
    return edited(lake.objects, [parts[number] for number in numbers], left)


def _conflict(mine: Dataset, theirs: Dataset, count: int, few: Sequence[str]) -> str:
    named = ", ".join(repr(key) for key in few) + (" …" if count > len(few) else "")
    return (
        f"{count:,} keys of {theirs} are in {mine} already, with other content, label or split: {named}; "
        'choose which one stays with on_conflict="skip" (the old) or "replace" (the new); nothing was committed'
    )
