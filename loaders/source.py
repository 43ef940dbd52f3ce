"""The bytes of samples: located through the shard's index, read in one span a sample, and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final, TypeVar

import google_crc32c
import numpy as np
import numpy.typing as npt

from dataplane.dataset import Shard, Split
from dataplane.errors import CorruptObject, DataplaneError, InvalidArgument, NotFound, StoreUnavailable
from dataplane.formats.compressed import SECTION as COMPRESSED
from dataplane.formats.index import ImageInfo, Placed, ShardIndex
from dataplane.objects import Objects
from dataplane.refs import Digest, ObjectRef
from dataplane.shards import starts
from dataplane.stages import Stage, enter
from dataplane.store import ReadInto, Reject, Store, WrapperStore
from loaders.patience import patiently
from loaders.together import Together, pieces

__all__ = ["FieldBytes", "Reader", "SampleSource", "Spot", "index_of"]

T = TypeVar("T")

_READ_AHEAD: Final = 1 << 16  # bytes: a scratch grows by at least this
_NEVER_TOGETHER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Spot:
    """A sample located in its shard."""

    shard: Shard
    row: int

    @property
    def key(self) -> str:
        """The sample's key."""
        return self.shard.index.key(self.row)

    @property
    def where(self) -> str:
        """The shard, as messages and reports call it."""
        return str(self.shard.row.ref)


@dataclass(frozen=True, slots=True)
class FieldBytes:
    """One field of one sample: a view of the reader's scratch, for as long as its `read` says; and what the index says of an image."""

    data: npt.NDArray[np.uint8]
    image: ImageInfo | None


