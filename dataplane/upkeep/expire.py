"""Removing is a commit: which versions of a dataset are gone, or that the dataset is. `gc` gives the bytes back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dataplane.catalog import Change, Version, parse_spec
from dataplane.errors import CommitConflict, InvalidArgument, NotFound
from dataplane.intervals import Numbers
from dataplane.lake import Lake
from dataplane.upkeep.users import Users, users_of

__all__ = ["ExpireResult", "Kept", "State", "expire", "plan_expire", "rm"]

EXPIRE = "expire"
"""The operation of commits that only say what is gone."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A version that would have been expired, and who names it: "tag prod", "run resnet", "model digits"."""

    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class ExpireResult:
    """What was expired, or would be. `version` is the commit that says so; None where there was nothing to do, or with `dry_run`."""

    name: str
    expired: tuple[int, ...]
    kept: tuple[Kept, ...]
    version: int | None
    dry_run: bool
    removed: bool = False

    def to_json(self) -> dict[str, Any]:
        """The document of `dataplane expire --json` and `dataplane rm --json`."""
        return {
            "name": self.name,
            "version": self.version,
            "expired": list(self.expired),
            "kept": [{"version": kept.version, "reason": kept.reason} for kept in self.kept],
            "removed": self.removed,
            "dry_run": self.dry_run,
        }


@dataclass(frozen=True, slots=True)
class State:
    """Versions in a row that hold the same: one that was made, and those behind it that only say what has expired."""

    numbers: tuple[int, ...]
    created: datetime


def plan_expire(
    states: Sequence[State], used: Mapping[int, str], *, keep_last: int | None, older_than: timedelta | None, now: datetime
) -> tuple[tuple[int, ...], tuple[Kept, ...]]:
    """Which versions go, and which would but are named by somebody (`used`). Pure.

    `states` are those that there are, oldest first. The newest never goes, nor do the `keep_last` newest, nor what was made less than
    `older_than` ago.
    """
    candidates = states[: -max(1, keep_last or 1)]
    if older_than is not None:
        candidates = [state for state in candidates if now - state.created >= older_than]
    gone: list[int] = []
    kept: list[Kept] = []
    for state in candidates:
        for number in state.numbers:
            if number in used:
                kept.append(Kept(number, used[number]))
            else:
                gone.append(number)
    return tuple(gone), tuple(kept)


def expire(
    lake: Lake,
    name: str,
    *,
    keep_last: int | None = None,
    keep_tagged: bool = True,
    keep_used: bool = True,
    older_than: timedelta | None = None,
    now: datetime | None = None,
    dry_run: bool = False,
) -> ExpireResult:
    """Say in a commit which versions of a dataset are gone: all but the `keep_last` newest, those made less than `older_than` ago, those
    that tags name (`keep_tagged`), and those that runs and models name (`keep_used`). The newest stays in any case.

    The commit's version holds what the newest before it holds. Where nothing would go, none is made. Raises `NotFound`, and
    `InvalidArgument` where neither a number nor an age is given.
    """
    if keep_last is None and older_than is None:
        raise InvalidArgument("say which versions stay: with keep_last (--keep-last 5), older_than (--older-than 30d), or both")
    if keep_last is not None and keep_last < 1:
        raise InvalidArgument(f"keep_last is {keep_last}; the newest version always stays, so give 1 or more (rm removes the dataset)")
    if older_than is not None and older_than < timedelta(0):
        raise InvalidArgument(f"older_than is {older_than}; give a time that has passed, as in 30d")
    parameters = {
        "keep_last": keep_last,
        "older_than_seconds": older_than.total_seconds() if older_than is not None else None,
        "keep_tagged": keep_tagged,
        "keep_used": keep_used,
    }
    when = now or datetime.now(UTC)
    plan = _Plan(lake, name, parameters, dry_run=dry_run)

    def choose(newest: Version) -> tuple[int, ...]:
        users = users_of(lake, name, tags=keep_tagged, used=keep_used)
        chosen, plan.kept = plan_expire(
            _states(lake, name, newest.number), users.of_versions(), keep_last=keep_last, older_than=older_than, now=when
        )
        return chosen

    return plan.carry_out(choose)


