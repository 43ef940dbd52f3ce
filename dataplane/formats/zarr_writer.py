"""Writing a Zarr shard: one array a field, in a zip file whose members are stored as they are."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dataplane.errors import InvalidArgument
from dataplane.formats.index import write_keys
from dataplane.formats.options import parse_codec
from dataplane.formats.zarr_layout import ATTRIBUTES, layout_of
from dataplane.formats.zarr_members import SECTION, Members
from dataplane.formats.zarr_pack import Pack
from dataplane.formats.zarr_plan import block_rows, default_unit
from dataplane.objects import digest_file
from dataplane.refs import Digest

__all__ = ["SUFFIX", "Writer"]

SUFFIX: Final = ".zip"
_LEVELS: Final = {"zstd": 3, "blosc": 5, "gzip": 5}  # where none is given
_KINDS: Final = {"b": 1, "i": 8, "u": 8, "f": 8, "c": 16}  # and their most bytes: what every reader of Zarr knows
_KEYS_BYTES: Final = 64 << 10
_UNIT_LIMIT: Final = 1 << 30  # codecs count in 32 bits
_FORMAT: Final = 1


class Writer:
    """Writes one shard to a local file: fields are arrays, each of one dtype and shape in all samples. Not thread-safe; for a `with` block.

    `codecs`: how inner chunks are compressed, by name ("zstd", "blosc", "gzip", "none"; with a level as in "zstd:9"), for all fields or by
    field; a CRC-32C follows in any case. `chunks`: the inner chunk of a field, samples first; by default several small samples, one sample
    from 256 KiB on, parts of one from 16 MiB on. A sample may lack a field: its place holds zeros, and the array's attribute
    `dataplane.absent` says so. Memory: about 128 MiB a field at most, however large the shard. The file is plain scratch: durability is the
    business of the store that takes it.
    """

    def __init__(self, path: Path, *, codecs: str | Mapping[str, str] = "zstd", chunks: Mapping[str, Sequence[int]] | None = None) -> None:
        self.path = path
        self.size = 0
        self._codecs = codecs
        self._chunks = dict(chunks or {})
        for text in [codecs] if isinstance(codecs, str) else codecs.values():
            parse_codec(text, "zarr")
        self._keys: list[str] = []
        self._seen: set[str] = set()
        self._fields: dict[str, _Field] = {}
        self._pack = Pack(path)

    def add(self, key: str, fields: Mapping[str, Any]) -> None:
        """Append a sample. Raises `InvalidArgument` for a key twice, or a value that is no array of numbers or not like those before it."""
        values, new = self._checked(key, fields)
        self._fields.update(new)
        for name, value in values.items():
            self._fields[name].put(len(self._keys), value, self._pack)
        self._seen.add(key)
        self._keys.append(key)
        self.size = self._pack.bytes + sum(each.buffered for each in self._fields.values())

    def check(self, key: str, fields: Mapping[str, Any]) -> None:
        """Raise `InvalidArgument` for a sample that `add` would refuse."""
        self._checked(key, fields)

    def finish(self) -> tuple[Digest, bytes]:
        """End the file. The digest of the shard, and the bytes of its index."""
        documents = {"zarr.json": _group(self._keys)}
        for name, each in sorted(self._fields.items()):
            documents[f"{name}/zarr.json"] = each.end(len(self._keys), self._pack)
        for name, document in documents.items():
            self._pack.add(name, json.dumps(document, indent=2, sort_keys=True).encode(), keep=True)
        self._pack.close()
        ref = digest_file(self.path, SUFFIX)
        self.size = ref.size
        members = Members.of(self._pack.members, packing="zip", fields={name: name for name in self._fields}, where=str(ref))
        return ref, write_keys(self._keys, {SECTION: members.write()})

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pack.__exit__(kind, error, trace)

    def _checked(self, key: str, fields: Mapping[str, Any]) -> tuple[dict[str, npt.NDArray[Any]], dict[str, _Field]]:
        """The values of a sample as arrays, and the fields that no sample before it has."""
        _check_key(key, self._seen)
        values = {name: self._as_array(key, name, value) for name, value in sorted(fields.items())}
        return values, {name: self._new(name, value) for name, value in values.items() if name not in self._fields}

    def _as_array(self, key: str, name: str, value: Any) -> npt.NDArray[Any]:
        array = np.asarray(value)
        if array.dtype.itemsize > _KINDS.get(array.dtype.kind, -1):
            raise InvalidArgument(
                f"field {name!r} of {key!r} has the dtype {array.dtype}; a Zarr shard holds arrays of numbers and booleans"
            )
        known = self._fields.get(name)
        if known is not None and (array.shape, array.dtype.newbyteorder("=")) != (known.shape, known.dtype):
            raise InvalidArgument(
                f"field {name!r} of {key!r} is {array.dtype} of shape {array.shape}; here it is {known.dtype} of shape {known.shape}: "
                "make them alike, or write them to shards of their own"
            )
        return array

    def _new(self, name: str, value: npt.NDArray[Any]) -> _Field:
        if not name or "/" in name or name.startswith("__") or not name.strip(".") or name == "zarr.json":
            raise InvalidArgument(f"{name!r} cannot name an array: '/', nothing but dots, and '__' in front are not allowed")
        codecs = self._codecs if isinstance(self._codecs, str) else self._codecs.get(name, "zstd")
        return _Field(name, value.dtype.newbyteorder("="), value.shape, codecs, _unit(name, value, self._chunks.get(name)))


@dataclass
class _Field:
    """One array on its way into the file: full blocks are written as members, what is left waits in a buffer."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    codecs: str
    unit: tuple[int, ...]
    absent: list[list[int]] = field(default_factory=list)
    _start: int = 0  # rows that are written
    _held: int = 0  # rows in the buffer
    _buffer: npt.NDArray[Any] | None = None
    _array: Any = None
    _values: dict[str, Any] = field(default_factory=dict)  # what zarr-python stores

    @property
    def buffered(self) -> int:
        """The bytes that wait, before compression."""
        return self._held * self.dtype.itemsize * math.prod(self.shape)

    def put(self, row: int, value: npt.NDArray[Any], pack: Pack) -> None:
        """Set the next row; the ones before it that were not set are absent."""
        self._skip(row, pack)
        self._push(value, pack)

    def end(self, rows: int, pack: Pack) -> dict[str, Any]:
        """Write what waits. The array's metadata document."""
        self._skip(rows, pack)
        if self._held:
            self._flush(pack)
        document: dict[str, Any] = json.loads(self._values[f"{self.name}/zarr.json"].to_bytes())
        if self.absent:
            document["attributes"] = {ATTRIBUTES: {"absent": self.absent}}
        return document

    def _skip(self, row: int, pack: Pack) -> None:
        done = self._start + self._held
        if row > done:
            self.absent.append([done, row])
            zero = np.zeros((), self.dtype)
            for _ in range(done, row):
                self._push(zero, pack)

    def _push(self, value: npt.NDArray[Any], pack: Pack) -> None:
        if self._buffer is None:
            self._buffer = np.empty((block_rows(self.shape, self.dtype.itemsize, self.unit[0]), *self.shape), self.dtype)
        self._buffer[self._held] = value
        self._held += 1
        if self._held == len(self._buffer):
            self._flush(pack)

    def _flush(self, pack: Pack) -> None:
        rows = 0 if self._buffer is None else len(self._buffer)
        stop = self._start + self._held
        if self._array is None:
            self._array = self._create(rows if self._held == rows else self._held, stop)
        else:
            self._array.resize((stop, *self.shape))
        if self._held and self._buffer is not None:
            self._array[self._start : stop] = self._buffer[: self._held]
        self._start, self._held = stop, 0
        document = self._values[f"{self.name}/zarr.json"].to_bytes()
        sharding = layout_of(self.name, document, where=self.name).sharding
        for name in sorted(name for name in self._values if not name.endswith("zarr.json")):
            pack.add(name, memoryview(self._values.pop(name).to_bytes()), tail=sharding.size if sharding else 0)

    def _create(self, rows: int, stop: int) -> Any:
        """The array, its members `rows` samples each; a short shard gets one member, and no units longer than itself."""
        import zarr
        from zarr.storage import MemoryStore

        unit = (max(1, min(self.unit[0], rows)), *self.unit[1:])
        outer = (max(1, -(-rows // unit[0])) * unit[0], *(-(-max(1, n) // m) * m for n, m in zip(self.shape, unit[1:], strict=True)))
        return zarr.create_array(
            MemoryStore(self._values),
            name=self.name,
            shape=(stop, *self.shape),
            dtype=self.dtype,
            chunks=unit,
            shards=outer,
            compressors=_compressors(self.codecs),
            fill_value=np.zeros((), self.dtype)[()],
            zarr_format=3,
            config={"write_empty_chunks": True},
        )


def _check_key(key: str, seen: set[str]) -> None:
    if not key:
        raise InvalidArgument("a sample needs a key that is not empty")
    if key in seen:
        raise InvalidArgument(f"{key!r} is the key of a sample of this shard already")
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{key!r} cannot be a key: it is not Unicode text; escape its odd bytes first") from error


def _unit(name: str, value: npt.NDArray[Any], asked: Sequence[int] | None) -> tuple[int, ...]:
    """The inner chunk of a field. Raises `InvalidArgument` for one that does not fit it."""
    if asked is None:
        return default_unit(value.shape, value.dtype.itemsize)
    if len(asked) != value.ndim + 1 or min(asked) < 1:
        raise InvalidArgument(
            f"chunks of {name!r}: {tuple(asked)} for samples of shape {value.shape}; give {value.ndim + 1} positive numbers, samples first"
        )
    unit = (int(asked[0]), *(min(int(n), max(1, m)) for n, m in zip(asked[1:], value.shape, strict=True)))
    if math.prod(unit) * value.dtype.itemsize > _UNIT_LIMIT:
        raise InvalidArgument(f"chunks of {name!r}: {unit} of {value.dtype} are more than 1 GiB each; make them smaller")
    return unit


def _compressors(text: str) -> list[Any]:
    from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

    name, given = parse_codec(text, "zarr")
    level = _LEVELS.get(name, 0) if given is None else given
    made: dict[str, Any] = {
        "zstd": lambda: [ZstdCodec(level=level)],
        "blosc": lambda: [BloscCodec(cname="lz4", clevel=level)],
        "gzip": lambda: [GzipCodec(level=level)],
        "none": list,
    }
    return [*made[name](), Crc32cCodec()]


def _group(keys: Sequence[str]) -> dict[str, Any]:
    """The document of the group. Keys are in it where they are few, so that the file says by itself what it holds."""
    noted: dict[str, Any] = {"format": _FORMAT, "samples": len(keys)}
    if len(json.dumps(list(keys))) <= _KEYS_BYTES:
        noted["keys"] = list(keys)
    return {"zarr_format": 3, "node_type": "group", "attributes": {ATTRIBUTES: noted}}
