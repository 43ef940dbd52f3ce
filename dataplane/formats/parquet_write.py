"""The writer of Parquet shards: samples gathered into row groups that are small enough to be read for one of them."""

from __future__ import annotations

import contextlib
import inspect
import io
import mmap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataplane.errors import InvalidArgument
from dataplane.formats.index import write_keys
from dataplane.formats.options import ROW_GROUP_BYTES, parse_codec
from dataplane.formats.parquet_plan import batches, cut, gaps, parse_footer
from dataplane.formats.parquet_tokens import TokenTally, token_field
from dataplane.formats.parquet_values import fits, from_values, infer, size_of
from dataplane.formats.tar import crc32c
from dataplane.objects import digest_file
from dataplane.ranges import Span
from dataplane.refs import Digest

__all__ = ["CHECKSUMS", "FOOTER", "KEYS", "KEY_COLUMN", "SUFFIX", "Writer", "checksums", "footer_at"]

SUFFIX: Final = ".parquet"
KEY_COLUMN: Final = "__key__"
FOOTER: Final = "parquet.footer"  # the last bytes of the file: its footer, the length of that, the magic
CHECKSUMS: Final = "parquet.crc32c"  # one uint32 a column chunk, leaf after leaf, group after group; and one of all bytes in no chunk
KEYS: Final = "parquet.keys"  # the column that the keys came from; empty where they were made up
_INFER_SAMPLES: Final = 64  # a type from fewer would rest on too little: one array is of one length
_INFER_BYTES: Final = 64 << 20
_PAGE_BYTES: Final = 64 << 20  # more than a row group has, so that a column of one is one page
_PAGE_ROWS: Final = 1 << 30  # the same of its rows
_READ_BYTES: Final = 32 << 20  # at a time, for checksums
_TYPES: Final = {pa.string(): str, pa.int64(): int, pa.float64(): float, pa.bool_(): bool, pa.binary(): bytes}


