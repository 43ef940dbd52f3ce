"""Verification: read everything that versions, runs and models name, say what is damaged or missing, and put it back from a copy."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from dataplane.catalog import folders, parse_spec
from dataplane.errors import CorruptObject, DataplaneError, NotFound, StoreError
from dataplane.formats.index import ShardIndex, read_index
from dataplane.lake import Lake
from dataplane.log import Entry, Log
from dataplane.manifest import Part, Piece, ShardRow, read_shards
from dataplane.marker import MARKER, marker_problem
from dataplane.refs import Digest, Foreign, referenced
from dataplane.store import Store, open_store, split_url
from dataplane.upkeep.deep import check_metadata, check_piece
from dataplane.upkeep.repair import Repairer

__all__ = ["Problem", "Report", "verify_lake"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something damaged or missing: a path in the lake (or the URL of an adopted object), and what is wrong with it."""

    object: str
    reason: str


@dataclass(slots=True)
class Report:
    """What a verification found. `adopted` counts objects that lie elsewhere; `repaired` is what was put back, None where nobody asked."""

    objects: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    adopted: int = 0
    repaired: list[str] | None = None

    @property
    def ok(self) -> bool:
        """Nothing is wrong (any more)."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The document of `dataplane verify --json`."""
        document = {"ok": self.ok, "objects": self.objects, "bytes": self.bytes, "problems": [asdict(p) for p in self.problems]}
        if self.adopted:
            document["adopted"] = self.adopted
        if self.repaired is not None:
            document["repaired"] = self.repaired
        return document


