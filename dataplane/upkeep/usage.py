"""Where a lake's bytes are: by dataset, shared and its own; runs, models, writers at work, and garbage."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dataplane.lake import Lake
from dataplane.refs import Digest, digest_of_path
from dataplane.upkeep.survey import Names, Owner, Survey

__all__ = ["Usage", "UsageReport", "usage"]


@dataclass(slots=True)
class Usage:
    """What somebody names: all of it, and what nobody else does. The rest is shared: it stays when they go."""

    kind: str
    name: str
    objects: int = 0
    bytes: int = 0
    unique_objects: int = 0
    unique_bytes: int = 0

    @property
    def shared_bytes(self) -> int:
        """What others name too."""
        return self.bytes - self.unique_bytes

    def to_json(self) -> dict[str, Any]:
        """The form in `dataplane usage --json`."""
        return {
            "kind": self.kind,
            "name": self.name,
            "objects": self.objects,
            "bytes": self.bytes,
            "unique_bytes": self.unique_bytes,
            "shared_bytes": self.shared_bytes,
        }


@dataclass(frozen=True, slots=True)
class UsageReport:
    """The users of a lake, datasets first; and what nobody names, which `gc` frees once it is old enough. `bytes` are of all."""

    users: tuple[Usage, ...]
    objects: int
    bytes: int
    garbage_objects: int
    garbage_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The document of `dataplane usage --json`."""
        return {
            "objects": self.objects,
            "bytes": self.bytes,
            "garbage_objects": self.garbage_objects,
            "garbage_bytes": self.garbage_bytes,
            "users": [user.to_json() for user in self.users],
        }


class _Owned:
    """For each object a bit for each owner."""

    def __init__(self) -> None:
        self.owners: dict[Owner, int] = {}
        self._masks: dict[str, dict[bytes, int]] = {}

    def add(self, owner: Owner, found: Iterable[Names]) -> None:
        """Note that `owner` names objects. A `Visit`."""
        bit = 1 << self.owners.setdefault(owner, len(self.owners))
        for suffix, names in found:
            masks = self._masks.setdefault(suffix, {})
            for name in names:
                masks[name] = masks.get(name, 0) | bit

    def mask(self, ref: Digest | None) -> int:
        """Who names an object. Not by its size: one that was truncated is named all the same."""
        return 0 if ref is None else self._masks.get(ref.suffix, {}).get(bytes.fromhex(ref.hex), 0)


def usage(lake: Lake, *, progress: Callable[[int], None] = lambda count: None) -> UsageReport:
    """Count every object for those who name it. Costs a listing and a request for each commit and table of shards. `progress` hears of
    objects.

    Adopted objects lie elsewhere and are not counted. An expired version whose objects stay, for a run that names it, counts for its
    dataset.
    """
    owned = _Owned()
    Survey(lake, now=datetime.now(UTC), grace_seconds=0, visit=owned.add, per_owner=True).look()
    users = [Usage(owner.kind, owner.name) for owner in owned.owners]
    objects = total = garbage_objects = garbage_bytes = 0
    for chunk in lake.store.list("objects"):
        for meta in chunk:
            size = meta["size"]
            mask = owned.mask(digest_of_path(meta["path"], size))
            objects, total = objects + 1, total + size
            if not mask:
                garbage_objects, garbage_bytes = garbage_objects + 1, garbage_bytes + size
            _count(users, mask, size)
        progress(objects)
    order = {"datasets": 0, "runs": 1, "models": 2, "writers": 3}
    users.sort(key=lambda user: (order[user.kind], user.name))
    return UsageReport(tuple(users), objects, total, garbage_objects, garbage_bytes)


def _count(users: list[Usage], mask: int, size: int) -> None:
    alone = mask & (mask - 1) == 0
    while mask:
        user = users[(mask & -mask).bit_length() - 1]
        user.objects, user.bytes = user.objects + 1, user.bytes + size
        if alone:
            user.unique_objects, user.unique_bytes = user.unique_objects + 1, user.unique_bytes + size
        mask &= mask - 1
