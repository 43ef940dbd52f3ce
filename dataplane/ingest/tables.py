"""Tables, of which one file is many samples: CSV, JSON Lines, Parquet, Arrow, and text, a line of which is a sample.

A file is read in pieces, each row gets its key (the path and the row's number, or a column's value), and pieces become Parquet shards;
of a Parquet or Arrow file, or a text, one piece after another comes from the file, so that it may be larger than the memory. A
file that has not changed since the newest version is not read; one that has replaces all samples that came from it.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.json
import pyarrow.parquet as pq

from dataplane.errors import BadSample, InvalidArgument
from dataplane.formats.parquet_write import KEY_COLUMN
from dataplane.group import arrow_name
from dataplane.ingest.source import Entry
from dataplane.ingest.splits import Splits, key_hash
from dataplane.schema import Field

__all__ = [
    "Columns",
    "Rows",
    "TablePlan",
    "in_hash_order",
    "is_large",
    "long_texts",
    "one_schema",
    "plan_tables",
    "read_tables",
    "rows_of",
    "scalar_columns",
    "schema_fields",
]

_PIECE_ROWS: Final = 1 << 16
_PIECE_BYTES: Final = 64 << 20  # decoded, about: wide rows come in pieces of fewer
_LARGE_BYTES: Final = 64 << 20
_BUFFER_BYTES: Final = 1 << 20  # of a column chunk, that are read ahead
_LABEL_LENGTH: Final = 64
TEXT: Final = "text"


@dataclass(frozen=True, slots=True)
class TablePlan:
    """The files whose rows the dataset lacks or has in an older form, those that it has, and the keys of what has to go, with the BLAKE3
    of the file that it came from."""

    todo: tuple[Entry, ...]
    kept: int
    drop: dict[str, bytes]


def plan_tables(
    entries: Sequence[Entry],
    present: Any,
    *,
    sync: bool,
    same_settings: bool,
    labels: Mapping[str, str] | None = None,
    unread: Sequence[str] = (),
) -> TablePlan:
    """What is to be done, given the samples that the dataset has (columns key, label, source, source_etag, source_blake3). Pure.

    The samples of a file that has changed, or has another label in `labels` now, and with `sync` of one that went away, are dropped; where
    the file still has a key, its new sample takes the old one's place. With other settings than before, every file is read again. Nothing
    has gone from the folders `unread`, as far as anybody knows.
    """
    sources = present.column("source")
    found = present.group_by("source", use_threads=False).aggregate([("source_etag", "last"), ("label", "last")])
    columns = (found.column(name).to_pylist() for name in ("source", "source_etag_last", "label_last"))
    known = {path: (etag, label) for path, etag, label in zip(*columns, strict=True)}
    now = {entry.path: (entry.etag, labels[entry.path] if labels else known.get(entry.path, ("", None))[1]) for entry in entries}
    same = {entry.path for entry in entries if same_settings and known.get(entry.path) == now[entry.path]}
    there = {entry.path for entry in entries}
    closed = tuple(f"{folder}/" if folder else "" for folder in unread)
    gone = {path for path in known if (path not in same if path in there else sync and not path.startswith(closed))}
    keep = pc.is_in(sources, value_set=pa.array(sorted(same), pa.string()))
    old = present.filter(pc.is_in(sources, value_set=pa.array(sorted(gone), pa.string())))
    drop = dict(zip(old.column("key").to_pylist(), old.column("source_blake3").to_pylist(), strict=True))
    return TablePlan(tuple(entry for entry in entries if entry.path not in same), int(pc.sum(keep).as_py() or 0), drop)


def is_large(path: str, size: int, *, text: bool) -> bool:
    """Whether a file is to be read twice, piece by piece, rather than once as a whole; of other formats files have to fit into memory."""
    return size >= _LARGE_BYTES and (text or _extension(path) in _IN_PIECES)


def read_tables(path: str, file: Any, *, text: bool) -> Iterator[pa.Table]:
    """The rows of a table, or with `text` the lines of a text, in pieces of one schema, out of an Arrow file. Raises `BadSample`."""
    if not file.size():
        raise BadSample("it is empty")
    extension = _extension(path)
    reader = _text if text else _READERS.get(extension)
    if reader is None:
        raise BadSample(f"it is no table: its name ends in none of {', '.join(sorted(_READERS))}")
    try:
        for piece in reader(file):
            yield _usual(piece)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadSample(f"it cannot be read as {extension}: {_first_line(error)}") from error


def _usual(table: pa.Table) -> pa.Table:
    """The same values, checked, and in the usual types instead of those that only save memory. Raises Arrow's errors."""
    table.validate(full=True)  # a Parquet or Arrow file may say that bytes are text
    for i, column in enumerate(table.schema):
        kind = column.type
        if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
            values = pc.run_end_decode(table.column(i)) if pa.types.is_run_end_encoded(kind) else table.column(i).cast(kind.value_type)
            table = table.set_column(i, column.with_type(values.type), values)
        elif str(kind) in _VIEWS:
            table = table.set_column(i, column.with_type(_VIEWS[str(kind)]), table.column(i).cast(_VIEWS[str(kind)]))
    return table