def verify_lake(
    lake: Lake,
    spec: str | None = None,
    *,
    deep: bool = False,
    repair: str | Store | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Check the whole lake, or one dataset (`NAME`, all versions) or version (`NAME@7`). Every object is read once; of adopted ones it is
    looked whether they are still the same. Versions that were expired are left out.

    `deep`: also read every sample of every shard through its format, adopted ones included, and hold indexes and metadata against them.

    `repair`: a copy of the lake, or a folder or bucket of objects, by its URL. Whatever is damaged or missing is fetched from there,
    checked against its digest, and put back. A commit comes only from a copy of this very lake, with the same history round it.
    """
    repairer = Repairer(lake, repair) if repair is not None else None
    return _Verifier(lake, deep, repairer, progress).run(spec)


class _Verifier:
    def __init__(self, lake: Lake, deep: bool, repairer: Repairer | None, progress: Callable[[int], None]) -> None:
        self.lake = lake
        self.deep = deep
        self.repairer = repairer
        self.progress = progress
        self.report = Report(repaired=None if repairer is None else [])
        self.seen: dict[str, bool] = {}
        self.indexes: set[Digest] = set()
        self.parts: set[Part] = set()

    def run(self, spec: str | None) -> Report:
        catalog = self.lake.catalog
        if spec is None:
            self._everything()
            return self.report
        name, which = parse_spec(spec)
        if which is None:
            catalog.number(spec)
            self._dataset(name)
        else:
            number = catalog.number(spec)
            self._entries(catalog.log(name), [number], [number])
        return self.report

    def _everything(self) -> None:
        store = self.lake.store  # by their folders: of a log that lost its first entry, the catalog knows nothing
        why = marker_problem(store)
        if why is not None:
            self.report.problems.append(Problem(MARKER, why))
        for name in folders(store, "datasets"):
            self._dataset(name)
            for tag in folders(store, f"datasets/{name}/tags"):
                self._log(self.lake.catalog.tag_log(name, tag))
        for name in folders(store, "runs"):
            self._log(self.lake.log("runs", name))
        for name in folders(store, "models"):
            self._log(self.lake.log("models", name))

    # ------------------------------------------------------------------ commits

    def _dataset(self, name: str) -> None:
        log = self.lake.catalog.log(name)
        lost = self._restored(log)
        try:
            live: Container[int] = set(self.lake.catalog.numbers(name))
        except NotFound:  # removed, or the first commit is lost
            live = ()
        self._entries(log, range(1, log.newest() + 1), live)
        self._tell_lost(log, lost)

    def _log(self, log: Log) -> None:
        lost = self._restored(log)
        self._entries(log, range(1, log.newest() + 1))
        self._tell_lost(log, lost)

    def _restored(self, log: Log) -> list[tuple[int, str]]:
        """Put back the commits that are missing before others; those that could not be, and why. First, since they hide what is behind."""
        lost = []
        for number in log.missing():
            reason = self.repairer.commit(log, number) if self.repairer else ""
            if reason is None:
                self._repaired(log.path(number))
            else:
                lost.append((number, reason))
        return lost

    def _tell_lost(self, log: Log, lost: Iterable[tuple[int, str]]) -> None:
        told = {problem.object for problem in self.report.problems}
        for number, why in lost:
            if log.path(number) not in told:
                reason = "it is missing, and there are commits behind it, which nobody finds now; put the file back from a copy of the lake"
                self.report.problems.append(Problem(log.path(number), reason + why))

    def _entries(self, log: Log, numbers: Iterable[int], live: Container[int] | None = None) -> None:
        """Check commits, and what those name that are `live` (all of them, by default)."""
        for number in numbers:
            entry = self._entry(log, number)
            if entry is None or (live is not None and number not in live):
                continue
            for ref in referenced(entry.body):
                self._object(ref)
            for value in entry.body.get("parts", ()):
                self._part(Part.from_json(value))

    def _entry(self, log: Log, number: int) -> Entry | None:
        try:
            return log.read(number)
        except DataplaneError as error:
            why = self.repairer.commit(log, number) if self.repairer else ""
            if why is None:
                self._repaired(log.path(number))
                return log.read(number)
            self.report.problems.append(Problem(log.path(number), f"{error}{why}"))
            return None

    # ------------------------------------------------------------------ objects

    def _object(self, ref: Digest) -> bool:
        """Check an object once; whether it is sound."""
        sound = self.seen.get(ref.path)
        if sound is None:
            self.report.objects += 1
            self.progress(self.report.objects)
            sound = self.seen[ref.path] = self._sound(ref)
        return sound

    def _sound(self, ref: Digest) -> bool:
        try:
            self.lake.objects.verify(ref)
        except (CorruptObject, NotFound) as error:
            why = self.repairer.object(ref) if self.repairer else ""
            if why is not None:
                self.report.problems.append(Problem(ref.path, f"{error}{why}"))
                return False
            self._repaired(ref.path)
        self.report.bytes += ref.size
        return True

    def _repaired(self, path: str) -> None:
        if self.report.repaired is not None:
            self.report.repaired.append(path)

    def _adopted(self, ref: Foreign, kind: str) -> bool:
        """Whether an adopted object is still there and the same, as far as its server tells."""
        sound = self.seen.get(ref.url)
        if sound is None:
            self.report.adopted += 1
            try:
                _look_at(self.lake, ref, folder=kind == "zarr" and ref.etag is None)
                sound = True
            except (StoreError, NotFound) as error:
                self.report.problems.append(Problem(ref.url, str(error)))
                sound = False
            self.seen[ref.url] = sound
        return sound

    # ------------------------------------------------------------------ shards

    def _part(self, part: Part) -> None:
        if part in self.parts or not self._object(part.shards):
            return
        self.parts.add(part)
        try:
            shards = read_shards(self.lake.objects.get(part.shards), where=self.lake.objects.where(part.shards))
        except DataplaneError as error:
            self.report.problems.append(Problem(part.shards.path, str(error)))
            return
        opened = [self._shard(row) if row.live else None for row in shards]
        if self.deep and self._object(part.metadata):
            keys = [index.keys() if index is not None else None for index in opened]
            self._add(check_metadata(self.lake.objects, part, shards, keys))

    def _shard(self, row: ShardRow) -> ShardIndex | None:
        """Check the objects of a shard; the index of its first one, where that is sound and will be asked for."""
        found: list[ShardIndex | None] = [self._piece(piece, row.samples) for piece in row.pieces]
        return found[0] if self.deep else None

    def _piece(self, piece: Piece, samples: int) -> ShardIndex | None:
        sound = self._object(piece.ref) if isinstance(piece.ref, Digest) else self._adopted(piece.ref, piece.format)
        first = piece.index not in self.indexes
        if not self._object(piece.index) or not (first or self.deep):
            return None
        self.indexes.add(piece.index)
        try:
            index = read_index(self.lake.objects.get(piece.index), where=piece.index.path)
        except DataplaneError as error:
            self._add([(piece.index.path, str(error))] if first else [])
            return None
        if first and len(index) != samples:
            self._add([(piece.index.path, f"it indexes {len(index)} samples; its shard has {samples}")])
            return None
        if first and sound and self.deep:
            self._add(check_piece(self.lake.objects, piece, index))
        return index

    def _add(self, found: Iterable[tuple[str, str]]) -> None:
        self.report.problems.extend(Problem(path, reason) for path, reason in found)


def _look_at(lake: Lake, ref: Foreign, *, folder: bool) -> None:
    """Raise where an adopted object is gone, or its server says that it is another by now. Of an array in a folder, only the first."""
    if not folder:
        lake.objects.ranges(ref, starts=[0], lengths=[min(1, ref.size)])
        return
    root, path = split_url(ref.url.rstrip("/"))
    if next(iter(open_store(root).list(path)), None) is None:
        raise NotFound(f"{ref}: this adopted array is gone; put it back, or leave its samples out with `where`")
