"""Parquet shards: scalars, text, nested values and vectors, one row a sample, in row groups small enough for random reads.

pyarrow, DuckDB and Hugging Face datasets read them; the keys are the column `__key__`. The index of a shard holds its footer and the CRC of
each column chunk, so opening one asks for nothing, and a sample is one request for the chunks of its row group that are wanted.

A file of somebody else needs only an index (`index_of`). Where its row groups are large and it has a page index, a sample costs the pages
that hold it; else the wanted columns of a row group.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pyarrow as pa

from dataplane.errors import BadSample, CorruptObject, InvalidArgument, NotFound
from dataplane.formats.index import ShardIndex, write_keys
from dataplane.formats.parquet_cache import Cache
from dataplane.formats.parquet_columns import Columns
from dataplane.formats.parquet_decode import check_chunks
from dataplane.formats.parquet_plan import Layout, parse_footer
from dataplane.formats.parquet_read import Reader
from dataplane.formats.parquet_values import array
from dataplane.formats.parquet_write import CHECKSUMS, FOOTER, KEY_COLUMN, KEYS, SUFFIX, Writer, checksums, footer_at
from dataplane.objects import Objects
from dataplane.refs import ObjectRef

__all__ = ["SUFFIX", "Reader", "Writer", "array", "footer_of", "index_of", "open"]

_MAGIC: Final = b"PAR1"
_ENCRYPTED: Final = b"PARE"
_GUESS_BYTES: Final = 64 << 10  # most footers are shorter, so one request is enough
_LEAST_BYTES: Final = 12  # magic, length of the footer, magic
_NAMED: Final = 5


def open(objects: Objects, ref: ObjectRef, index: ShardIndex) -> Reader:
    """A shard, of the lake or adopted. Reads nothing yet: the footer is in the index. Raises `CorruptObject` where it is not."""
    return Reader(objects, ref, index)


def footer_of(objects: Objects, ref: ObjectRef) -> bytes:
    """The last bytes of a Parquet file: its footer, the length of that, the magic. One request, two where the footer is long.

    Raises `CorruptObject` for what is not a whole Parquet file, `InvalidArgument` for an encrypted one.
    """
    where = objects.where(ref)
    guess = min(_GUESS_BYTES, ref.size)
    head, end = map(bytes, objects.ranges(ref, starts=[0, ref.size - guess], lengths=[len(_MAGIC), guess]))
    if _ENCRYPTED in (head, end[-4:]):
        raise InvalidArgument(f"{where}: is an encrypted Parquet file, which cannot be read here; decrypt it first")
    if len(end) < guess or ref.size < _LEAST_BYTES or (head == _MAGIC and end[-4:] != _MAGIC):
        raise CorruptObject(
            f"{where}: is cut short: a Parquet file begins and ends with {_MAGIC.decode()}, and this ends with {end[-4:]!r}"
        )
    if head != _MAGIC or end[-4:] != _MAGIC:
        raise CorruptObject(
            f"{where}: is not a Parquet file: it begins with {head!r} and ends with {end[-4:]!r}, not with {_MAGIC.decode()}"
        )
    start = footer_at(end, ref.size)
    if start < len(_MAGIC):
        raise CorruptObject(
            f"{where}: has a wrong footer: it says that it is {ref.size - 8 - start} bytes long, in a file of {ref.size} bytes"
        )
    if ref.size - start <= guess:
        return end[guess - (ref.size - start) :]
    missing = ref.size - guess - start
    more = bytes(objects.ranges(ref, starts=[start], lengths=[missing])[0])
    if len(more) != missing:
        raise CorruptObject(f"{where} ends at byte {start + len(more)}; {missing - len(more)} more were expected")
    return more + end


def index_of(objects: Objects, ref: ObjectRef, *, prefix: str, key_column: str | None = None, checksum: bool = False) -> bytes:
    """The index of a Parquet file that somebody else wrote.

    Keys are the values of `key_column` (text or integers); without it those of `__key__`, where the file has such a column, else
    `PREFIX#ROW`. `checksum`: read the file through now and record a CRC of each column chunk; without it damage is found only where the
    file's pages have checksums, or cannot be decoded. Raises `CorruptObject` for a damaged file, `InvalidArgument` for one that cannot
    be used, `NotFound` for a key column that it does not have, `BadSample` for keys that are null or given twice.
    """
    tail = footer_of(objects, ref)
    layout = parse_footer(tail, size=ref.size, where=objects.where(ref))
    check_chunks(layout)
    columns = Columns(objects, ref, layout, None, Cache(0))
    if key_column is None and KEY_COLUMN in layout.fields and _holds_keys(layout.schema.field(KEY_COLUMN).type):
        key_column = KEY_COLUMN
    keys = [f"{prefix}#{row}" for row in range(layout.rows)] if key_column is None else _keys(columns, key_column)
    sections = {FOOTER: tail, KEYS: (key_column or "").encode()}
    if checksum:
        sections[CHECKSUMS] = checksums(layout.chunks(), ref.size, columns.read)
    return write_keys(keys, sections)


def _keys(columns: Columns, name: str) -> list[str]:
    layout = columns.layout
    if name not in layout.fields:
        raise NotFound(f"{layout.where} has no column {name!r} to take keys from; it has {', '.join(layout.fields)}")
    if not _holds_keys(layout.schema.field(name).type):
        raise InvalidArgument(f"{layout.where}: column {name!r} of {layout.schema.field(name).type} cannot give keys: text or integers can")
    values = [value for _, table in columns.walk([name]) for value in _texts(table, layout, name)]
    counts = Counter(values)
    bad = [row for row, value in enumerate(values) if not value or counts[value] > 1]
    if bad:
        shown = ", ".join(f"row {row} ({values[row]!r})" for row in bad[:_NAMED]) + (" …" if len(bad) > _NAMED else "")
        raise BadSample(
            f"{layout.where}: {len(bad)} rows have no key of their own in column {name!r}: {shown}; name another column, or none"
        )
    return values


def _texts(table: Any, layout: Layout, name: str) -> list[str]:
    try:
        return ["" if value is None else str(value) for value in table.column(name).to_pylist()]
    except UnicodeDecodeError as error:
        raise CorruptObject(f"{layout.where}: field {name!r} holds text that is not UTF-8: {error}") from error


def _holds_keys(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))
