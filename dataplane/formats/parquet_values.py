"""Values of samples as Arrow columns and back: what a Parquet shard takes, strictly, and what it gives, without copies where it can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dataplane.errors import InvalidArgument

__all__ = ["array", "fits", "from_values", "infer", "size_of", "to_values"]

_REFUSED: Final = (pa.ArrowException, ValueError, TypeError, OverflowError)
_SCALAR_BYTES: Final = 8
_NUMERIC: Final = "biuf"


def array(column: Any) -> npt.NDArray[Any]:
    """A column as a NumPy array of one row a sample: a read-only view of Arrow's memory.

    For numbers, times and fixed-size lists of them, without nulls. Two things are copied: booleans, of which Arrow packs eight into
    a byte, and a column of several chunks. Raises `InvalidArgument` for anything else.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.array([], column.type), *column.chunks])
    if column.null_count:
        raise InvalidArgument(f"a column of {column.type} with nulls has no array; choose rows that have the field, or read_many")
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        inner = array(column.values.slice(column.offset * width, len(column) * width))
        return inner.reshape(len(column), width, *inner.shape[1:])
    if pa.types.is_boolean(column.type):
        return column.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
    try:
        return column.to_numpy(zero_copy_only=True)  # type: ignore[no-any-return]
    except pa.ArrowException as error:
        raise InvalidArgument(f"a column of {column.type} has no array: it needs numbers, or lists of one length; use read_many") from error


def to_values(column: Any) -> list[Any]:
    """The values of a column; None for null. Lists of numbers are arrays (views of the column's memory), unless one of the numbers is
    null; times in nanoseconds are `numpy.datetime64` and `timedelta64`, since Python's have only microseconds."""
    if isinstance(column, pa.ChunkedArray):
        return [value for chunk in column.chunks for value in to_values(chunk)]
    kind = column.type
    if _is_list(kind) and _is_number(kind.value_type):
        return _arrays(column)
    if (pa.types.is_timestamp(kind) or pa.types.is_duration(kind)) and kind.unit == "ns":
        return [None if np.isnat(value) else value for value in column.to_numpy(zero_copy_only=False)]
    return column.to_pylist()  # type: ignore[no-any-return]


def _arrays(column: Any) -> list[Any]:
    width = getattr(column.type, "list_size", None)
    if width is None:
        bounds = column.offsets.to_numpy()
        values = column.values
    else:
        bounds = np.arange(len(column) + 1) * width
        values = column.values.slice(column.offset * width, len(column) * width)
    first, last = (int(bounds[0]), int(bounds[-1])) if len(bounds) else (0, 0)
    inside = values.slice(first, last - first)
    if inside.null_count:
        return [_list(column[i]) for i in range(len(column))]
    flat = inside.to_numpy(zero_copy_only=not pa.types.is_boolean(inside.type))
    absent = column.is_null().to_pylist() if column.null_count else [False] * len(column)
    cuts = (bounds - first).tolist()
    return [None if absent[i] else flat[cuts[i] : cuts[i + 1]] for i in range(len(column))]


def _list(scalar: Any) -> Any:
    if not scalar.is_valid:
        return None
    return scalar.values.to_pylist() if scalar.values.null_count else scalar.values.to_numpy(zero_copy_only=False)


def infer(keys: Sequence[str], name: str, values: Sequence[Any]) -> Any:
    """The type of a column for `values`, of which none is None. Arrays of one length become fixed-size lists.

    Raises `InvalidArgument`, naming the key of a value that does not go with the others.
    """
    for key, value in zip(keys, values, strict=True):
        _check_flat(key, name, value)
    if all(_is_vector(value) for value in values):
        kinds = {value.dtype.newbyteorder("=") for value in values}
        lengths = {len(value) for value in values}
        if len(kinds) == 1:
            kind = pa.from_numpy_dtype(kinds.pop())
            return pa.list_(kind, lengths.pop()) if len(lengths) == 1 and lengths != {0} else pa.list_(kind)
    try:
        return _plain(values).type
    except _REFUSED as error:
        raise _odd_one(keys, name, values, error) from error


def from_values(keys: Sequence[str], field: Any, values: Sequence[Any]) -> Any:
    """A column of the type of `field` (a `pyarrow.Field`); None is null. Nothing is rounded, cut or parsed to make it fit, except that
    a float32 column takes Python's floats. Raises `InvalidArgument`, naming the key of a value that the column cannot hold."""
    present = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
    if len(present) < len(values) and not field.nullable:
        lacking = next(key for key, value in zip(keys, values, strict=True) if value is None)
        raise InvalidArgument(f"{lacking!r} lacks the field {field.name!r}, and the schema says that every sample has it")
    for key, value in present:
        _check_flat(key, field.name, value)
    try:
        return _column(values, [value for _, value in present], field.type)
    except _REFUSED as error:
        for key, value in present:
            try:
                _column([value], [value], field.type)
            except _REFUSED as reason:
                raise _misfit(key, field, value, reason) from reason
        raise InvalidArgument(f"field {field.name!r}: its column of {field.type} cannot be made: {error}") from error


