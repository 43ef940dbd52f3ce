"""Datasets and their versions: the commit logs below `datasets/`, and tags.

`NAME@7` is version 7, `NAME@TAG` the version a tag names, `NAME` the newest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from dataplane.errors import CorruptObject, FormatTooNew, InvalidArgument, NotFound
from dataplane.intervals import Numbers
from dataplane.log import Entry, Log
from dataplane.objects import Objects
from dataplane.refs import Digest, ref_from_json, ref_to_json, referenced
from dataplane.schema import Schema
from dataplane.store import Store

__all__ = ["Catalog", "Change", "Part", "SplitCount", "Version", "check_name", "folders", "parse_spec"]

_NONE: Final = Numbers()
_LINEAGE: Final = ("operation", "parameters", "parents", "tool")
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
class Part:
    """A pair of tables in the lake, and what they add up to: live samples and shards that have any."""

    shards: Digest
    metadata: Digest
    samples: int

    def to_json(self) -> dict[str, Any]:
        """The form a part has in a commit."""
        return {"shards": ref_to_json(self.shards), "metadata": ref_to_json(self.metadata), "samples": self.samples}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Part:
        """The inverse of `to_json`."""
        shards, metadata = ref_from_json(value["shards"]), ref_from_json(value["metadata"])
        if not isinstance(shards, Digest) or not isinstance(metadata, Digest):
            raise CorruptObject(f"not a manifest part: {value!r}")
        return cls(shards, metadata, value["samples"])


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
    """What a commit makes the newest state: all of it, not the difference.

    `parents` are versions (`photos@7`) beside the one before that this one shares objects with: a clone names what it is a clone of. They
    must be there when the commit is made. `counts` is what the operation says of itself, as `{"added": 3}`. `expired` are versions that are
    gone from now on, beside those that are already; `removed`: the dataset is.
    """

    operation: str
    parameters: Mapping[str, Any]
    schema: Schema
    parts: tuple[Part, ...]
    splits: Mapping[str, SplitCount]
    bad: Mapping[str, Any] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    expired: Numbers = _NONE
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable state of a dataset. `expired` are the versions before it that are gone; `removed`: so is the dataset."""

    name: str
    number: int
    id: str
    created: datetime
    schema: Schema
    parts: tuple[Part, ...]
    splits: Mapping[str, SplitCount]
    lineage: Mapping[str, Any]
    bad: Mapping[str, Any]
    expired: Numbers = _NONE
    removed: bool = False

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
    """The datasets of the lake in `store`. `objects` are what its writers put objects through. Thread-safe."""

    def __init__(self, store: Store, objects: Objects | None = None) -> None:
        self.store = store
        self.objects = objects or Objects(store)

    def names(self) -> list[str]:
        """All datasets that have a version, sorted. Removed ones are left out."""
        return [name for name in folders(self.store, "datasets") if not self._tip(name).removed]

    def log(self, name: str) -> Log:
        """The commits of a dataset."""
        return Log(self.store, f"datasets/{check_name(name)}/log")

    def version(self, spec: str) -> Version:
        """The version that `NAME[@NUMBER|@TAG]` names. Raises `NotFound`, saying what there is, or when it was expired."""
        name, _ = parse_spec(spec)
        number, entry = self._find(spec)
        return _version(name, entry or self.log(name).read(number))

    def number(self, spec: str) -> int:
        """The number of the version that `spec` names. Raises `NotFound`."""
        return self._find(spec)[0]

    def newest(self, name: str) -> Version | None:
        """The newest version; None where there is none yet, or none any more."""
        tip = self.log(name).last()
        version = _version(name, tip) if tip else None
        return None if version is None or version.removed else version

    def numbers(self, name: str) -> list[int]:
        """The numbers of the versions that there are, ascending. Raises `NotFound` where there is no such dataset."""
        return list(self._there(name).live)

    def history(self, name: str) -> Iterator[tuple[Version, bool]]:
        """Every commit of a dataset, newest first, and whether its version is still there."""
        live = self._there(name).live
        log = self.log(name)
        for entry in log.read_many(range(log.newest(), 0, -1)):
            yield _version(name, entry), entry.number in live

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

    def tagged(self, name: str, tag: str) -> int:
        """The number that a tag means, whether or not that version is still there. Raises `NotFound`."""
        entry = self.tag_log(name, tag).last()
        if entry is None:
            raise NotFound(f"{name} has no tag {tag!r}; it has: {', '.join(self.tags(name)) or 'none'}")
        return int(entry.body["version"])

    def commit(self, name: str, make: Callable[[Version | None], Change | None]) -> Version | None:
        """Commit what `make(newest version)` returns; it is called again when another commit comes first (see `Log.append`).

        Of a removed dataset there is no newest version: what is committed then begins it anew. Every object that the commit names and the
        version before it does not is made sure of (see `Objects.rely_on`).
        """

        def body(tip: Entry | None) -> Mapping[str, Any] | None:
            newest = _version(name, tip) if tip else None
            present = None if newest is None or newest.removed else newest
            change = make(present)
            if change is None:
                return None
            made = _body(change, tip=newest)
            self._rely_on(made, tip.body if tip and present else {}, change.parents)
            return made

        entry = self.log(name).append(body)
        return None if entry is None else _version(name, entry)

    def _rely_on(self, body: Mapping[str, Any], before: Mapping[str, Any], parents: tuple[str, ...]) -> None:
        there: set[Digest] = set(referenced(before))
        for parent in parents:
            name, _ = parse_spec(parent)
            number, entry = self._find(parent)
            there.update(referenced((entry or self.log(name).read(number)).body))
        self.objects.rely_on(ref for ref in referenced(body) if ref not in there)

    def _find(self, spec: str) -> tuple[int, Entry | None]:
        """The number that `spec` names, and its entry where that was read on the way."""
        name, which = parse_spec(spec)
        state = self._there(name)
        number = state.newest if which is None else int(which) if which.isdecimal() and len(which) <= 20 else self.tagged(name, which)
        if not 1 <= number <= state.newest:
            raise NotFound(f"{name} has no version {number}; it has {state.live}")
        if number in state.expired:
            raise NotFound(f"{name}@{number} was expired{self._when_expired(name, number, state.newest)}; {name} has {state.live}")
        return number, state.entry if state.entry and state.entry.number == number else None

    def _there(self, name: str) -> _State:
        """The state of a dataset. Raises `NotFound` where there is none, or none any more."""
        state = self._tip(name)
        if not state.newest:
            have = ", ".join(self.names()) or "none yet"
            raise NotFound(f"{self.store.url} has no dataset {name!r}; it has: {have}")
        if state.removed:
            when = f"{state.entry.created:%Y-%m-%d %H:%M} UTC" if state.entry else "a moment"
            have = ", ".join(self.names()) or "none"
            raise NotFound(f"the dataset {name!r} of {self.store.url} was removed at {when}; there are: {have}")
        return state

    def _tip(self, name: str) -> _State:
        """What the newest commit that can be read says of what there is: a damaged one does not hide the versions before it."""
        log = self.log(name)
        newest = log.newest()
        for number in range(newest, 0, -1):
            try:
                entry = log.read(number)
                return _State(newest, entry, _expired(entry), entry.number == newest and entry.body.get("removed", False))
            except (CorruptObject, FormatTooNew):
                continue
        return _State(newest, None, Numbers(), removed=not newest)

    def _when_expired(self, name: str, number: int, newest: int) -> str:
        """Which commit says that a version is gone, and when. Once gone, always gone: so it is found by halving."""
        log, low, high = self.log(name), number, newest
        try:
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if number in _expired(log.read(middle)) else (middle, high)
            entry = log.read(high)
        except (CorruptObject, FormatTooNew, NotFound):
            return ""
        return f" by {name}@{entry.number} ({entry.body.get('operation')}) at {entry.created:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class _State:
    """What there is of a dataset: `entry` is the newest commit that can be read."""

    newest: int
    entry: Entry | None
    expired: Numbers
    removed: bool

    @property
    def live(self) -> Numbers:
        return Numbers() if self.removed else self.expired.missing(self.newest)