def _csv(file: Any) -> Iterator[pa.Table]:
    yield from _pieces([pa.csv.read_csv(file)])


def _tsv(file: Any) -> Iterator[pa.Table]:
    yield from _pieces([pa.csv.read_csv(file, parse_options=pa.csv.ParseOptions(delimiter="\t"))])


def _json(file: Any) -> Iterator[pa.Table]:
    yield from _pieces([pa.json.read_json(file)])


def _parquet(file: Any) -> Iterator[pa.Table]:
    parquet = pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    for group in range(parquet.num_row_groups):
        metadata = parquet.metadata.row_group(group)
        rows = max(1, min(_PIECE_ROWS, _PIECE_BYTES * metadata.num_rows // max(1, metadata.total_byte_size)))
        batches = parquet.iter_batches(rows, row_groups=[group])
        yield from _pieces((pa.Table.from_batches([batch]) for batch in batches), rows)


def _arrow(file: Any) -> Iterator[pa.Table]:
    try:
        reader = pa.ipc.open_file(file)
    except pa.ArrowInvalid:  # the first version of Feather
        file.seek(0)
        yield from _pieces([pa.feather.read_table(file)])
    else:
        yield from _pieces(pa.Table.from_batches([reader.get_batch(i)]) for i in range(reader.num_record_batches))


def _text(file: Any) -> Iterator[pa.Table]:
    lines = io.TextIOWrapper(file, encoding="utf-8", newline=None)
    piece: list[str] = []
    for line in lines:
        text = line.rstrip("\n")
        if text.strip():
            piece.append(text)
        if len(piece) == _PIECE_ROWS:
            yield pa.table({TEXT: pa.array(piece, pa.string())})
            piece = []
    if piece:
        yield pa.table({TEXT: pa.array(piece, pa.string())})


_VIEWS: Final = {"string_view": pa.string(), "binary_view": pa.binary()}
_READERS: Final = {
    "csv": _csv,
    "tsv": _tsv,
    "jsonl": _json,
    "ndjson": _json,
    "parquet": _parquet,
    "pq": _parquet,
    "arrow": _arrow,
    "feather": _arrow,
}


_IN_PIECES: Final = frozenset({"parquet", "pq", "arrow", "feather"})


def _extension(path: str) -> str:
    return posixpath.splitext(path)[1][1:].lower()


def _pieces(tables: Iterable[pa.Table], rows: int = _PIECE_ROWS) -> Iterator[pa.Table]:
    """The same rows, so many at a time."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += len(table)
        if count >= rows:
            whole = pa.concat_tables(waiting)
            full = count - count % rows
            yield from (whole.slice(start, rows) for start in range(0, full, rows))
            waiting, count = [whole.slice(full)], count - full
    if count:
        yield pa.concat_tables(waiting)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:300]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one file: their keys, splits and labels, and their columns. `named`: the keys are the values of a column, and not unique by
    themselves."""

    keys: list[str]
    splits: npt.NDArray[np.object_]
    labels: list[str | None]
    table: pa.Table = field(repr=False)
    named: bool

    def fitted(self, schema: pa.Schema) -> Rows:
        """The same rows, with the columns as `schema` has them. Raises `BadSample` for a value that is lost by that."""
        columns = []
        for column in schema:
            try:
                columns.append(self.table.column(column.name).cast(column.type))
            except (pa.ArrowException, ValueError) as error:
                raise BadSample(f"its column {column.name!r} does not go into one of {column.type}: {_first_line(error)}") from error
        return replace(self, table=pa.table(columns, schema=schema))

    def take(self, rows: npt.NDArray[np.int64]) -> Rows:
        """Some of the rows, in this order."""
        at = rows.tolist()
        return Rows(
            [self.keys[i] for i in at], self.splits[rows], [self.labels[i] for i in at], self.table.take(pa.array(rows)), self.named
        )


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table that hold keys and labels; None where none does."""

    key: str | None = None
    label: str | None = None


def rows_of(path: str, first: int, table: pa.Table, columns: Columns, *, label: str | None, splits: Splits) -> Rows:
    """What rows `first`, `first + 1`, … of a file become. A column `__key__` holds the keys, as in our own shards, and is no field. Raises
    `BadSample` where a column is missing or cannot be one, or where a key is missing."""
    key = columns.key or (KEY_COLUMN if KEY_COLUMN in table.column_names else None)
    for option, name in (("--key", key), ("--label-from column:", columns.label)):
        if name is not None and name not in table.column_names:
            raise BadSample(f"it has no column {name!r}, which {option} names; its columns are {', '.join(table.column_names)}")
    _check_names(table.column_names, key)
    keys = [f"{path}#{first + i}" for i in range(len(table))] if key is None else _texts(table.column(key), key)
    labels: list[str | None] = [label] * len(table)
    if columns.label is not None:
        labels = [None if value is None else str(value) for value in table.column(columns.label).to_pylist()]
    names = np.array([splits.of(path, key) for key in keys], dtype=object)
    fields = table.drop_columns([KEY_COLUMN]) if KEY_COLUMN in table.column_names else table
    return Rows(keys, names, labels, fields, key is not None)


def _check_names(names: Sequence[str], key: str | None) -> None:
    odd = next((name for name in names if not name or "/" in name), None)
    if odd is not None:
        raise BadSample(f"a column is named {odd!r}; fields have names, without '/'")
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise BadSample(f"two of its columns are named {twice!r}")
    if KEY_COLUMN in names and key != KEY_COLUMN:
        raise BadSample(f"it has a column {KEY_COLUMN!r}, which can only be the key; leave --key out, or rename it")


def _texts(column: Any, name: str) -> list[str]:
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        raise BadSample(f"its column {name!r} of {column.type} cannot give keys: text and numbers can")
    keys = ["" if value is None else str(value) for value in column.to_pylist()]
    if "" in keys:
        raise BadSample(f"its column {name!r}, which is the key, is empty in {keys.count('')} rows")
    return keys


def one_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The schema of files with the same columns, numbers as wide as the widest. Raises `BadSample` where types do not go together."""
    columns = []
    for name in schemas[0].names if schemas else ():
        kinds = list(dict.fromkeys(schema.field(name).type for schema in schemas))
        try:
            columns.append(pa.unify_schemas([pa.schema([(name, kind)]) for kind in kinds], promote_options="permissive").field(0))
        except pa.ArrowException:
            raise BadSample(f"its column {name!r} holds {kinds[-1]}, and {kinds[0]} in the files before it") from None
    return pa.schema(columns)


def in_hash_order(keys: Sequence[str]) -> npt.NDArray[np.int64]:
    """The rows in the order of their keys' hashes."""
    return np.argsort(np.array([key_hash(key) for key in keys], np.uint64), kind="stable")


def schema_fields(schema: pa.Schema) -> tuple[Field, ...]:
    """What the schema of the dataset says of the columns."""
    for column in schema:
        if not column.name or "/" in column.name:
            raise InvalidArgument(f"a column cannot be named {column.name!r}: fields have names without '/'")
    return tuple(Field(column.name, "value", arrow_name(column.type)) for column in sorted(schema, key=lambda column: column.name))


def scalar_columns(schema: pa.Schema, long: Set[str], reserved: Sequence[str]) -> list[str]:
    """The columns small enough to stand in the metadata too, so that `where` can choose by them: numbers, times and texts that are not
    among the `long` ones."""
    small = [column.name for column in schema if _is_number(column.type) or (_is_text(column.type) and column.name not in long)]
    return [name for name in small if name not in reserved]


def long_texts(table: pa.Table) -> set[str]:
    """The columns of texts some of which are too long for the metadata."""
    return {column.name for column in table.schema if _is_text(column.type) and not _is_short(table.column(column.name))}


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_temporal(kind))


def _is_short(values: Any) -> bool:
    return bool((pc.max(pc.utf8_length(values)).as_py() or 0) <= _LABEL_LENGTH)