def _column(values: Sequence[Any], present: Sequence[Any], kind: Any) -> Any:
    if present and _is_list(kind) and all(_is_vector(value) for value in present):
        return _of_vectors(values, present, kind)
    if _is_opaque(kind):
        return pa.array(values, kind)
    try:
        found = _plain(values)
    except OverflowError:  # beyond 64 bits with a sign: only a column of another type can say what is meant
        return pa.array(values, kind)
    if not fits(found.type, kind):
        raise TypeError(f"{found.type} does not fit {kind}")
    if found.type.equals(kind):
        return found
    return pa.array(values, kind) if pa.types.is_nested(kind) else found.cast(kind)


def _of_vectors(values: Sequence[Any], present: Sequence[Any], kind: Any) -> Any:
    lengths = [0 if value is None else len(value) for value in values]
    flat = pa.array(np.concatenate([value.astype(value.dtype.newbyteorder("="), copy=False) for value in present]))
    if len({value.dtype for value in present}) > 1 or not fits(flat.type, kind.value_type):
        for value in present:
            if not fits(pa.from_numpy_dtype(value.dtype.newbyteorder("=")), kind.value_type):
                raise TypeError(f"{value.dtype} does not fit {kind.value_type}")
    flat = flat.cast(kind.value_type)
    if not pa.types.is_fixed_size_list(kind):
        absent = pa.array([value is None for value in values])
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        if pa.types.is_large_list(kind):
            return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat, mask=absent).cast(kind)
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat, mask=absent).cast(kind)
    if any(len(value) != kind.list_size for value in present):
        raise ValueError(f"arrays of {kind.list_size} numbers are wanted")
    if len(present) == len(values):
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    spread = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    places = np.cumsum([value is not None for value in values]) - 1
    return spread.take(pa.array([None if value is None else int(places[i]) for i, value in enumerate(values)], pa.int64()))


def fits(found: Any, kind: Any) -> bool:
    """Whether a column of type `kind` takes values of the type `found` as they are."""
    types = pa.types
    if found.equals(kind) or types.is_null(found) or _is_opaque(kind):
        return True
    if types.is_integer(found):
        return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))
    if types.is_floating(found):
        return bool(types.is_floating(kind))
    if _is_list(found):
        return _is_list(kind) and fits(found.value_type, kind.value_type)
    if types.is_struct(found):
        known = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)} if types.is_struct(kind) else {}
        return bool(known) and all(field.name in known and fits(field.type, known[field.name]) for field in found)
    return any(
        test(found) and test(kind)
        for test in (_is_text, _is_binary, types.is_date, types.is_time, types.is_timestamp, types.is_duration, types.is_decimal)
    )


def size_of(value: Any) -> int:
    """The bytes of a value before compression, about."""
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    if isinstance(value, (np.ndarray, memoryview)):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(size_of, value.values()))
    if isinstance(value, (list, tuple)):
        return len(value) * _SCALAR_BYTES if value and isinstance(value[0], (int, float)) else sum(map(size_of, value))
    return _SCALAR_BYTES


def _plain(values: Sequence[Any]) -> Any:
    made = pa.array([value[()] if isinstance(value, np.ndarray) and not value.ndim else value for value in values])
    return pa.concat_arrays(made.chunks) if isinstance(made, pa.ChunkedArray) else made


def _odd_one(keys: Sequence[str], name: str, values: Sequence[Any], error: Exception) -> InvalidArgument:
    first = None
    for key, value in zip(keys, values, strict=True):
        try:
            kind = _plain([value]).type
        except _REFUSED as reason:
            return InvalidArgument(f"{key!r}: field {name!r} holds {_named(value)}, which no column can hold: {reason}")
        if first is None or fits(first[1], kind):
            first = (key, kind)
        elif not fits(kind, first[1]):
            return InvalidArgument(
                f"{key!r}: field {name!r} holds {_named(value)} ({kind}), and {first[1]} in {first[0]!r}; one column has one type of value"
            )
    return InvalidArgument(f"{keys[0]!r} and others: field {name!r} cannot be one column: {error}; give the writer a schema")


def _misfit(key: str, field: Any, value: Any, reason: Exception) -> InvalidArgument:
    return InvalidArgument(
        f"{key!r}: field {field.name!r} holds {_named(value)}, which does not fit its column of {field.type} ({reason}); "
        "change the value, or give the writer a schema with a type that holds all values"
    )


def _check_flat(key: str, name: str, value: Any) -> None:
    if isinstance(value, np.ndarray) and value.ndim > 1:
        raise InvalidArgument(f"{key!r}: field {name!r} is an array of shape {value.shape}; Parquet holds one dimension, a Zarr shard more")


def _named(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {len(value) if value.ndim else 1} {value.dtype}"
    return f"{type(value).__name__} {str(value)[:40]!r}" if isinstance(value, (bool, int, float, str)) else type(value).__name__


def _is_vector(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in _NUMERIC


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _is_opaque(kind: Any) -> bool:
    """Whether a type is, or holds, one that values never have by themselves: only a schema asks for it, and Arrow knows what it takes."""
    if pa.types.is_map(kind) or pa.types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        return True
    if _is_list(kind):
        return _is_opaque(kind.value_type)
    return pa.types.is_struct(kind) and any(_is_opaque(field.type) for field in kind)
