"""`write`: samples from Python into a dataset, a few shards at a time, one commit at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from blake3 import blake3

from dataplane.canonical import canonical_json
from dataplane.catalog import Change, Version, check_name
from dataplane.dataset import Dataset
from dataplane.errors import BadSample, InvalidArgument
from dataplane.formats import FORMATS
from dataplane.formats.options import DEFAULT_CODEC, ROW_GROUP_BYTES, check_codecs, writer_options
from dataplane.formats.parquet_values import size_of
from dataplane.formats.protocol import Value
from dataplane.group import Group
from dataplane.ingest.commit import Edit, edit, new_parts
from dataplane.ingest.present import load
from dataplane.ingest.scratch import scratch
from dataplane.ingest.splits import Splits
from dataplane.ingest.tables import long_texts, scalar_columns
from dataplane.ingest.worker import CLASS_ID, COLUMNS, RESERVED
from dataplane.journal import Finished, Journal
from dataplane.lake import Lake
from dataplane.parts import added, merged, split_counts
from dataplane.prep.image import EXTENSIONS, Picture, examine
from dataplane.schema import Schema
from dataplane.store.local import translated

__all__ = ["WriteOptions", "commit", "write"]

KEY: Final = "__key__"
SPLIT: Final = "__split__"
LABEL: Final = "__label__"
_SCALARS: Final = (bool, int, float, str, datetime, date, np.number, np.bool_, np.datetime64)
_ANY: Final = 1 << 62  # pixels: whoever writes a picture has looked at it


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How samples become shards. `split`: names and fractions, by a stable hash of the key, for samples that do not name theirs.
    `formats`: the format of a field ("tar", "parquet", "zarr") where its values do not decide it (see `dataplane.group`). `schema`: a
    `pyarrow.Schema` that types the Parquet fields; without it the first samples of each shard do. `row_group_bytes`: of Parquet, before
    compression; it is what reading one sample costs. `codecs`: one for Parquet and Zarr, as far as each of them knows it, or those of Zarr
    fields by name. `chunks`: of Zarr fields, see `dataplane.formats.zarr.Writer`.
    `new_keys`: no sample of the dataset has any of the keys, the caller says. Then nothing of it is read, and a write costs what it
    brings, however large the dataset is; where that is not so, the dataset has two samples of one key."""

    split: str = "train=1"
    shard_bytes: int = 64 << 20
    formats: Mapping[str, str] = field(default_factory=dict)
    schema: Any = None
    row_group_bytes: int = ROW_GROUP_BYTES
    codecs: str | Mapping[str, str] = DEFAULT_CODEC
    chunks: Mapping[str, Sequence[int]] = field(default_factory=dict)
    new_keys: bool = False

    def __post_init__(self) -> None:
        if self.shard_bytes < 1:
            raise InvalidArgument(f"shard_bytes is {self.shard_bytes}; it must be at least 1")
        for name, format_ in self.formats.items():
            if format_ not in FORMATS:
                raise InvalidArgument(f"{name!r} is to lie in {format_!r}; the formats are {', '.join(FORMATS[:-1])} and {FORMATS[-1]}")
        check_codecs(self.codecs)

    def by_format(self) -> dict[str, dict[str, Any]]:
        """What the writer of each format is given."""
        options = writer_options(codecs=self.codecs, chunks=self.chunks, row_group_bytes=self.row_group_bytes)
        return {**options, "parquet": {**options["parquet"], "schema": self.schema}}


def write(lake: Lake, name: str, samples: Iterable[Mapping[str, Value]], *, options: WriteOptions = WriteOptions()) -> Dataset:
    """Add samples to the dataset `name`, which is made if it is missing; those with a key that it has replace the ones there.

    A sample is a mapping from field names to values, with its key under `__key__`, and if wanted its split under `__split__` and its label
    under `__label__`. `samples` is read once, and a shard at a time is kept on the local disk. Nothing shows before the commit at the end;
    where the samples are the same as before, there is none. The version that is the newest then is returned.

    Raises `InvalidArgument` where a sample has no key, or a value that its format cannot hold, and `BadSample` where a field that is named
    like a picture holds none; each names the sample.
    """
    check_name(name)
    splits = Splits.parse(options.split, None)
    about = {"write": name}
    with scratch() as folder, Journal(lake.store, name, about=about) as journal, _Shards(lake, folder, options, journal) as shards:
        for sample in samples:
            shards.add(sample, splits)
        version = commit(lake, name, shards.finish(), options)
        journal.finish()
    return Dataset(lake.store, version)


@dataclass(slots=True)
class _Open:
    """A shard under way, and the metadata of its samples."""

    split: str
    group: Group
    rows: list[dict[str, Any]] = field(default_factory=list)
    values: list[dict[str, Value]] = field(default_factory=list)  # those that may be small enough for the metadata too


