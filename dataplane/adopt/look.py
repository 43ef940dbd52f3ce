"""One object of a source: what it is, and what stands for it in the dataset. Only an index is written, into the lake."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataplane.adopt import tars
from dataplane.adopt.counted import CountedObjects
from dataplane.adopt.options import AdoptOptions
from dataplane.adopt.source import Found
from dataplane.adopt.windows import LOCAL, REMOTE, Costs
from dataplane.errors import (
    BadSample,
    CorruptObject,
    DataplaneError,
    InvalidArgument,
    NotFound,
    SourceChanged,
    StoreError,
    StoreUnavailable,
)
from dataplane.formats import compressed, open_shard
from dataplane.formats.compressed import Fetch
from dataplane.formats.index import ShardIndex, read_index, write_keys, write_places
from dataplane.group import array_name, arrow_name
from dataplane.ingest.options import Bad
from dataplane.memory import keep_freed_memory, scratch
from dataplane.objects import Objects, digest_bytes
from dataplane.prep.image import EXTENSIONS
from dataplane.schema import Field
from dataplane.shards import ShardRow
from dataplane.store.local import LocalStore, translated

if TYPE_CHECKING:
    from dataplane.formats.zarr import ArrayInfo

__all__ = ["Adopted", "Looked", "look", "nothing_of"]

_BATCH: Final = 1024
_LABEL_BYTES: Final = 256
_SECTION: Final = "adopt"
_XZ: Final = b"\xfd7zXZ\x00"


@dataclass(frozen=True, slots=True, eq=False)
class Adopted:
    """A shard to be, its keys (an Arrow array) and what else is known of its samples: `label` and columns of Parquet."""

    row: ShardRow
    keys: Any
    sizes: Any
    columns: dict[str, Any]
    fields: tuple[Field, ...]


@dataclass(slots=True)
class Looked:
    """What came of one object. `format` is None where it is nothing that can be adopted. `settled`: it was looked at, and once more would
    come to the same."""

    found: Found
    format: str | None = None
    shard: Adopted | None = None
    bad: list[Bad] = field(default_factory=list)
    ignored: int = 0
    bytes_read: int = 0
    compression: str | None = None
    unlabelled: int = 0
    settled: bool = False


def nothing_of(found: Found, reason: str, *, settled: bool = True) -> Bad:
    """The entry for an object of which nothing goes in. Unless it is `settled`, it has no etag, and the object is looked at again."""
    url = found.url
    for start in (f"{url}: ", f"{url} "):
        reason = reason.removeprefix(start)
    return Bad(url, reason, found.etag if settled else None)


def look(found: Found, split: str, options: AdoptOptions, objects: Objects) -> Looked:
    """Scan one object. What is wrong with it is in `Looked.bad`; raises what the lake's store raises, and `StoreUnavailable`."""
    looked, counted = Looked(found), CountedObjects(objects.store)
    shard = None
    try:
        with _reading(found, counted) as fetch:
            looker = _Looker(looked, split, options, counted, fetch)
            shard = looker.look()
        looked.settled = True
    except StoreUnavailable:
        raise
    except DataplaneError as error:
        looked.settled = isinstance(error, CorruptObject) or not isinstance(error, StoreError)
        looked.bad = [nothing_of(found, str(error), settled=looked.settled)]
        shard = None
    looked.bytes_read = counted.bytes_read
    if shard is not None:
        objects.put(looker.index, suffix=".idx", ref=shard.row.index)
        looked.shard = shard
    return looked