def _expired(entry: Entry) -> Numbers:
    return Numbers.from_json(entry.body.get("expired", ()))


def _body(change: Change, *, tip: Version | None) -> dict[str, Any]:
    """A commit is the whole state, so it repeats which versions are gone, whoever commits."""
    from importlib import metadata  # with the parsers of mail: who reads does without

    parent = None if tip is None or tip.removed else tip
    gone = Numbers() if tip is None else tip.expired | change.expired
    if tip is not None and (tip.removed or change.removed):
        gone = Numbers.upto(tip.number)
    return {
        "operation": change.operation,
        "parameters": dict(change.parameters),
        "parents": list(dict.fromkeys([*([f"{parent}"] if parent else []), *change.parents])),
        "tool": f"dataplane {metadata.version('dataplane')}",
        "schema": change.schema.to_json(),
        "parts": [part.to_json() for part in change.parts],
        "splits": {name: count.to_json() for name, count in sorted(change.splits.items())},
        "bad": dict(change.bad),
        "counts": {"samples": sum(count.samples for count in change.splits.values()), **change.counts},
        **({"expired": gone.to_json()} if gone else {}),
        **({"removed": True} if change.removed else {}),
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
            {key: body[key] for key in ("operation", "parameters", "parents", "tool")}
            | ({"counts": body["counts"]} if "counts" in body else {}),
            body["bad"],
            _expired(entry),
            bool(body.get("removed", False)),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptObject(f"{name}@{entry.number} is no commit of a dataset ({error!r}); something else wrote to its log") from error
