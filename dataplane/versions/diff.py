"""`diff`: which samples of two versions differ, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dataplane.dataset import Dataset
from dataplane.errors import InvalidArgument
from dataplane.lake import Lake
from dataplane.schema import Schema
from dataplane.versions.pairs import CHANGES, sides
from dataplane.versions.query import database
from dataplane.versions.view import find

__all__ = ["DiffResult", "SchemaDiff", "diff"]

_KINDS: Final = ("added", "removed", "changed")


@dataclass(frozen=True, slots=True)
class SchemaDiff:
    """What differs between two schemas. `fields_changed` are those of another kind."""

    fields_added: tuple[str, ...] = ()
    fields_removed: tuple[str, ...] = ()
    fields_changed: tuple[str, ...] = ()
    classes_added: tuple[str, ...] = ()
    classes_removed: tuple[str, ...] = ()

    @classmethod
    def of(cls, a: Schema, b: Schema) -> SchemaDiff:
        """From `a` to `b`."""
        before, after = ({field.name: field for field in schema.fields} for schema in (a, b))
        return cls(
            tuple(sorted(after.keys() - before.keys())),
            tuple(sorted(before.keys() - after.keys())),
            tuple(sorted(name for name in before.keys() & after.keys() if before[name] != after[name])),
            tuple(name for name in b.classes if name not in set(a.classes)),
            tuple(name for name in a.classes if name not in set(b.classes)),
        )

    def to_json(self) -> dict[str, list[str]]:
        """The form it has in `dataplane diff --json`."""
        return {name: list(getattr(self, name)) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class DiffResult:
    """What is different in `b`. `keys` are the first ones of each kind, sorted; `changes` counts what differs of the changed samples:
    content, bytes, label, split."""

    a: str
    b: str
    added: int
    removed: int
    changed: int
    changes: Mapping[str, int]
    keys: Mapping[str, tuple[str, ...]]
    schema: SchemaDiff
    samples: tuple[int, int]

    @property
    def same(self) -> bool:
        """No sample and no part of the schema differs."""
        return not (self.added or self.removed or self.changed) and self.schema == SchemaDiff()

    def to_json(self) -> dict[str, Any]:
        """What `dataplane diff --json` prints."""
        return {
            "a": self.a,
            "b": self.b,
            "added": self.added,
            "removed": self.removed,
            "changed": self.changed,
            "changes": dict(self.changes),
            "keys": {kind: list(keys) for kind, keys in self.keys.items()},
            "schema": self.schema.to_json(),
            "samples": list(self.samples),
        }


def diff(lake: Lake, a: str, b: str, *, limit: int = 100) -> DiffResult:
    """What changed from the version `a` to the version `b`, by key; of one dataset or of two. At most `limit` keys of each kind are named.

    Parts that both versions have are not read; of the others the columns that are compared. Memory: O(samples of `b` in them).
    """
    if limit < 0:
        raise InvalidArgument(f"limit is {limit}; it must be 0 or more")
    before, after = (Dataset(lake.store, find(lake, spec)) for spec in (a, b))
    old, new = sides(lake.objects, before, after)
    stream = old.stream()
    differs = ", ".join(
        f"(a.key IS NOT NULL AND b.key IS NOT NULL AND coalesce({sql}, false)) AS by_{name}" for name, sql in CHANGES.items()
    )
    any_of = " OR ".join(f"by_{name}" for name in CHANGES)
    with database(stream) as connection:
        connection.register("old", stream.reader)
        connection.register("new", new.table())
        connection.execute(
            "CREATE TEMP TABLE found AS SELECT * FROM (SELECT coalesce(a.key, b.key) AS key, "
            f"CASE WHEN a.key IS NULL THEN 'added' WHEN b.key IS NULL THEN 'removed' ELSE 'changed' END AS kind, {differs} "
            f"FROM old a FULL OUTER JOIN new b ON a.key = b.key) WHERE kind <> 'changed' OR {any_of}"
        )
        counts: dict[str, int] = dict(connection.execute("SELECT kind, count(*) FROM found GROUP BY kind").fetchall())
        sums = ", ".join(f"count(*) FILTER (by_{name})" for name in CHANGES)
        changes = dict(zip(CHANGES, connection.execute(f"SELECT {sums} FROM found").fetchone() or (), strict=True))
        keys = {
            kind: tuple(
                key for (key,) in connection.execute(f"SELECT key FROM found WHERE kind = '{kind}' ORDER BY key LIMIT {limit}").fetchall()
            )
            for kind in _KINDS
        }
    return DiffResult(
        str(before),
        str(after),
        counts.get("added", 0),
        counts.get("removed", 0),
        counts.get("changed", 0),
        changes,
        keys,
        SchemaDiff.of(before.schema, after.schema),
        (before.version.samples, after.version.samples),
    )