@contextmanager
def _reading(found: Found, objects: CountedObjects) -> Iterator[Fetch]:
    """How to read an object; what is read is valid until the next read. A file of this machine is opened once, and must be the same at the
    end."""
    if found.zarr or not isinstance(found.store, LocalStore):
        yield lambda start, length: objects.ranges(found.ref, starts=[start], lengths=[length])[0]
        return
    path = found.store.root / found.path
    with translated(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        keep_freed_memory()

        def pread(start: int, length: int) -> memoryview:
            memory = scratch(length)
            with translated(path):
                read = os.preadv(fd, [memory], start)
            objects.count(read)
            return memory[:read]

        yield pread
    finally:
        os.close(fd)
    if found.store.head(found.path)["e_tag"] != found.etag:
        raise SourceChanged("it changed while it was scanned; run the command again")


class _Looker:
    """What is made of one object. `index` are the bytes of the index that it would have."""

    def __init__(self, looked: Looked, split: str, options: AdoptOptions, objects: Objects, fetch: Fetch) -> None:
        self.looked, self.found, self.options, self.objects = looked, looked.found, options, objects
        self.split = split
        self.fetch = fetch
        self.url, self.ref = looked.found.url, looked.found.ref
        self.index = b""

    def look(self) -> Adopted | None:
        """The shard, or None where the object is not wanted or holds nothing. Raises what says that it is bad."""
        found, looked = self.found, self.looked
        if found.zarr:
            looked.format = "zarr"
            return None if self._unwanted() else self._zarr()
        if not found.size:
            raise BadSample("an empty file")
        head = bytes(self.fetch(0, min(self.costs.first_bytes, found.size)))
        looked.format, looked.compression = _format(head)
        if looked.format is None and self.options.format is None:
            raise BadSample("an xz archive; decompress it first" if head.startswith(_XZ) else "neither a tar nor a Parquet file nor Zarr")
        if self._unwanted():
            return None
        if looked.format == "tar":
            return self._tar(head)
        return self._parquet() if looked.format == "parquet" else self._zip()

    @property
    def costs(self) -> Costs:
        return LOCAL if isinstance(self.found.store, LocalStore) else REMOTE

    def _unwanted(self) -> bool:
        if self.options.format in {None, self.looked.format}:
            return False
        self.looked.ignored += 1
        return True

    def _tar(self, head: bytes) -> Adopted | None:
        looked, size = self.looked, self.found.size
        if looked.compression:
            contents = tars.scan_compressed(self.fetch, size, looked.compression, where=self.url)
        else:
            contents = tars.scan(self.fetch, size, self.costs, head=head, where=self.url)
        looked.ignored += contents.ignored
        told = {bad.name: bad.reason for bad in reversed(contents.bad)}
        looked.bad = [Bad(f"{self.url}: {name}", reason) for name, reason in told.items()]
        if contents.problem or not (len(contents) or looked.bad):
            looked.bad.append(Bad(self.url, contents.problem or "a tar that holds no samples", self.found.etag))
        if not len(contents):
            return None
        keys, sections, crcs = self._keys(contents.keys), {}, {}
        if looked.compression:
            sections[compressed.SECTION] = looked.compression.encode()
        about = {"url": self.url}
        if self.options.verify:
            checks = tars.verify(self.fetch, size, looked.compression, contents, where=self.url)
            about["blake3"], crcs = checks.blake3, checks.crc32c
        sections[_SECTION] = json.dumps(about).encode()
        places = {name: (field.offset, field.size, crcs.get(name)) for name, field in contents.fields.items()}
        self.index = write_places(keys, places, sections)
        median = {name: int(np.median(field.size[field.size >= 0])) for name, field in contents.fields.items()}
        return self._shard(keys, contents.sizes, tuple(map(_field, contents.fields)), median)

    def _parquet(self) -> Adopted:
        from dataplane.formats import parquet
        from dataplane.formats.parquet_plan import parse_footer
        from dataplane.formats.parquet_write import KEY_COLUMN

        options, objects = self.options, self.objects
        raw = parquet.index_of(objects, self.ref, prefix=self.found.name, key_column=options.key, checksum=options.verify)
        layout = parse_footer(parquet.footer_of(objects, self.ref), size=self.ref.size, where=self.url)
        missing = [name for name in options.columns if name not in layout.fields]
        if missing:
            raise NotFound(f"it has no column {', '.join(missing)}; it has {', '.join(layout.fields)}")
        columns = [column for column in layout.schema if column.name not in {options.key, KEY_COLUMN}]
        return self._indexed(raw, [Field(column.name, "value", arrow_name(column.type)) for column in columns])

    def _zarr(self) -> Adopted:
        from dataplane.formats import zarr

        found = self.found
        cut = len(found.path) + 1 if found.path else 0
        metas = (meta for chunk in found.store.list(found.path or None) for meta in chunk)
        listed = [zarr.Listed(meta["path"][cut:], meta["size"], meta["e_tag"]) for meta in metas]
        adopted = zarr.adopt_folder(self.objects, self.url, listed, prefix=self._numbered)
        return self._indexed(adopted.index, [_array_field(info) for info in adopted.arrays])

    def _zip(self) -> Adopted:
        from dataplane.formats import zarr

        try:
            adopted = zarr.adopt_zip(self.objects, self.ref, prefix=self._numbered)
        except (CorruptObject, NotFound) as error:
            raise BadSample(f"a zip file that is no Zarr store: {error}") from error
        return self._indexed(adopted.index, [_array_field(info) for info in adopted.arrays])

    @property
    def _numbered(self) -> str:
        """What stands before the number of a sample that has no key."""
        return f"{self.found.name or self.url.rsplit('/', 1)[-1]}/"

    def _indexed(self, raw: bytes, fields: Sequence[Field]) -> Adopted:
        """A shard of a format that makes its own index. Where it lies is added to that, so that no two are equal."""
        index = read_index(raw, where=self.url)
        if not len(index):
            raise BadSample("it holds no samples")
        keys = self._keys(pa.array(index.keys(), pa.string()))
        self.index = write_keys(keys, {**index.sections, _SECTION: json.dumps({"url": self.url}).encode()})
        sizes = np.full(len(index), self.found.size // len(index), np.int64)
        return self._shard(keys, sizes, tuple(fields), {})

    def _keys(self, keys: Any) -> Any:
        try:
            keys = keys.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise BadSample("its keys take more than 2 GiB") from error
        return pc.binary_join_element_wise(pa.scalar(self.url), keys, "/") if self.options.prefix else keys

    def _shard(self, keys: Any, sizes: Any, fields: tuple[Field, ...], median: dict[str, int]) -> Adopted:
        form, options = self.looked.format or "", self.options
        columns: dict[str, Any] = {}
        if options.verify and form == "zarr":
            open_shard(form, self.objects, self.ref, self._read_index()).verify()
        if options.label_from_field:
            columns["label"] = self._labels(options.label_from_field)
        if options.columns and form == "parquet":
            columns.update(self._columns())
        size = self.found.size if form != "tar" else int(sizes.sum())
        row = ShardRow(self.split, form, self.ref, digest_bytes(self.index, ".idx"), len(keys), size, median_bytes=median)
        return Adopted(row, keys, sizes, columns, fields)

    def _read_index(self) -> ShardIndex:
        return read_index(self.index, where=self.url)

    def _labels(self, name: str) -> Any:
        """The labels in a field, as text; null where it is missing or no short text."""
        index = self._read_index()
        reader = open_shard(self.looked.format or "", self.objects, self.ref, index)
        if name not in reader.fields:
            raise NotFound(f"no field {name!r} to take labels from; it has {', '.join(reader.fields)}")
        labels: list[str | None] = []
        for start in range(0, len(index), _BATCH):
            samples = reader.read_many(range(start, min(start + _BATCH, len(index))), [name])
            labels += [_label(sample.get(name)) for sample in samples]
        self.looked.unlabelled += labels.count(None)
        return pa.array(labels, pa.string())

    def _columns(self) -> dict[str, Any]:
        """Columns of a Parquet file as metadata, under their own names."""
        from dataplane.formats import parquet

        names = list(self.options.columns)
        table = parquet.open(self.objects, self.ref, self._read_index()).read_table(None, names)
        columns = {}
        for name in names:
            column = table.column(name).combine_chunks()
            kind = column.type
            if pa.types.is_dictionary(kind):
                column, kind = column.cast(kind.value_type), kind.value_type
            if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
                raise InvalidArgument(f"column {name!r} of {kind} cannot become metadata; numbers, times and text can")
            columns[name] = column
        return columns


def _format(head: bytes) -> tuple[str | None, str | None]:
    """Format and compression of an object by how it begins, whatever its name says."""
    if head.startswith((b"PAR1", b"PARE")):
        return "parquet", None
    if head.startswith(b"PK\x03\x04"):
        return "zarr", None
    compression = compressed.compression_of(head)
    if compression:
        return "tar", compression
    if len(head) >= 512 and (head[257:262] == b"ustar" or _old_tar(head)):
        return "tar", None
    return None, None


def _old_tar(head: bytes) -> bool:
    """A header without a magic word, whose checksum is right; or the zeros of an archive without members."""
    block = head[:512]
    try:
        said = int(block[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        return False
    return said == sum(block[:148]) + sum(block[156:]) + 256 or not any(block)


def _label(value: Any) -> str | None:
    if isinstance(value, bytes | memoryview):
        raw = bytes(value)
        try:
            text = raw.decode().strip() if len(raw) <= _LABEL_BYTES else ""
        except UnicodeDecodeError:
            return None
        return text if text and text.isprintable() else None
    if isinstance(value, str | int | float | bool | np.generic):
        text = str(value)
        return text if len(text) <= _LABEL_BYTES else None
    return None


def _field(name: str) -> Field:
    return Field(name, "image" if name in EXTENSIONS else "class" if name == "cls" else "bytes")


def _array_field(info: ArrayInfo) -> Field:
    return Field(info.field, "array", array_name(info.dtype, info.shape[1:]))