class _Shards:
    """One shard under way for every split."""

    def __init__(self, lake: Lake, folder: Path, options: WriteOptions, journal: Journal) -> None:
        self._lake = lake
        self._folder = folder
        self._options = options
        self._journal = journal
        self._open: dict[str, _Open] = {}
        self._finished: list[Finished] = []
        self._keys: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for shard in self._open.values():
            shard.group.__exit__(kind, error, trace)

    def add(self, sample: Mapping[str, Value], splits: Splits) -> None:
        key = sample.get(KEY)
        if not isinstance(key, str) or not key:
            raise InvalidArgument(f"a sample needs its key, a text that is not empty, under {KEY!r}; got {key!r}")
        if key in self._keys:
            raise InvalidArgument(f"{key!r} is the key of two samples; a key names one")
        self._keys.add(key)
        shard = self._shard(_split(key, sample, splits))
        fields = {name: value for name, value in sample.items() if name not in {KEY, SPLIT, LABEL} and value is not None}
        pictures = {name: _examined(key, name, value) for name, value in fields.items() if isinstance(value, bytes) and name in EXTENSIONS}
        with translated(self._folder):
            shard.group.add(key, fields, {name: picture.info for name, picture in pictures.items()})
        size = next(iter(pictures.values())).upright if pictures else (None, None)
        shard.rows.append(_row(len(shard.rows), key, sample.get(LABEL), size, fields))
        shard.values.append({name: value for name, value in fields.items() if isinstance(value, _SCALARS)})
        if shard.group.size >= self._options.shard_bytes:
            self._end(shard.split)

    def finish(self) -> list[Finished]:
        for split in sorted(self._open):
            self._end(split)
        return self._finished

    def _shard(self, split: str) -> _Open:
        if split not in self._open:
            group = Group(self._folder, formats=self._options.formats, options=self._options.by_format())
            self._open[split] = _Open(split, group)
        return self._open[split]

    def _end(self, split: str) -> None:
        shard = self._open.pop(split)
        with translated(self._folder), shard.group:
            row = shard.group.finish(self._lake.objects, split)
        metadata = _with_scalars(pa.Table.from_pylist(shard.rows, schema=COLUMNS), shard.values)
        finished = Finished(row, metadata, shard.group.fields)
        self._journal.add(finished)
        self._finished.append(finished)


def _split(key: str, sample: Mapping[str, Value], splits: Splits) -> str:
    """The split of a sample: the one that it names, or by its key."""
    named = sample.get(SPLIT)
    if named is not None and not isinstance(named, str):
        raise InvalidArgument(f"{key!r}: a split is named by a text; got {named!r}")
    try:
        return check_name(named, "split") if named else splits.of(key, key)
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{key!r} cannot be a key: it is not Unicode text; escape its odd bytes first") from error


def _examined(key: str, name: str, value: bytes) -> Picture:
    try:
        return examine(value, decode=False, max_pixels=_ANY)
    except BadSample as error:
        raise BadSample(f"{key!r}: field {name!r}: {error}; fields of other bytes need another name") from error


def _row(row: int, key: str, label: Any, size: tuple[int | None, int | None], fields: Mapping[str, Value]) -> dict[str, Any]:
    digest = blake3()
    for name, value in sorted(fields.items()):
        digest.update(name.encode() + b"\0" + _bytes(value))
    return {
        "row": row,
        "key": key,
        "label": None if label is None else str(label),
        "width": size[0],
        "height": size[1],
        "bytes": sum(map(size_of, fields.values())),
        "source": key,
        "source_etag": "",
        "source_blake3": digest.digest(),
        CLASS_ID: -1,
    }


def _with_scalars(metadata: Any, values: Sequence[Mapping[str, Value]]) -> Any:
    """The metadata with what values are small enough to choose samples by: numbers, times and short texts."""
    columns = {}
    for name in sorted({name for each in values for name in each}):
        with suppress(pa.ArrowException):  # of several types: then they are only in the shard
            columns[name] = pa.array([each.get(name) for each in values])
    table = pa.table(columns)
    for name in scalar_columns(table.schema, long_texts(table), RESERVED):
        metadata = metadata.append_column(name, table.column(name))
    return metadata


def _bytes(value: Value) -> bytes:
    """The bytes of a value, to tell it from another."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        return f"{value.dtype}{value.shape}".encode() + value.tobytes()
    with suppress(TypeError, ValueError):  # what JSON does not hold
        return canonical_json(value)
    if isinstance(value, Mapping):
        return b"{%b}" % b",".join(b"%b:%b" % (_bytes(name), _bytes(each)) for name, each in value.items())
    if isinstance(value, list | tuple | np.ndarray):
        return b"[%b]" % b",".join(map(_bytes, value))
    return repr(value).encode(errors="backslashreplace")


def commit(lake: Lake, name: str, finished: Sequence[Finished], options: WriteOptions) -> Version:
    """The end of a write: commit shards that are in the lake, with the metadata of their samples."""
    if not finished:
        raise InvalidArgument(f"there were no samples to write to {name!r}")
    state = load(lake, None)
    parameters = {"split": options.split, "shard_bytes": options.shard_bytes}

    def make(newest: Version | None) -> Change | None:
        nonlocal state
        state = load(lake, newest)
        change = edit(state, finished, {})
        if change.nothing:
            return None
        parts = new_parts(lake.objects, state, change)
        schema = _schema(state.schema, change.finished)
        told = newest.bad if newest else {}
        return Change("write", parameters, schema, tuple(merged(lake.objects, [part for part, _ in parts])), split_counts(parts), told)

    def extend(newest: Version | None) -> Change:
        ((part, shards),) = new_parts(lake.objects, state, Edit(finished=list(finished)))
        splits = split_counts([(part, shards)])
        if newest is None:
            return Change("write", parameters, _schema(Schema(), finished), (part,), splits)
        parts = tuple(merged(lake.objects, (*newest.parts, part)))
        return Change("write", parameters, _schema(newest.schema, finished), parts, added(newest.splits, splits), newest.bad)

    version = lake.catalog.commit(name, extend if options.new_keys else make) or state.version
    assert version is not None
    return version


def _schema(before: Schema, finished: Sequence[Finished]) -> Schema:
    return before.merged(dict.fromkeys(field for item in finished for field in item.fields), ())