class Writer:
    """Writes one shard to a local file. Not thread-safe; use it in a `with` block.

    `schema`: the columns besides the key, in their order; without it they are inferred from the first samples: some 64, and at least a
    row group. `row_group_bytes`: where a row group ends, before compression; it is what reading one sample costs. `codec`: "zstd",
    "snappy", "gzip" or "none", with a level as in "zstd:9". A token column (see `parquet_tokens`) stays uncompressed. Equal samples give
    equal bytes with one release of Arrow. After an error the file is of no use.
    """

    def __init__(self, path: Path, *, schema: pa.Schema | None = None, row_group_bytes: int = ROW_GROUP_BYTES, codec: str = "zstd") -> None:
        if row_group_bytes < 1:
            raise InvalidArgument(f"row_group_bytes is {row_group_bytes}; it needs to be positive, such as {ROW_GROUP_BYTES}")
        self.path = path
        self.size = 0
        self.tokens: int | None = None  # once it is finished: how many are in its token column, None where it has none
        self._tally: TokenTally | None = None
        self._codec, self._level = parse_codec(codec, "parquet")
        self._limit = row_group_bytes
        self._schema = None if schema is None else _checked(schema)
        self._required = [field.name for field in schema or () if not field.nullable]
        self._keys: dict[str, None] = {}
        self._waiting: list[tuple[str, Mapping[str, Any]]] = []  # samples that are not columns yet
        self._waiting_sizes: list[int] = []
        self._waiting_bytes = 0
        self._first: dict[str, tuple[str, Any]] = {}  # key and value of the first sample that has a field
        self._ready: list[pa.Table] = []  # columns that are not in the file yet
        self._ready_sizes: list[int] = []
        self._file: pq.ParquetWriter | None = None

    @property
    def schema(self) -> pa.Schema | None:
        """The columns, the key among them. None before they are settled; at the end they are."""
        return self._schema

    def add(self, key: str, fields: Mapping[str, Any]) -> None:
        """Append a sample. A field that is None counts as absent. Where types are inferred, a value that does not go with those before it
        may be reported by a later call; the message names its key. Buffers are copied; lists and dicts must not change meanwhile."""
        self.check(key, fields)
        self._keys[key] = None
        size = len(key) + sum(map(size_of, fields.values()))
        kept = {name: _kept(value) for name, value in fields.items()}
        self._waiting.append((key, kept))
        for name, value in kept.items() if self._schema is None else ():
            if value is not None:
                self._first.setdefault(name, (key, value))
        self._waiting_sizes.append(size)
        self._waiting_bytes += size
        self.size += size
        settled = self._schema is not None or len(self._waiting) >= _INFER_SAMPLES or self._waiting_bytes >= _INFER_BYTES
        if settled and self._waiting_bytes >= self._limit:
            self._gather()
            self._write_full()

    def add_table(self, keys: Sequence[str], table: pa.Table) -> None:
        """Append the rows of a table, without a detour through Python values; `keys` has one for each."""
        if len(keys) != len(table):
            raise InvalidArgument(f"{len(keys)} keys for a table of {len(table)} rows; each row needs one")
        for key in keys:
            self._check_key(key)
            self._keys[key] = None
        self._gather()
        if self._schema is None:
            self._schema = _checked(table.schema)
        if not len(table):
            return
        self._ready.append(_fitted(keys, table, self._schema))
        each, rest = divmod(table.nbytes, len(table))
        self._ready_sizes += [each + (i < rest) for i in range(len(table))]
        self.size += table.nbytes
        self._write_full()

    def check(self, key: str, fields: Mapping[str, Any]) -> None:
        """Raise `InvalidArgument` for a sample that `add` would refuse."""
        self._check_key(key)
        if KEY_COLUMN in fields:
            raise InvalidArgument(f"{key!r}: {KEY_COLUMN!r} is the column of the keys; give the field another name")
        present = {name: value for name, value in fields.items() if value is not None}
        if self._schema is None:
            for name, value in present.items():
                first = self._first.get(name)
                infer([key] if first is None else [first[0], key], name, [value] if first is None else [first[1], value])
            return
        for name in (name for name in self._required if name not in present):
            raise InvalidArgument(f"{key!r} lacks the field {name!r}, and the schema says that every sample has it")
        for name, value in present.items():
            if self._schema.get_field_index(name) < 0:
                have = ", ".join(sorted(column for column in self._schema.names if column != KEY_COLUMN))
                raise InvalidArgument(
                    f"{key!r} has the field {name!r}, which this shard does not; it has {have}; give the writer a schema with all fields"
                )
            column = self._schema.field(name)
            if not _surely_fits(column.type, value):
                from_values([key], column, [value])

    def finish(self) -> tuple[Digest, bytes]:
        """End the file. The digest of the shard, and the bytes of its index."""
        self._gather()
        self._write_full()
        if self._ready:
            self._write([len(self._ready_sizes)])
        self._open().close()
        ref = digest_file(self.path, SUFFIX)
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data, memoryview(data) as view:
            tail = bytes(view[footer_at(bytes(view[-8:]), ref.size) :])
            layout = parse_footer(tail, size=ref.size, where=str(self.path))
            crcs = checksums(layout.chunks(), ref.size, lambda spans: [bytes(view[span.start : span.end]) for span in spans])
            self.tokens, of_tokens = self._tally.sections(layout, view) if self._tally else (None, {})
        return ref, write_keys(list(self._keys), {FOOTER: tail, CHECKSUMS: crcs, KEYS: KEY_COLUMN.encode(), **of_tokens})

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            with contextlib.suppress(pa.ArrowException, OSError):
                self._file.close()

    def _check_key(self, key: str) -> None:
        try:
            key.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"{key!r} cannot be a key: it is not Unicode text; escape its odd bytes first") from error
        if not key:
            raise InvalidArgument("a sample needs a key that is not empty")
        if key in self._keys:
            raise InvalidArgument(f"{key!r} is in this shard already; a key names one sample")

    def _gather(self) -> None:
        """Make columns of the samples that wait."""
        if not self._waiting:
            return
        if self._schema is None:
            self._schema = _inferred(self._waiting)
        schema: Any = self._schema
        keys = [key for key, _ in self._waiting]
        columns = [from_values(keys, field, [fields.get(field.name) for _, fields in self._waiting]) for field in list(schema)[1:]]
        self._ready.append(pa.Table.from_arrays([pa.array(keys, pa.string()), *columns], schema=schema))
        self._ready_sizes += self._waiting_sizes
        self._waiting, self._waiting_sizes, self._waiting_bytes = [], [], 0

    def _write_full(self) -> None:
        if sum(self._ready_sizes) >= self._limit:
            self._write(cut(self._ready_sizes, self._limit))

    def _write(self, counts: Sequence[int]) -> None:
        """Write the first samples that are ready as row groups of so many."""
        table = pa.concat_tables(self._ready).combine_chunks()
        file = self._open(table.slice(0, counts[0]))
        at = 0
        for count in counts:
            group = table.slice(at, count)
            file.write_table(group, row_group_size=count)
            if self._tally:
                self._tally.add(group.column(self._tally.field))
            at += count
        self._ready = [table.slice(at)] if at < len(table) else []
        self._ready_sizes = self._ready_sizes[at:]

    def _open(self, first: pa.Table | None = None) -> pq.ParquetWriter:
        if self._file is None:
            schema = self._schema or pa.schema([_key_field()])
            tokens = token_field(schema)
            self._tally = None if tokens is None else TokenTally(tokens)
            try:
                self._file = pq.ParquetWriter(
                    self.path,
                    schema,
                    **_compression(schema, self._codec, self._level, plain=tokens),
                    use_dictionary=[] if first is None else _repetitive(first),
                    write_statistics=[field.name for field in schema if _is_small(field.type)],
                    write_page_index=True,
                    write_page_checksum=True,
                    data_page_size=_PAGE_BYTES,
                )
            except (pa.ArrowException, NotImplementedError) as error:
                raise InvalidArgument(f"{schema} cannot be the schema of a Parquet shard: {error}") from error
        return self._file


