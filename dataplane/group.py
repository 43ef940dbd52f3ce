"""A shard of several objects: each field of a sample goes into the format that suits it, and the rows stay side by side.

Files (bytes) go into a tar; scalars, text, nested values and vectors into Parquet; arrays of two and more dimensions into Zarr.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataplane.errors import InvalidArgument
from dataplane.formats.index import ImageInfo
from dataplane.formats.parquet_values import size_of
from dataplane.formats.protocol import Value
from dataplane.objects import Objects
from dataplane.schema import Field
from dataplane.shards import Piece, ShardRow
from dataplane.store import Draft, Drafts, Store

__all__ = ["CLASS_FIELD", "Group", "array_name", "arrow_name", "field_of", "format_of", "type_name"]

CLASS_FIELD: Final = "cls"
"""The field of a class id, in decimal digits."""


_BUFFERS: Final = (bytearray, memoryview)
_FIRST: Final = ("tar", "parquet", "zarr")  # which object of a shard is the one that the others stand beside


def format_of(value: Value) -> str:
    """The format that suits a value."""
    if isinstance(value, bytes | bytearray | memoryview):
        return "tar"
    if isinstance(value, np.ndarray) and value.ndim >= 2:
        return "zarr"
    return "parquet"


def field_of(name: str, value: Value, format_: str, *, picture: bool) -> Field:
    """What the schema says of a field that has this value and lies in this format."""
    if format_ == "tar":
        return Field(name, "image" if picture else "class" if name == CLASS_FIELD else "bytes")
    if format_ == "zarr":
        array = np.asarray(value)
        return Field(name, "array", array_name(array.dtype, array.shape))
    try:
        return Field(name, "value", type_name(value))
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise InvalidArgument(f"the field {name!r} is {type(value).__name__}, which no format holds: {error}") from error


def type_name(value: Value) -> str:
    """The Arrow type of a value, by name."""
    if isinstance(value, np.ndarray):
        return f"list<{arrow_name(pa.from_numpy_dtype(value.dtype))}>"
    return arrow_name(pa.scalar(value.item() if isinstance(value, np.generic) else value).type)


def arrow_name(kind: Any) -> str:
    """The name of an Arrow type. Lists of one length, of any, and of very many values are one type, and so are texts."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"list<{arrow_name(kind.value_type)}>"
    return "string" if pa.types.is_large_string(kind) else str(kind)


def array_name(dtype: npt.DTypeLike, shape: Sequence[int]) -> str:
    """The type of an array of one sample: `float32[64, 64]`."""
    return f"{np.dtype(dtype).name}[{', '.join(map(str, shape))}]"