def rm(lake: Lake, spec: str, *, keep_used: bool = True, dry_run: bool = False) -> ExpireResult:
    """Remove a dataset (`photos`) or one version of it (`photos@3`), in a commit. `gc` then frees what nothing else names.

    A dataset can be made anew under the name; its versions are counted on. With `keep_used`, the objects of versions that runs and models
    name stay. One version that a tag names is not removed, nor the newest, nor a tag: those raise `InvalidArgument`. Raises `NotFound`.
    """
    name, which = parse_spec(spec)
    if which is None:
        return _remove_dataset(lake, name, keep_used=keep_used, dry_run=dry_run)
    if not which.isdecimal():
        lake.catalog.number(spec)
        raise InvalidArgument(f"{spec} is a tag; a tag is not removed, but it can be moved: dataplane tag {name}@NUMBER {which}")
    number = lake.catalog.number(spec)
    plan = _Plan(lake, name, {"version": number, "keep_used": keep_used}, dry_run=dry_run)

    def choose(newest: Version) -> tuple[int, ...]:
        if number == newest.number:
            raise InvalidArgument(f"{spec} is the newest version; commit another first, or remove the dataset: dataplane rm {name}")
        tags = users_of(lake, name, tags=True, used=False).of_versions()
        if number in tags:
            raise InvalidArgument(f"{spec} is named by {tags[number]}; move the tag first: dataplane tag {name}@NUMBER TAG")
        return (number,)

    return plan.carry_out(choose)


@dataclass(slots=True)
class _Plan:
    lake: Lake
    name: str
    parameters: Mapping[str, Any]
    dry_run: bool
    kept: tuple[Kept, ...] = field(default=())

    def carry_out(self, choose: Any) -> ExpireResult:
        """Commit what `choose` says of the newest version, whichever that is by then."""
        gone: tuple[int, ...] = ()

        def make(newest: Version | None) -> Change | None:
            nonlocal gone
            if newest is None:
                raise NotFound(f"{self.lake.url} has no dataset {self.name!r}; it has: {', '.join(self.lake.datasets()) or 'none'}")
            gone = tuple(number for number in choose(newest) if number not in newest.expired)
            if not gone or self.dry_run:
                return None
            counts = {"expired": len(gone)}
            return _same(newest, EXPIRE, self.parameters, counts=counts, expired=Numbers.of(gone))

        version = self.lake.catalog.commit(self.name, make)
        return ExpireResult(self.name, gone, self.kept, version.number if version else None, self.dry_run)


def _remove_dataset(lake: Lake, name: str, *, keep_used: bool, dry_run: bool) -> ExpireResult:
    numbers = tuple(lake.catalog.numbers(name))
    users = users_of(lake, name, tags=False, used=True) if keep_used else Users()
    used = users.of_versions()
    kept = tuple(Kept(number, used[number]) for number in numbers if number in used)
    if dry_run:
        return ExpireResult(name, numbers, kept, None, dry_run=True, removed=True)

    def make(newest: Version | None) -> Change | None:
        if newest is None:
            raise CommitConflict(f"the dataset {name!r} was removed meanwhile")
        return Change("rm", {"keep_used": keep_used, "keep_tagged": False}, newest.schema, (), {}, removed=True)

    version = lake.catalog.commit(name, make)
    return ExpireResult(name, numbers, kept, version.number if version else None, dry_run=False, removed=True)


def _same(newest: Version, operation: str, parameters: Mapping[str, Any], *, counts: Mapping[str, int], expired: Numbers) -> Change:
    return Change(operation, parameters, newest.schema, newest.parts, newest.splits, newest.bad, counts=counts, expired=expired)


def _states(lake: Lake, name: str, newest: int) -> list[State]:
    versions = [version for version, there in lake.catalog.history(name) if there and version.number <= newest]
    return list(_grouped(reversed(versions)))


def _grouped(versions: Iterable[Version]) -> Iterable[State]:
    """Versions, oldest first, as states: bookkeeping belongs to what it was done on."""
    numbers: list[int] = []
    created: datetime | None = None
    for version in versions:
        if created is not None and version.lineage["operation"] != EXPIRE:
            yield State(tuple(numbers), created)
            numbers, created = [], None
        numbers.append(version.number)
        created = created or version.created
    if created is not None:
        yield State(tuple(numbers), created)
