"""Unaligned words, leading zeros and block copies inside compiled functions.

Words are big-endian whatever the machine, as a JPEG's bits are: bit 0 of the stream is the highest bit of the first byte. Only compiled
functions can call these, with C-contiguous uint8 arrays seen as flat memory. Nothing checks bounds: a word at `at` touches bytes
at … at + 7, and the caller has to own them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from dataplane.jit import compiled

__all__ = ["WORD", "Bytes", "Word", "append", "copy", "leading_zeros", "load", "store"]

WORD = 8
"""Bytes of a word."""

Bytes: TypeAlias = NDArray[np.uint8]
Word: TypeAlias = Any  # np.uint64 in compiled code
Generated: TypeAlias = tuple[Any, Callable[..., Any]]  # numba's (signature, code generator)

_WORD = ir.IntType(64)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [at])


def _big_endian(builder: Any, word: Any) -> Any:
    return builder.bswap(word) if sys.byteorder == "little" else word


def _load(_typing: Any, array: Any, _at: Any) -> Generated:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *arguments)
        return _big_endian(builder, builder.load(builder.bitcast(pointer, _WORD.as_pointer()), align=1))

    return types.uint64(array, types.intp), generate


def _store(_typing: Any, array: Any, _at: Any, _word: Any) -> Generated:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, at, word = arguments
        pointer = _pointer(context, builder, signature.args[0], target, at)
        builder.store(_big_endian(builder, word), builder.bitcast(pointer, _WORD.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint64), generate


def _leading_zeros(_typing: Any, _word: Any) -> Generated:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


def _copy(_typing: Any, source: Any, _at: Any, target: Any, _to: Any, _size: Any) -> Generated:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, goal, to, size = arguments
        begin = _pointer(context, builder, signature.args[0], array, at)
        cgutils.raw_memcpy(builder, _pointer(context, builder, signature.args[2], goal, to), begin, size, 1)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp, types.intp), generate


load: Callable[[Bytes, int], Word] = intrinsic(_load)
"""The word at `array[at]`."""

store: Callable[[Bytes, int, Word], None] = intrinsic(_store)
"""Write a word to `array[at]`."""

leading_zeros: Callable[[Word], int] = intrinsic(_leading_zeros)
"""How many of a word's highest bits are 0; 64 of 0."""

copy: Callable[[Bytes, int, Bytes, int, int], None] = intrinsic(_copy)
"""copy(source, at, target, to, size): memcpy."""

_BYTE_SHIFT = np.uint64(8 * WORD - 8)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_WORD_BITS = np.uint64(8 * WORD)


@compiled
def append(value: Word, length: int, bits: Bytes, to: int) -> int:
    """Write the lowest 1 ≤ `length` ≤ 56 bits of `value` at bit `to`; where they end. Bits before them in their byte are kept; up to a word
    from that byte, those behind are lost."""
    shift = np.uint64(to & 7)
    kept = np.uint64(bits[to >> 3]) << _BYTE_SHIFT & ~(_ONES >> shift)
    store(bits, to >> 3, kept | (value << (_WORD_BITS - np.uint64(length))) >> shift)
    return to + length
