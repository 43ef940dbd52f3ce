"""One task: read samples, decode and resize their pictures, write the shard, and put it and its index into the lake."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from blake3 import blake3

from dataplane.catalog import Version
from dataplane.dataset import Dataset, Sample, Split
from dataplane.errors import BadSample, CorruptObject, InvalidArgument, SourceChanged
from dataplane.formats import npy
from dataplane.formats.index import ImageInfo
from dataplane.formats.parquet_values import size_of
from dataplane.formats.protocol import Value
from dataplane.group import Group
from dataplane.ingest.worker import Tick
from dataplane.materialize.options import FIELD, MaterializeOptions
from dataplane.materialize.pixels import make_pixels, shape_of
from dataplane.materialize.plan import Task
from dataplane.objects import Objects
from dataplane.prep.image import decode
from dataplane.schema import Field
from dataplane.shards import ShardRow
from dataplane.store import Store
from dataplane.store.local import translated

if TYPE_CHECKING:
    from dataplane.formats.parquet_read import Reader as ParquetReader

__all__ = ["Context", "Done", "Made"]

_AHEAD: Final = 2  # threads that read and decode while another one writes
_TOGETHER: Final = 16  # samples that are read together
_TOGETHER_BYTES: Final = 16 << 20  # of them, as they are read and as they are made
_FORMAT_OF_KIND: Final = {"array": "zarr", "value": "parquet"}  # files go into the tar


@dataclass(frozen=True, slots=True)
class Made:
    """A sample that was written: its place in the task, its pixels' sides, the bytes of all its fields, the BLAKE3 of the picture's
    file."""

    place: int
    height: int
    width: int
    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a task: the shard (None where no sample was good), what its fields are, its samples in order, and which places of the
    task are bad, and why."""

    task: Task
    shard: ShardRow | None
    fields: tuple[Field, ...]
    made: tuple[Made, ...]
    bad: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Context:
    """What every task needs. It is sent once to each worker process. `pictures` are the fields that may hold the picture."""

    store: Store
    version: Version
    pictures: tuple[str, ...]
    options: MaterializeOptions
    scratch: Path

    @cached_property
    def dataset(self) -> Dataset:
        """The version that pictures are read from."""
        return Dataset(self.store, self.version)

    def do(self, task: Task, tick: Tick) -> Done:
        """Make one shard. Raises `StoreError` where the lake fails; what is wrong with one sample is in `Done.bad`."""
        folder = self.scratch / f"{task.number}"
        made: list[Made] = []
        bad: list[tuple[int, str]] = []
        formats = {field.name: _FORMAT_OF_KIND.get(field.kind, "tar") for field in self.dataset.schema.fields}
        columns = _columns(self.dataset[task.split], task.rows, self.pictures)
        options = {} if columns is None else {"parquet": {"schema": columns}}
        with translated(folder):
            folder.mkdir(exist_ok=True)
        with translated(folder), Group(folder, formats=formats, options=options, store=self.store) as group:
            with closing(self._ready(task)) as bunches:
                for bunch in bunches:
                    for place, outcome in bunch:
                        try:
                            made.append(_take(group, place, outcome))
                        except (BadSample, InvalidArgument) as error:
                            bad.append((place, str(error)))
                    tick(len(bunch), sum(item.read for _, item in bunch if isinstance(item, _Ready)))
            if not made:
                return Done(task, None, (), (), tuple(bad))
            shard = group.finish(Objects(self.store), task.split)
        return Done(task, shard, group.fields, tuple(made), tuple(bad))

    def _ready(self, task: Task) -> Generator[_Bunch, None, None]:
        """The samples of a task in order, some at a time, ready to be written: threads read, decode and resize ahead."""
        split = self.dataset[task.split]
        count = self.version.splits[task.split]
        largest = max(1, task.bytes // len(task.rows), count.bytes // max(1, count.samples))
        step = max(1, min(_TOGETHER, _TOGETHER_BYTES // largest))

        def make(start: int) -> _Bunch:
            rows = task.rows[start : start + step].tolist()
            return [(start + n, self._make(found)) for n, found in enumerate(_read(split, rows))]

        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="dataplane-decode") as pool:
            waiting: deque[Future[_Bunch]] = deque()
            try:
                for start in range(0, len(task.rows), step):
                    waiting.append(pool.submit(make, start))
                    if len(waiting) > _AHEAD:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, sample: Sample | BadSample) -> _Ready | BadSample:
        if isinstance(sample, BadSample):
            return sample
        try:
            return _ready(sample, self.pictures, self.options)
        except BadSample as error:
            return error


@dataclass(frozen=True, slots=True)
class _Ready:
    """A sample ready to be written. `read` are the bytes of the picture's file."""

    key: str
    fields: dict[str, Value]
    images: dict[str, ImageInfo]
    read: int
    digest: bytes


_Bunch: TypeAlias = list[tuple[int, _Ready | BadSample]]
"""Samples by their places in a task."""


def _columns(split: Split, rows: npt.NDArray[np.int64], pictures: Sequence[str]) -> Any:
    """The Parquet columns (a `pyarrow.Schema`) of the shards that these samples are in, but for the pictures: types as they are, which
    values alone do not tell (float32 from float64). None where there are no columns."""
    ends = np.cumsum(split.counts)
    found: dict[str, Any] = {}
    for number in np.unique(np.searchsorted(ends, rows, "right")).tolist():
        shard = split.shards[number]
        if not any(piece.format == "parquet" for piece in shard.row.pieces):
            continue
        with suppress(CorruptObject, SourceChanged):  # reading its samples says so of each
            for name in shard.fields:
                piece, _, reader = shard.holding(name)
                if piece.format == "parquet" and name not in pictures:
                    found.setdefault(name, cast("ParquetReader", reader).schema.field(name).with_nullable(True))
    return pa.schema([found[name] for name in sorted(found)]) if found else None


def _read(split: Split, rows: Sequence[int]) -> list[Sample | BadSample]:
    """Samples of a split; those that are damaged, or no longer what was adopted, cost the others a request each."""
    try:
        return list(split.read_many(rows))
    except (CorruptObject, SourceChanged):
        return [_read_one(split, row) for row in rows]


def _read_one(split: Split, row: int) -> Sample | BadSample:
    try:
        return split.read_many([row])[0]
    except (CorruptObject, SourceChanged) as error:
        return BadSample(str(error))


def _ready(sample: Sample, pictures: Sequence[str], options: MaterializeOptions) -> _Ready:
    """A sample with pixels in the place of its picture; all else stays. Raises `BadSample`."""
    there = [name for name in pictures if name in sample.fields]
    if len(there) != 1:
        has = " and ".join(there) or f"none of the fields {', '.join(pictures)}"
        raise BadSample(f"it has {has}, and one picture a sample becomes pixels" + ("; say which with field (--field)" if there else ""))
    data = sample.fields[there[0]]
    if not isinstance(data, bytes | bytearray | memoryview):
        raise BadSample(f"a picture is a file; field {there[0]!r} holds {type(data).__name__}")
    data = bytes(data)
    pixels = decode(data, max_pixels=options.max_pixels)
    height, width = pixels.shape[:2]
    made = make_pixels(pixels, shape_of(height, width, options))
    fields = {name: value for name, value in sample.fields.items() if name != there[0]}
    images = {name: info for name in fields if (info := _told(sample, name))}
    images[FIELD] = ImageInfo(made.shape[1], made.shape[0])
    return _Ready(sample.key, {**fields, FIELD: npy.pack(made)}, images, len(data), blake3(data).digest())


def _told(sample: Sample, name: str) -> ImageInfo | None:
    """What the index says of another picture of the sample."""
    told: Any = [sample.metadata.get(f"{name}.{what}") for what in ("width", "height", "orientation")]
    return ImageInfo(*told) if all(told) else None


def _take(group: Group, place: int, outcome: _Ready | BadSample) -> Made:
    """Append one sample. Raises `BadSample` or `InvalidArgument` where it cannot be one."""
    if isinstance(outcome, BadSample):
        raise outcome
    group.add(outcome.key, outcome.fields, outcome.images)
    info = outcome.images[FIELD]
    return Made(place, info.height, info.width, sum(map(size_of, outcome.fields.values())), outcome.digest)
