"""CRC-32C inside compiled functions, by the processor's own instructions.

The instruction for it takes 8 bytes a cycle, in three lanes that are joined by tables. Where the processor multiplies polynomials in wide
registers (VPCLMULQDQ with AVX-512), blocks are folded into each other instead, which takes less than half the time: 256 bytes of the
message are replaced by a product with the same remainder, 256 bytes further on. Python code has `dataplane.formats.tar.crc32c`. Where the
processor has no such instruction, or numba is told not to use it (`NUMBA_CPU_NAME`, `NUMBA_CPU_FEATURES`, `NUMBA_ENABLE_AVX`), `HARDWARE`
is False, and nothing here may be called: the compiler would end the process.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import config, types
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

from dataplane.jit import compiled

__all__ = ["FOLDS", "HARDWARE", "by_folding", "crc32c_of", "in_lanes"]

_MACHINES: Final = {"x86_64": "sse4.2", "aarch64": "crc"}
_POLYNOMIAL: Final = 0x11EDC6F41  # Castagnoli's
_REFLECTED: Final = 0x82F63B78  # the same, its bits mirrored and without the highest
_BLOCK: Final = 256  # bytes that are folded at once
_I64: Final = ir.IntType(64)
_WIDE: Final = ir.VectorType(_I64, 8)
_LANE: Final = 256  # words; three such lanes are joined at once


def _has(*features: str | None) -> bool:
    told = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES  # what numba compiles for
    known = told.split(",")
    return sys.byteorder == "little" and all(f"+{feature}" in known for feature in features)


HARDWARE: Final = _has(_MACHINES.get(platform.machine()))
"""Whether compiled functions may use the instruction."""
FOLDS: Final = platform.machine() == "x86_64" and _has("sse4.2", "vpclmulqdq", "avx512f")
"""Whether they may fold, too."""


def _step(_typing: Any, _crc: Any, _word: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        crc, word = arguments
        i32, i64 = ir.IntType(32), _I64
        if platform.machine() == "x86_64":
            step = builder.module.declare_intrinsic("llvm.x86.sse42.crc32.64.64", fnty=ir.FunctionType(i64, [i64, i64]))
            return builder.call(step, [crc, word])
        step = builder.module.declare_intrinsic("llvm.aarch64.crc32cx", fnty=ir.FunctionType(i32, [i32, i64]))
        return builder.zext(builder.call(step, [builder.trunc(crc, i32), word]), i64)

    return types.uint64(types.uint64, types.uint64), generate


def _word(_typing: Any, _address: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.load(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), align=1)

    return types.uint64(types.uintp), generate


def _byte(_typing: Any, _address: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        byte = builder.load(builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()), align=1)
        return builder.zext(byte, ir.IntType(64))

    return types.uint64(types.uintp), generate


def _power(exponent: int) -> int:
    """x to this power, modulo the polynomial, as a factor for folding: its bits mirrored and moved by one, as those of a CRC are."""
    value = 1
    for _ in range(exponent):
        value = (value << 1) ^ (_POLYNOMIAL if value >> 31 else 0)
    return int(f"{value:032b}"[::-1], 2) << 1


def _factors(bits: int) -> Any:
    """What moves 128-bit values by so many bits: for their lower and their upper half."""
    return ir.Constant(_WIDE, [_power(bits + 32), _power(bits - 32)] * 4)


def _fold(_typing: Any, _address: Any, _blocks: Any, _crc: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        address, blocks, crc = arguments
        shape = ir.FunctionType(_WIDE, [_WIDE, _WIDE, ir.IntType(8)])
        multiply = builder.module.declare_intrinsic("llvm.x86.pclmulqdq.512", fnty=shape)

        def moved(value: Any, factors: Any) -> Any:
            lower, upper = (builder.call(multiply, [value, factors, ir.Constant(ir.IntType(8), half)]) for half in (0, 0x11))
            return builder.xor(lower, upper)

        def loaded(at: Any) -> list[Any]:
            places = (builder.inttoptr(builder.add(at, ir.Constant(_I64, 64 * n)), _WIDE.as_pointer()) for n in range(4))
            return [builder.load(place, align=1) for place in places]

        first = loaded(address)
        seed = builder.insert_element(ir.Constant(_WIDE, [0] * 8), crc, ir.Constant(ir.IntType(32), 0))
        first[0] = builder.xor(first[0], seed)
        before, loop, behind = builder.block, builder.append_basic_block("fold"), builder.append_basic_block("folded")
        one = ir.Constant(_I64, 1)
        builder.cbranch(builder.icmp_unsigned(">", blocks, one), loop, behind)
        builder.position_at_end(loop)
        at, left, held = builder.phi(_I64), builder.phi(_I64), [builder.phi(_WIDE) for _ in range(4)]
        next_at, next_left = builder.add(at, ir.Constant(_I64, _BLOCK)), builder.sub(left, one)
        far = _factors(8 * _BLOCK)
        folded = [builder.xor(moved(value, far), data) for value, data in zip(held, loaded(next_at), strict=True)]
        for phi, start, again in zip((at, left, *held), (address, blocks, *first), (next_at, next_left, *folded), strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(again, loop)
        builder.cbranch(builder.icmp_unsigned(">", next_left, one), loop, behind)
        builder.position_at_end(behind)
        ends = [builder.phi(_WIDE) for _ in range(4)]
        for phi, start, again in zip(ends, first, folded, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(again, loop)
        rest = ends[0]
        for end in ends[1:]:
            rest = builder.xor(moved(rest, _factors(512)), end)
        count = builder.module.declare_intrinsic("llvm.x86.sse42.crc32.64.64", fnty=ir.FunctionType(_I64, [_I64, _I64]))
        found = ir.Constant(_I64, 0)
        for n in range(8):
            found = builder.call(count, [found, builder.extract_element(rest, ir.Constant(ir.IntType(32), n))])
        return found

    return types.uint64(types.uint64, types.uint64, types.uint64), generate


step: Callable[[Any, Any], Any] = intrinsic(_step)
word: Callable[[Any], Any] = intrinsic(_word)
byte: Callable[[Any], Any] = intrinsic(_byte)
fold: Callable[[Any, Any, Any], Any] = intrinsic(_fold)


def _tables() -> npt.NDArray[np.uint64]:
    """uint64 [2, 4, 256]: what each byte of a CRC becomes behind one lane of zeros, and behind two."""
    single = np.arange(256, dtype=np.uint64)
    for _ in range(8):
        single = np.where(single & 1, single >> 1 ^ _REFLECTED, single >> 1).astype(np.uint64)
    columns = np.uint64(1) << np.arange(32, dtype=np.uint64)
    found = []
    for _ in range(2):
        for _ in range(8 * _LANE):
            columns = columns >> np.uint64(8) ^ single[(columns & np.uint64(255)).astype(np.intp)]
        bits = np.arange(256)[:, None] >> np.arange(8) & 1 == 1
        found.append([np.bitwise_xor.reduce(np.where(bits, columns[8 * n : 8 * n + 8], np.uint64(0)), axis=1) for n in range(4)])
    return np.array(found, np.uint64)


_TABLES: Final = _tables()
_BYTE: Final = np.uint64(255)
_ALL: Final = np.uint64(0xFFFFFFFF)
_EIGHT: Final = np.uint64(8)


@compiled
def _behind(crc: Any, lanes: int) -> Any:
    """What a CRC becomes behind so many lanes of zeros."""
    table = _TABLES[lanes - 1]
    low = table[0, crc & _BYTE] ^ table[1, crc >> np.uint64(8) & _BYTE]
    return low ^ table[2, crc >> np.uint64(16) & _BYTE] ^ table[3, crc >> np.uint64(24)]


@compiled
def in_lanes(crc: Any, at: Any, end: Any) -> tuple[Any, Any]:
    """The CRC behind most of the bytes from one address to another, given that before them; and the address where it stands."""
    lane = np.uint64(_LANE * 8)
    while end - at >= np.uint64(3) * lane:
        second, third = np.uint64(0), np.uint64(0)
        for _ in range(_LANE):
            crc = step(crc, word(at))
            second = step(second, word(at + lane))
            third = step(third, word(at + lane + lane))
            at += _EIGHT
        at += lane + lane
        crc = _behind(crc, 2) ^ _behind(second, 1) ^ third
    return crc, at


@compiled
def by_folding(crc: Any, at: Any, end: Any) -> tuple[Any, Any]:
    """The same as `in_lanes`, where the processor `FOLDS`."""
    blocks = (end - at) // np.uint64(_BLOCK)
    if blocks:
        crc = fold(at, blocks, crc)
        at += blocks * np.uint64(_BLOCK)
    return crc, at


_most: Final = by_folding if FOLDS else in_lanes


@compiled
def crc32c_of(address: int, size: int) -> int:
    """The CRC-32C of `size` bytes at an address."""
    end = np.uint64(address + size)
    crc, at = _most(_ALL, np.uint64(address), end)
    while end - at >= _EIGHT:
        crc = step(crc, word(at))
        at += _EIGHT
    while at < end:
        bits = (crc ^ byte(at)) & _BYTE
        for _ in range(8):
            bits = bits >> np.uint64(1) ^ np.uint64(_REFLECTED) if bits & np.uint64(1) else bits >> np.uint64(1)
        crc = crc >> _EIGHT ^ bits
        at += np.uint64(1)
    return int(np.int64(crc ^ _ALL))