class SampleSource:
    """Reads samples of a split. `fields` are names as in the index, or alternatives joined by ";" of which a sample has one.

    Thread-safe: each thread brings a `Reader` of its own (`reader()`).
    """

    def __init__(self, split: Split, fields: Sequence[str]) -> None:
        self.split = split
        self.fields = {field: tuple(field.split(";")) for field in fields}
        known = {field.name: field for field in split.dataset.schema.fields}
        for field, alternatives in self.fields.items():
            found = [known[name] for name in alternatives if name in known]
            if not found:
                raise InvalidArgument(f"{split} has no field {field!r}; its fields are {', '.join(sorted(known))}")
            for each in found:
                if each.kind in {"value", "array"}:
                    raise InvalidArgument(f"{split}: field {each.name!r} is {each}, and a loader reads files; read it with split.read_many")

    def locate(self, shards: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> list[Spot]:
        """Samples from what the order says: `items[n]` of the split's shard `shards[n]`."""
        found = {number: self.split.shards[number] for number in set(shards.tolist())}
        spots = []
        for number, item in zip(shards.tolist(), items.tolist(), strict=True):
            shard = found[number]
            spots.append(Spot(shard, item if shard.row.rows is None else int(shard.row.rows[item])))
        return spots

    def at(self, index: int) -> Spot:
        """Sample `index` of the split, in stored order."""
        number = int(np.searchsorted(self._starts, index, "right")) - 1
        (spot,) = self.locate(np.array([number]), np.array([index - self._starts[number]]))
        return spot

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        return starts(self.split.counts)

    def reader(self) -> Reader:
        """What one thread reads with."""
        return Reader(self)


class Reader:
    """Reads samples into a scratch of its own. Not thread-safe."""

    def __init__(self, source: SampleSource) -> None:
        self._source = source
        self._objects = Objects(source.split.dataset.store)
        self._cold = Objects(_past_copies(source.split.dataset.store))
        self._into = {each: each.store for each in (self._objects, self._cold) if isinstance(each.store, ReadInto)}
        self._together = Together.of(source.split.dataset.store)
        self._scratch: npt.NDArray[np.uint8] = np.empty(_READ_AHEAD, np.uint8)

    def read(self, spots: Sequence[Spot]) -> Iterator[Mapping[str, FieldBytes] | DataplaneError]:
        """The wanted fields of each sample, checked against their CRCs, or why there are none. Views last until the next sample. It may end
        behind a `StoreUnavailable`. See `read_some`."""
        for some in self.read_some(spots):
            yield from some

    def read_some(self, spots: Sequence[Spot]) -> Iterator[Sequence[Mapping[str, FieldBytes] | DataplaneError]]:
        """What `read` gives, for some samples at a time: their views last until the next of these.

        Of a folder, some are read in one compiled call; another store that reads into memory is asked sample by sample; any other, and
        where an adopted shard lies, for all samples of a shard at once. One that is unavailable is waited for (`patiently`). Bytes that
        fail a check are read once more, past the hot tier if there is one, which drops its copy: so a sample is good or not whatever lies
        in between, and also where other samples of its object are not.
        """
        wanted: list[_Wanted | DataplaneError] = []
        for spot in spots:
            wanted.append(_attempt(self._wanted, spot))
            if isinstance(wanted[-1], StoreUnavailable):  # it was waited for: not again for each of the others
                break
        remote = self._fetch([want for want in wanted if isinstance(want, _Wanted) and self._reads_into(self._objects, want) is None])
        for piece in pieces([_span(want, alone=self._together is None) for want in wanted]):
            yield self._some(wanted[piece], remote)

    def _some(
        self, wanted: Sequence[_Wanted | DataplaneError], remote: Mapping[int, Any]
    ) -> Sequence[Mapping[str, FieldBytes] | DataplaneError]:
        """Of some samples, the fields of each or why there are none."""
        there = self._straight([want for want in wanted if isinstance(want, _Wanted)])
        found: list[Mapping[str, FieldBytes] | DataplaneError] = []
        for want in wanted:
            if isinstance(want, DataplaneError):
                found.append(want)
            elif want in there:
                found.append(there[want])
            else:
                if len(wanted) > 1:
                    self._scratch = np.empty(0, np.uint8)  # another of them may lie in the one there is
                found.append(_attempt(self._checked, want, remote.get(id(want))))
        return found

    def _straight(self, wanted: Sequence[_Wanted]) -> dict[_Wanted, Mapping[str, FieldBytes]]:
        """The fields of those that are as the index says, where all of them can be read together."""
        if self._together is None:
            return {}
        asked = [(want.ref, place) for want in wanted if isinstance(want.ref, Digest) for place in want.placed.values()]
        if not asked:
            return {}
        read = iter(self._together.read(asked))
        found: dict[_Wanted, Mapping[str, FieldBytes]] = {}
        for want in wanted:
            if isinstance(want.ref, Digest):
                data = {name: next(read) for name in want.placed}
                fields = {name: FieldBytes(each, want.placed[name].image) for name, each in data.items() if each is not None}
                if len(fields) == len(data):
                    found[want] = fields
        return found

    def _wanted(self, spot: Spot) -> _Wanted:
        row, index = spot.shard.row, index_of(spot.shard)
        if row.format != "tar" or COMPRESSED in index.sections:
            what = "a compressed tar" if row.format == "tar" else f"a shard of the format {row.format}"
            raise InvalidArgument(f"{row.ref} is {what}, which loaders do not read yet; read it with split.read_many, or ingest its files")
        placed = {}
        for field, alternatives in self._source.fields.items():
            found = next((place for name in alternatives if (place := index.place(name, spot.row))), None)
            if found is None:
                raise NotFound(f"it has no field {field!r}; it has {', '.join(index.placed(spot.row))}")
            placed[field] = found
        return _Wanted(row.ref, placed, min(p.offset for p in placed.values()), max(p.offset + p.size for p in placed.values()))

    def _fetch(self, wanted: Sequence[_Wanted]) -> dict[int, Any]:
        """The spans of several samples, by `id`, or why there is none: one call a shard."""
        by_shard: dict[ObjectRef, list[_Wanted]] = {}
        for want in wanted:
            by_shard.setdefault(want.ref, []).append(want)
        found: dict[int, Any] = {}
        pieces: Sequence[Any] | DataplaneError = ()
        for ref, wants in by_shard.items():
            if not isinstance(pieces, StoreUnavailable):
                pieces = _attempt(patiently, partial(_ranges, self._objects, ref, wants))
            each = [pieces] * len(wants) if isinstance(pieces, DataplaneError) else pieces
            found.update({id(want): piece for want, piece in zip(wants, each, strict=True)})
        return found

    def _checked(self, want: _Wanted, fetched: Any) -> Mapping[str, FieldBytes]:
        try:
            if isinstance(fetched, DataplaneError):
                raise fetched
            return self._whole(want, self._load(self._objects, want) if fetched is None else np.frombuffer(memoryview(fetched), np.uint8))
        except CorruptObject:
            if isinstance(self._objects.store, Reject) and isinstance(want.ref, Digest):
                self._objects.store.reject(want.ref)
        enter(Stage.COLD)
        return self._whole(want, self._load(self._cold, want))

    def _whole(self, want: _Wanted, span: npt.NDArray[np.uint8]) -> Mapping[str, FieldBytes]:
        fields = _cut(want, span)
        bad = _damaged(want, fields)
        if bad is not None:
            raise CorruptObject(f"field {bad!r} fails its checksum in {self._objects.where(want.ref)}")
        return fields

    def _load(self, objects: Objects, want: _Wanted) -> npt.NDArray[np.uint8]:
        """The span of one sample, in the scratch where the store can."""
        store = self._reads_into(objects, want)
        if store is None:
            (piece,) = patiently(partial(_ranges, objects, want.ref, [want]))
            return np.frombuffer(piece, np.uint8)
        size = want.end - want.start
        if size > len(self._scratch):
            self._scratch = np.empty(size + _READ_AHEAD, np.uint8)
        patiently(partial(store.read_into, want.ref, start=want.start, buffer=self._scratch[:size]))
        return self._scratch[:size]

    def _reads_into(self, objects: Objects, want: _Wanted) -> ReadInto | None:
        """The store, where it reads this into memory of the reader's."""
        return self._into.get(objects) if isinstance(want.ref, Digest) else None


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """Bytes [start, end) of a shard hold all wanted fields of a sample."""

    ref: ObjectRef
    placed: Mapping[str, Placed]
    start: int
    end: int


def _span(want: _Wanted | DataplaneError, *, alone: bool) -> int:
    """The bytes of a sample; more than are read together with others, where samples share a scratch."""
    return _NEVER_TOGETHER if alone else want.end - want.start if isinstance(want, _Wanted) else 0


def _attempt(call: Callable[..., T], *arguments: Any) -> T | DataplaneError:
    """The result, or the error as a value: one bad sample must not take its neighbours' turn."""
    try:
        return call(*arguments)
    except DataplaneError as error:
        return error


def index_of(shard: Shard) -> ShardIndex:
    """The shard's index; waited for where its store fails for now, and read once more where it arrives damaged, as samples are."""
    try:
        return shard.index  # as a rule it is there
    except CorruptObject:
        return patiently(lambda: shard.index)
    except StoreUnavailable:
        pass
    try:
        return patiently(lambda: shard.index)
    except CorruptObject:
        return patiently(lambda: shard.index)


def _past_copies(store: Store) -> Store:
    """The store beneath a hot tier, else the store itself."""
    return store.inner if isinstance(store, WrapperStore) and isinstance(store, Reject) else store


def _ranges(objects: Objects, ref: ObjectRef, wants: Sequence[_Wanted]) -> Sequence[memoryview]:
    if not isinstance(ref, Digest):
        enter(Stage.COLD)  # hot tiers have no adopted objects
    return objects.ranges(ref, starts=[want.start for want in wants], lengths=[want.end - want.start for want in wants])


def _cut(want: _Wanted, span: npt.NDArray[np.uint8]) -> dict[str, FieldBytes]:
    return {f: FieldBytes(span[p.offset - want.start : p.offset - want.start + p.size], p.image) for f, p in want.placed.items()}


def _damaged(want: _Wanted, fields: Mapping[str, FieldBytes]) -> str | None:
    """The first field whose bytes are not what the index says."""
    for name, placed in want.placed.items():
        data = fields[name].data
        if len(data) != placed.size or (placed.crc32c is not None and google_crc32c.value(data) != placed.crc32c):
            return name
    return None
