"""Verification: read everything that versions, runs and models name, say what is damaged or missing, and put it back from a copy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Final

from dataplane.catalog import Part, folders, parse_spec
from dataplane.errors import DataplaneError, NotFound
from dataplane.formats.index import ShardIndex, read_index
from dataplane.lake import Lake
from dataplane.log import Entry, Log
from dataplane.manifest import read_shards
from dataplane.marker import MARKER, marker_problem
from dataplane.objects import Objects
from dataplane.refs import Digest, Foreign, ObjectRef, referenced
from dataplane.shards import Piece, Shards
from dataplane.store import Reject, Store
from dataplane.upkeep.ahead import Ahead, StoppableStore
from dataplane.upkeep.checks import Checked, Checks
from dataplane.upkeep.deep import check_metadata, check_piece
from dataplane.upkeep.repair import Repairer

__all__ = ["Problem", "Report", "verify_lake"]

_THREADS: Final = 16  # what hides a bucket's latency; each has 8 MiB in hand
_DEEP_THREADS: Final = 8  # each has samples in hand, decoded
_COMMITS_AHEAD: Final = 64
_TABLES_AHEAD: Final = 4  # one may have a million rows
_SHARDS_AHEAD: Final = 64


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
    """Check the whole lake, or one dataset (`NAME`, all versions) or version (`NAME@7`). Every object is read once, many at a time; of
    adopted ones it is looked whether they are still the same. Versions that were expired are left out. The report is in the order of the
    lake, and `progress` is called in this thread with how many objects it has come to.

    `deep`: also read every sample of every shard through its format, adopted ones included, and hold indexes and metadata against them.

    `repair`: a copy of the lake, or a folder or bucket of objects, by its URL. Whatever is damaged or missing is fetched from there,
    checked against its digest, and put back. A commit comes only from a copy of this very lake, with the same history round it.
    """
    repairer = Repairer(lake, repair) if repair is not None else None
    report = Report(repaired=None if repairer is None else [])
    with Ahead(_DEEP_THREADS if deep else _THREADS) as ahead:
        for found in _Verifier(lake, deep, repairer, ahead).run(spec):
            for each in found:
                _tell(report, each, progress)
    return report


@dataclass(frozen=True, slots=True)
class _Looked:
    """An object that was looked at."""

    ref: ObjectRef
    checked: Checked


@dataclass(frozen=True, slots=True)
class _Mended:
    """A commit that was put back."""

    path: str


_Found = Iterable[_Looked | _Mended | Problem]
_Step = Callable[[], _Found]
"""What looks at something, in some thread."""
_Opening = Callable[[], Iterable[_Step]]
"""What finds out what there is to look at, in some thread. To iterate over what it gives makes no request."""


def _tell(report: Report, found: _Looked | _Mended | Problem, progress: Callable[[int], None]) -> None:
    """Put something into the report."""
    mended = found.path if isinstance(found, _Mended) else None
    if isinstance(found, Problem):
        report.problems.append(found)
    elif isinstance(found, _Looked):
        path = found.ref.path if isinstance(found.ref, Digest) else found.ref.url
        if found.checked.wrong is not None:
            report.problems.append(Problem(path, found.checked.wrong))
        if isinstance(found.ref, Digest):
            report.objects += 1
            report.bytes += found.ref.size if found.checked.sound else 0
            progress(report.objects)
        else:
            report.adopted += 1
        mended = path if found.checked.repaired else None
    if mended is not None and report.repaired is not None:
        report.repaired.append(mended)


class _Keys:
    """The keys of the shards of a part, as they come to be known; None where an index cannot be read."""

    def __init__(self, shards: int) -> None:
        self._keys: list[list[str] | None] = [None] * shards
        self._noted = threading.Semaphore(0)

    def note(self, shard: int, keys: list[str] | None) -> None:
        self._keys[shard] = keys
        self._noted.release()

    def all(self, count: int) -> list[list[str] | None]:
        """All of them, once so many were noted."""
        for _ in range(count):
            self._noted.acquire()
        return self._keys


class _Verifier:
    """Walks a lake in one thread, and lets others look at what it comes by.

    The walk needs some of it to go on: commits, and tables of shards. These are read ahead too, by what it has come to without them.
    """

    def __init__(self, lake: Lake, deep: bool, repairer: Repairer | None, ahead: Ahead) -> None:
        self.lake = lake
        self.deep = deep
        self.repairer = repairer
        self.ahead = ahead
        # A hot tier mends its copies where a reader asks it to, which what wraps it cannot; its disk is near.
        store = lake.store if isinstance(lake.store, Reject) else StoppableStore(lake.store, ahead.stopped)
        self.objects = Objects(store)
        self.checks = Checks(lake, self.objects, repairer)
        self.indexes: set[Digest] = set()
        self.parts: set[Part] = set()

    def run(self, spec: str | None) -> Iterator[_Found]:
        """What there is to report, in the order of the lake."""
        return self.ahead(chain.from_iterable(self.ahead(self._walk(spec), _TABLES_AHEAD)), _SHARDS_AHEAD)

    def _walk(self, spec: str | None) -> Iterator[_Opening]:
        """Everything there is to look at, in the order of the report."""
        catalog = self.lake.catalog
        if spec is None:
            yield from self._everything()
            return
        name, which = parse_spec(spec)
        number = catalog.number(spec)
        if which is None:
            yield from self._dataset(name)
        else:
            yield from self._entries(catalog.log(name), [number], [number], lost=())

    def _everything(self) -> Iterator[_Opening]:
        store = self.lake.store  # by their folders: of a log that lost its first entry, the catalog knows nothing
        why = marker_problem(store)
        if why is not None:
            yield _known(Problem(MARKER, why))
        for name in folders(store, "datasets"):
            yield from self._dataset(name)
            for tag in folders(store, f"datasets/{name}/tags"):
                yield from self._log(self.lake.catalog.tag_log(name, tag))
        for kind in ("runs", "models"):
            for name in folders(store, kind):
                yield from self._log(self.lake.log(kind, name))

    # ------------------------------------------------------------------ commits

    def _dataset(self, name: str) -> Iterator[_Opening]:
        log = self.lake.catalog.log(name)
        lost, mended = self._restored(log)
        yield _known(*mended)
        try:
            live: Container[int] = set(self.lake.catalog.numbers(name))
        except NotFound:  # removed, or the first commit is lost
            live = ()
        yield from self._entries(log, range(1, log.newest() + 1), live, lost=lost)

    def _log(self, log: Log) -> Iterator[_Opening]:
        lost, mended = self._restored(log)
        yield _known(*mended)
        numbers = range(1, log.newest() + 1)
        yield from self._entries(log, numbers, numbers, lost=lost)

    def _restored(self, log: Log) -> tuple[list[tuple[int, str]], list[_Mended]]:
        """Put back the commits that are missing before others: those that could not be, and why; and those that were. First, since they
        hide what is behind."""
        lost, mended = [], []
        for number in log.missing():
            reason = self.repairer.commit(log, number) if self.repairer else ""
            if reason is None:
                mended.append(_Mended(log.path(number)))
            else:
                lost.append((number, reason))
        return lost, mended

    def _entries(self, log: Log, numbers: Iterable[int], live: Container[int], *, lost: Iterable[tuple[int, str]]) -> Iterator[_Opening]:
        """Commits, and what those name that are `live`; then those that are `lost`."""
        told = set()
        for number, read in self.ahead((partial(_read, log, number) for number in numbers), _COMMITS_AHEAD):
            entry, found = (read, None) if isinstance(read, Entry) else self._mended(log, number, read)
            if found is not None:
                told.add(number)
                yield _known(found)
            if entry is None or number not in live:
                continue
            yield _these([partial(self._object, ref) for ref in referenced(entry.body) if self.checks.claim(ref)])
            for part in map(Part.from_json, entry.body.get("parts", ())):
                if part not in self.parts:
                    self.parts.add(part)
                    yield partial(self._part, part)
        reason = "it is missing, and there are commits behind it, which nobody finds now; put the file back from a copy of the lake"
        yield _known(*(Problem(log.path(number), reason + why) for number, why in lost if number not in told))

    def _mended(self, log: Log, number: int, error: DataplaneError) -> tuple[Entry | None, Problem | _Mended]:
        """A commit that could not be read, put back."""
        why = self.repairer.commit(log, number) if self.repairer else ""
        if why is None:
            return log.read(number), _Mended(log.path(number))
        return None, Problem(log.path(number), f"{error}{why}")

    def _object(self, ref: Digest) -> _Found:
        return [_Looked(ref, self.checks.look(ref))]

    # ------------------------------------------------------------------ shards

    def _part(self, part: Part) -> Iterable[_Step]:
        """What there is to look at in a part."""
        if not self.checks.look(part.shards).sound:
            return ()
        try:
            shards = read_shards(self.lake.objects.get(part.shards), where=self.lake.objects.where(part.shards))
        except DataplaneError as error:
            problem = Problem(part.shards.path, str(error))
            return [lambda: [problem]]
        return self._shards(part, shards)

    def _shards(self, part: Part, shards: Shards) -> Iterator[_Step]:
        keys, noted = _Keys(len(shards) if self.deep else 0), 0
        for number, row in enumerate(shards):
            for place, piece in enumerate(row.pieces if row.live else ()):
                note = partial(keys.note, number) if self.deep and not place else None
                noted += note is not None
                mine = self.checks.claim(piece.ref), self.checks.claim(piece.index)
                first = piece.index not in self.indexes
                self.indexes.add(piece.index)
                if note or first or any(mine):
                    yield partial(self._piece, piece, row.samples, mine=mine, first=first, note=note)
        if self.deep:
            yield partial(self._metadata, part, shards, keys, noted)

    def _piece(
        self, piece: Piece, samples: int, *, mine: tuple[bool, bool], first: bool, note: Callable[[list[str] | None], None] | None
    ) -> _Found:
        """Look at one object of a shard and at its index. `mine`: which of them to report on; `first`: and on what is in the index; `note`
        hears of its keys, whatever happens."""
        known: ShardIndex | None = None
        try:
            data, index = _Looked(piece.ref, self._look(piece)), _Looked(piece.index, self.checks.look(piece.index))
            found: list[_Looked | _Mended | Problem] = [looked for looked, tell in zip((data, index), mine, strict=True) if tell]
            if index.checked.sound and (first or note):
                known, problem = self._index(piece, samples if first else None)
                found += [problem] if problem and first else []
            if known is not None and first and data.checked.sound and self.deep:
                found += [Problem(*wrong) for wrong in check_piece(self.objects, piece, known)]
        finally:
            if note:
                note(None if known is None else known.keys())
        return found

    def _look(self, piece: Piece) -> Checked:
        folder = isinstance(piece.ref, Foreign) and piece.format == "zarr" and piece.ref.etag is None
        return self.checks.look(piece.ref, folder=folder)

    def _index(self, piece: Piece, samples: int | None) -> tuple[ShardIndex | None, Problem | None]:
        """An index, and what is wrong with it. `samples`: so many are to be in it."""
        try:
            index = read_index(self.lake.objects.get(piece.index), where=piece.index.path)
        except DataplaneError as error:
            return None, Problem(piece.index.path, str(error))
        if samples is not None and len(index) != samples:
            return None, Problem(piece.index.path, f"it indexes {len(index)} samples; its shard has {samples}")
        return index, None

    def _metadata(self, part: Part, shards: Shards, keys: _Keys, noted: int) -> _Found:
        known = keys.all(noted)
        if not self.checks.look(part.metadata).sound:
            return []
        return [Problem(*wrong) for wrong in check_metadata(self.lake.objects, part, shards, known)]


def _read(log: Log, number: int) -> tuple[int, Entry | DataplaneError]:
    try:
        return number, log.read(number)
    except DataplaneError as error:
        return number, error


def _known(*found: _Mended | Problem) -> _Opening:
    """What there is nothing left to look at of."""
    return _these([lambda: found])


def _these(steps: list[_Step]) -> _Opening:
    return lambda: steps