def _compression(schema: pa.Schema, codec: str, level: int | None, *, plain: str | None) -> dict[str, Any]:
    """What the writer of Arrow is told of compression, with the column `plain` left as it is, in one page a row group."""
    if plain is None:
        return {"compression": codec, "compression_level": level}
    sink = io.BytesIO()
    pq.write_table(schema.empty_table(), sink)  # the one way to the names of leaves
    layout = parse_footer(sink.getvalue()[4:], size=sink.tell(), where="an empty table")
    leaves = {layout.metadata.schema.column(leaf).path: name for name, mine in layout.fields.items() for leaf in mine}
    levels = None if level is None else {path: level for path, name in leaves.items() if name != plain}
    codecs = {path: "none" if name == plain else codec for path, name in leaves.items()}
    # Older releases of Arrow end pages by their bytes alone.
    rows = {"max_rows_per_page": _PAGE_ROWS} if "max_rows_per_page" in inspect.signature(pq.write_table).parameters else {}
    return {"compression": codecs, "compression_level": levels, **rows}


def _surely_fits(kind: pa.DataType, value: Any) -> bool:
    """Whether a value of a sample is one that a column takes: the usual ones, without asking Arrow. False says nothing."""
    return type(value) is _TYPES.get(kind) and (type(value) is not int or -(1 << 63) <= value < 1 << 63)


def footer_at(end: bytes, size: int) -> int:
    """Where the footer of a file of `size` bytes begins, from its last eight; negative for a length that cannot be."""
    return size - 8 - int.from_bytes(end[-8:-4], "little")


def checksums(chunks: Sequence[Span], size: int, read: Any) -> bytes:
    """The section `CHECKSUMS` of a file's index. `read` gives the bytes of spans."""
    runs = batches([len(chunk) for chunk in chunks], _READ_BYTES)
    crcs = [crc32c(piece) for run in runs for piece in read([chunks[i] for i in run])]
    crcs.append(crc32c(b"".join(read(gaps(chunks, size)))))
    return np.array(crcs, "<u4").tobytes()


def _kept(value: Any) -> Any:
    """A value that its owner may overwrite, as it is now."""
    if isinstance(value, np.ndarray):
        return value.copy()
    return bytes(value) if isinstance(value, (bytearray, memoryview)) else value


def _key_field() -> pa.Field:
    return pa.field(KEY_COLUMN, pa.string(), nullable=False)


def _checked(schema: pa.Schema) -> pa.Schema:
    if KEY_COLUMN in schema.names or len(set(schema.names)) != len(schema.names):
        raise InvalidArgument(
            f"{', '.join(schema.names)} cannot be the columns of a shard: names differ, and {KEY_COLUMN!r} is for the keys"
        )
    return pa.schema([_key_field(), *schema], metadata=schema.metadata)


def _inferred(samples: Iterable[tuple[str, Mapping[str, Any]]]) -> pa.Schema:
    found: dict[str, tuple[list[str], list[Any]]] = {}
    for key, fields in samples:
        for name, value in fields.items():
            if value is not None:
                keys, values = found.setdefault(name, ([], []))
                keys.append(key)
                values.append(value)
    return _checked(pa.schema([pa.field(name, infer(keys, name, values)) for name, (keys, values) in sorted(found.items())]))


def _fitted(keys: Sequence[str], table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with its keys, in the columns of `schema`."""
    unknown = sorted(set(table.column_names) - set(schema.names[1:]))
    if unknown:
        raise InvalidArgument(f"the table has the column {unknown[0]!r}; this shard has {', '.join(schema.names[1:]) or 'none'}")
    columns: list[Any] = [pa.array(keys, pa.string())]
    for field in list(schema)[1:]:
        column = table.column(field.name) if field.name in table.column_names else pa.nulls(len(table), field.type)
        if not fits(column.type, field.type) or (column.null_count and not field.nullable):
            raise InvalidArgument(
                f"the table's column {field.name!r} of {column.type} with {column.null_count} nulls does not fit this shard's: {field}"
            )
        try:
            columns.append(column if column.type.equals(field.type) else column.cast(field.type))
        except (pa.ArrowException, ValueError) as error:
            raise InvalidArgument(f"the table's column {field.name!r} does not fit this shard's {field.type}: {error}") from error
    return pa.Table.from_arrays(columns, schema=schema)


def _repetitive(table: pa.Table) -> list[str]:
    """The columns whose values come more than twice in a row group: those are written as a dictionary."""
    types = pa.types
    return [
        field.name
        for field, column in zip(table.schema, table.columns, strict=True)
        if (types.is_string(field.type) or types.is_binary(field.type) or types.is_integer(field.type) or types.is_temporal(field.type))
        and pc.count_distinct(column).as_py() * 2 <= len(column)
    ]


def _is_small(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_temporal(kind))
