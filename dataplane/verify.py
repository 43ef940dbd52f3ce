"""Verification: read everything that versions, runs and models name, and say what is damaged or missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dataplane.catalog import Catalog, folders, parse_spec
from dataplane.errors import CorruptObject, DataplaneError, NotFound
from dataplane.formats.index import read_index
from dataplane.lake import Lake
from dataplane.log import Log
from dataplane.manifest import ShardRow, read_shards
from dataplane.refs import Digest, ref_from_json

__all__ = ["Problem", "Report", "referenced", "verify_lake"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something damaged or missing: a path in the lake, and what is wrong with it."""

    object: str
    reason: str


@dataclass(slots=True)
class Report:
    """What a verification found."""

    objects: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The document of `dataplane verify --json`."""
        return {"ok": self.ok, "objects": self.objects, "bytes": self.bytes, "problems": [asdict(p) for p in self.problems]}


def verify_lake(lake: Lake, spec: str | None = None, *, progress: Callable[[int], None] = lambda _: None) -> Report:
    """Check the whole lake, or one dataset (`NAME`, all versions) or version (`NAME@7`). Every object is read once."""
    return _Verifier(lake, progress).run(spec)


def referenced(body: Any) -> Iterator[Digest]:
    """Every object that a commit names, wherever in it the reference stands."""
    if isinstance(body, Mapping):
        if {"blake3", "suffix", "size"} <= body.keys():
            ref = ref_from_json(dict(body))
            if isinstance(ref, Digest):
                yield ref
            return
        body = list(body.values())
    if isinstance(body, list):
        for value in body:
            yield from referenced(value)


class _Verifier:
    def __init__(self, lake: Lake, progress: Callable[[int], None]) -> None:
        self.lake = lake
        self.progress = progress
        self.report = Report()
        self.seen: set[Digest] = set()
        self.parts: set[Digest] = set()

    def run(self, spec: str | None) -> Report:
        catalog = self.lake.catalog
        if spec is not None:
            name, which = parse_spec(spec)
            number = catalog.number(spec)
            self._log(catalog.log(name), range(1, number + 1) if which is None else [number])
            if which is None:
                self._lost(catalog.log(name))
            return self.report
        for log in self._logs(catalog):
            self._log(log, range(1, log.newest() + 1))
            self._lost(log)
        return self.report

    def _logs(self, catalog: Catalog) -> Iterator[Log]:
        store = self.lake.store  # by their folders: of a log that lost its first entry, the catalog knows nothing
        for name in folders(store, "datasets"):
            yield catalog.log(name)
            yield from (catalog.tag_log(name, tag) for tag in folders(store, f"datasets/{name}/tags"))
        yield from (self.lake.log("runs", name) for name in folders(store, "runs"))
        yield from (self.lake.log("models", name) for name in folders(store, "models"))

    def _log(self, log: Log, numbers: range | list[int]) -> None:
        for number in numbers:
            try:
                body = log.read(number).body
            except DataplaneError as error:
                self.report.problems.append(Problem(log.path(number), str(error)))
                continue
            for ref in referenced(body):
                self._object(ref)
            for part in body.get("parts", ()):
                self._part(ref_from_json(part["shards"]))

    def _lost(self, log: Log) -> None:
        told = {problem.object for problem in self.report.problems}
        for number in (number for number in log.missing() if log.path(number) not in told):
            reason = "it is missing, and there are commits behind it, which nobody finds now; put the file back from a copy of the lake"
            self.report.problems.append(Problem(log.path(number), reason))

    def _object(self, ref: Digest) -> bool:
        """Check an object once; whether it is sound."""
        if ref in self.seen:
            return all(problem.object != ref.path for problem in self.report.problems)
        self.seen.add(ref)
        self.report.objects += 1
        self.progress(self.report.objects)
        try:
            self.lake.objects.verify(ref)
        except (CorruptObject, NotFound) as error:
            self.report.problems.append(Problem(ref.path, str(error)))
            return False
        self.report.bytes += ref.size
        return True

    def _part(self, shards: Any) -> None:
        if shards not in self.parts and self._object(shards):
            self.parts.add(shards)
            for row in read_shards(self.lake.objects.get(shards), where=shards.path):
                self._shard(row)

    def _shard(self, row: ShardRow) -> None:
        if isinstance(row.ref, Digest):
            self._object(row.ref)
        if row.index not in self.seen and self._object(row.index):
            index = read_index(self.lake.objects.get(row.index), where=row.index.path)
            if len(index) != row.samples:
                self.report.problems.append(Problem(row.index.path, f"it indexes {len(index)} samples; its shard has {row.samples}"))