class Group:
    """Writes one shard into a scratch folder. Not thread-safe; use it in a `with` block.

    `formats` says where fields go whose values do not decide it; a field stays in the format of its first value. `options` are what the
    writers of the formats are given, by format. With a `store` that gives drafts, the one that `finish` will put the objects into, a tar is
    written there at once instead of into the folder. Equal samples give equal objects.
    """

    def __init__(
        self,
        folder: Path,
        *,
        formats: Mapping[str, str] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        store: Store | None = None,
    ) -> None:
        self._folder = folder
        self._drafts: Drafts | None = store if isinstance(store, Drafts) else None
        self._draft: Draft | None = None
        self._options = options or {}
        self._stack = ExitStack()
        self._formats = dict(formats or {})
        self._writers: dict[str, Any] = {}
        self._keys: dict[str, None] = {}
        self._sizes: dict[str, list[int]] = {}
        self._fields: dict[str, Field] = {}

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def size(self) -> int:
        """Bytes that the shard holds so far, about."""
        return sum(writer.size for writer in self._writers.values())

    @property
    def fields(self) -> tuple[Field, ...]:
        """What the schema says of the fields so far, by name."""
        return tuple(self._fields[name] for name in sorted(self._fields))

    def add(self, key: str, fields: Mapping[str, Value], images: Mapping[str, ImageInfo] | None = None) -> None:
        """Append a sample; `images` says what the headers of its pictures hold. Raises `InvalidArgument` for a key twice, and for a value
        that is not like those before it or that its format cannot hold: then no object has taken the row. Only whether the first texts,
        lists and dicts go together Parquet may find out later, and then the shard is of no use any more."""
        if key in self._keys:
            raise InvalidArgument(f"{key!r} is the key of a sample of this shard already")
        fields = {name: bytes(value) if isinstance(value, _BUFFERS) else value for name, value in fields.items()}
        images = images or {}
        new = {
            name: self._described(key, name, value, images)
            for name, value in fields.items()
            if name not in self._fields or isinstance(value, np.ndarray)
        }
        by_format: dict[str, dict[str, Value]] = {of: {} for of in self._writers}
        for name, value in fields.items():
            by_format.setdefault(self._formats.get(name) or format_of(value), {})[name] = value
        late = sorted(by_format.keys() - self._writers.keys())
        self._writers.update({format_: self._open(format_) for format_ in late})
        try:
            for format_, mine in by_format.items() if late or len(by_format) > 1 else ():  # a writer by itself checks what it is to add
                self._writers[format_].check(key, mine)
        except InvalidArgument:
            for format_ in late:
                self._forget(format_)
            raise
        for format_, mine in by_format.items():
            writer = self._writers[format_]
            writer.add(key, mine, images) if format_ == "tar" else writer.add(key, mine)
        if new:
            self._formats.update({name: format_ for format_, mine in by_format.items() for name in mine})
            self._fields.update(new)
        for name, value in fields.items():
            self._sizes.setdefault(name, []).append(size_of(value))
        self._keys[key] = None

    def place(
        self,
        key: str,
        name: str,
        buffer: npt.NDArray[np.uint8],
        at: int,
        size: int,
        *,
        image: ImageInfo | None = None,
        before: tuple[str, bytes] | None = None,
    ) -> None:
        """`add` of a sample whose bytes lie in memory as a tar needs them, see `dataplane.formats.tar.Writer.place`: the field `name` of
        `size` bytes at `at` of `buffer`, and `before` it a second one. For shards of which all fields lie in the tar. Raises
        `InvalidArgument` as `add` does; nothing is written to the buffer then."""
        if key in self._keys:
            raise InvalidArgument(f"{key!r} is the key of a sample of this shard already")
        tar = self._writers.get("tar")
        if tar is None:
            tar = self._writers["tar"] = self._open("tar")
        tar.place(key, name, buffer, at, size, image=image, before=before)
        for field, value in ((name, b""), before) if before else ((name, b""),):
            if field not in self._fields:
                self._formats[field] = "tar"
                self._fields[field] = field_of(field, value, "tar", picture=field == name and image is not None)
            self._sizes.setdefault(field, []).append(size if field == name else len(value))
        self._keys[key] = None

    def flush(self) -> None:
        """Write what was placed: its buffer is the caller's again."""
        if "tar" in self._writers:
            self._writers["tar"].flush()

    def finish(self, objects: Objects, split: str) -> ShardRow:
        """Put the objects and their indexes into the lake. The row that names them."""
        if not self._writers:  # samples that have nothing but their keys
            self._writers["parquet"] = self._open("parquet")
        pieces = []
        for format_ in sorted(self._writers, key=_FIRST.index):
            path = self._writers[format_].path
            ref, index = self._writers[format_].finish()
            if self._draft is not None and path == self._draft.path:
                objects.put_draft(self._draft, ref)
                self._draft.close()
            else:
                objects.put_file(path, suffix=ref.suffix, ref=ref)
                path.unlink()
            pieces.append(Piece(format_, ref, objects.put(index, suffix=".idx")))
        self._settle()
        first, *beside = pieces
        return ShardRow(
            split,
            first.format,
            first.ref,
            first.index,
            len(self),
            sum(map(sum, self._sizes.values())),
            tokens=self._writers["parquet"].tokens if "parquet" in self._writers else None,
            median_bytes={name: int(statistics.median(sizes)) for name, sizes in sorted(self._sizes.items())},
            beside=tuple(beside),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()
        for writer in self._writers.values():
            self._remove(writer)

    def _remove(self, writer: Any) -> None:
        if self._draft is not None and writer.path == self._draft.path:
            self._draft.close()
        else:
            writer.path.unlink(missing_ok=True)

    def _settle(self) -> None:
        """What the first value said of a Parquet field may have been too little: `[]` of lists, 1 of numbers. The columns know."""
        for column in (self._writers["parquet"].schema or ()) if "parquet" in self._writers else ():
            if column.name in self._fields:
                self._fields[column.name] = Field(column.name, "value", arrow_name(column.type))

    def _described(self, key: str, name: str, value: Value, images: Mapping[str, ImageInfo]) -> Field:
        known = self._fields.get(name)
        found = field_of(name, value, self._formats.get(name) or format_of(value), picture=name in images)
        if known is not None and found != known:
            raise InvalidArgument(f"{key!r}: the field {name!r} is {found}, and {known} in the samples before it")
        return found

    def _open(self, format_: str) -> Any:
        module = importlib.import_module(f"dataplane.formats.{format_}")
        target: Path | Draft = self._folder / f"{id(self):x}{module.SUFFIX}"
        if format_ == "tar" and self._drafts is not None:
            target = self._draft = self._drafts.draft()
        writer = self._stack.enter_context(module.Writer(target, **self._options.get(format_, {})))
        for key in self._keys:  # it comes late: the samples so far have none of its fields
            writer.add(key, {})
        return writer

    def _forget(self, format_: str) -> None:
        writer = self._writers.pop(format_)
        writer.__exit__(None, None, None)
        self._remove(writer)
