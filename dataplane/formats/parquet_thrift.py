"""Thrift's compact protocol, in which Parquet writes its footer and its page index: structs taken apart one level, and put together again.

Contents stay the bytes that they are, so that what is not understood here is carried along whole. Whatever bytes come in, the only error
is `ValueError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["BINARY", "I32", "I64", "LIST", "STRUCT", "Field", "integer", "items", "list_of", "number", "struct", "write_struct"]

_TRUE: Final = 1
_FALSE: Final = 2
_BYTE: Final = 3
_I16: Final = 4
I32: Final = 5
I64: Final = 6
_DOUBLE: Final = 7
BINARY: Final = 8
LIST: Final = 9
_SET: Final = 10
_MAP: Final = 11
STRUCT: Final = 12
_UUID: Final = 13
_SIZES: Final = {_TRUE: 1, _FALSE: 1, _BYTE: 1, _DOUBLE: 8, _UUID: 16}
_LONGEST: Final = 9  # bytes of a number: places in a file are well below 2 ** 62
_DEEPEST: Final = 32


@dataclass(frozen=True, slots=True)
class Field:
    """A value of a struct: its type, and its bytes."""

    kind: int
    data: bytes


def struct(data: bytes) -> dict[int, Field]:
    """The fields of a struct by their numbers."""
    try:
        return {number: Field(kind, data[start:stop]) for number, kind, start, stop in _fields(data)}
    except IndexError as error:
        raise ValueError("it ends early") from error


def items(field: Field | None) -> list[bytes]:
    """The elements of a list."""
    if field is None or field.kind != LIST:
        raise ValueError("it lacks a list")
    found = []
    try:
        count, kind, at = _head(field.data, 0)
        for _ in range(count):
            start, at = at, _skip(field.data, at, kind, 0)
            found.append(field.data[start:at])
    except IndexError as error:
        raise ValueError("it ends early") from error
    return found


def integer(field: Field | None) -> int:
    """A whole number."""
    if field is None or field.kind not in {_I16, I32, I64}:
        raise ValueError("it lacks a number")
    return _signed(_varint(field.data, 0)[0])


def number(value: int) -> Field:
    """A whole number of 64 bits, that is not negative."""
    return Field(I64, _write_varint(value << 1))


def list_of(elements: Iterable[bytes]) -> Field:
    """A list of structs."""
    found = list(elements)
    head = bytes([len(found) << 4 | STRUCT]) if len(found) < 15 else bytes([0xF0 | STRUCT]) + _write_varint(len(found))
    return Field(LIST, head + b"".join(found))


def write_struct(fields: Mapping[int, Field]) -> bytes:
    """A struct of fields by their numbers."""
    parts, before = [], 0
    for at, field in sorted(fields.items()):
        short = 0 < at - before < 16
        parts += [bytes([at - before << 4 | field.kind]) if short else bytes([field.kind]) + _write_varint(at << 1), field.data]
        before = at
    return b"".join([*parts, b"\0"])


def _fields(data: bytes) -> list[tuple[int, int, int, int]]:
    """Number, type, start and end of each field of a struct."""
    found, at, name = [], 0, 0
    while head := data[at]:
        kind, at, name = head & 15, at + 1, name + (head >> 4)
        if head < 16:
            value, at = _varint(data, at)
            name = _signed(value)
        start, at = at, at if kind <= _FALSE else _skip(data, at, kind, 0)
        found.append((name, kind, start, at))
    return found


def _skip(data: bytes, at: int, kind: int, depth: int) -> int:
    """Where the value that begins at a place ends. Most of the time that a footer takes is spent here."""
    if I32 <= kind <= I64 or kind == _I16:
        while data[at] > 127:
            at += 1
        return at + 1
    if kind == BINARY:
        size, at = _varint(data, at)
        return _within(data, at + size)
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    if kind == STRUCT:
        while head := data[at]:
            at += 1
            if head < 16:
                at = _varint(data, at)[1]
            if head & 15 > _FALSE:  # those are said by their type
                at = _skip(data, at, head & 15, depth + 1)
        return at + 1
    if kind in {LIST, _SET}:
        count, inner, at = _head(data, at)
        for _ in range(count):
            at = _skip(data, at, inner, depth + 1)
        return at
    if kind in _SIZES:
        return _within(data, at + _SIZES[kind])
    raise ValueError(f"it has a value of type {kind}, which Parquet does not use")


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """The length of a list, the type of its elements, and where they begin."""
    head = data[at]
    at += 1
    count = head >> 4
    if count == 15:
        count, at = _varint(data, at)
    return count, head & 15, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_LONGEST):
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("it has a number that is too long")


def _signed(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def _within(data: bytes, at: int) -> int:
    if at > len(data):
        raise ValueError("it ends early")
    return at


def _write_varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)
