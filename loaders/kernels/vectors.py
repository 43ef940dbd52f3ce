"""Eight float32 as one value inside compiled functions, so that a kernel says which lanes it computes in.

The loop vectoriser turns strided reads into gathers, which are slower than scalar code on many CPUs. These few operations are plain
LLVM vectors: they become AVX, NEON or pairs of SSE instructions, whatever the CPU has. Additions and multiplications are not contracted
into fused ones, so a kernel gives the same bits on every CPU.

Only compiled functions can call these, with C-contiguous float32 arrays seen as flat memory. Nothing checks bounds: a vector at `index`
touches elements index … index + 7, and the caller has to own them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic, models, register_model
from numpy.typing import NDArray

__all__ = ["LANES", "add_product", "fence", "load", "splat", "store", "stream", "transpose"]

LANES = 8

Floats: TypeAlias = NDArray[np.float32]
Vector: TypeAlias = Any  # a value that exists in compiled code only
Generated: TypeAlias = tuple[Any, Callable[..., Any]]  # numba's (signature, code generator)

_INT = ir.IntType(32)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_HALF = ir.VectorType(ir.FloatType(), LANES // 2)
_HALF_BYTES = 16


class _Float32x8(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="float32x8")


_float32x8 = _Float32x8()


@register_model(_Float32x8)
class _Float32x8Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _pointer(context: Any, builder: Any, array_type: Any, place: tuple[Any, Any], vector: Any) -> Any:
    array, index = place
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _shuffle(builder: Any, low: Any, high: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(_INT, len(lanes)), lanes))


def _splatted(builder: Any, value: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    return _shuffle(builder, builder.insert_element(undefined, value, ir.Constant(_INT, 0)), undefined, [0] * LANES)


def _load(_typing: Any, array: Any, _index: Any) -> Generated:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], arguments, _VECTOR), align=4)

    return _float32x8(array, types.intp), generate


def _store(_typing: Any, array: Any, _index: Any, _vector: Any) -> Generated:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, index, vector = arguments
        builder.store(vector, _pointer(context, builder, signature.args[0], (target, index), _VECTOR), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, _float32x8), generate


def _stream(_typing: Any, array: Any, _index: Any, _vector: Any) -> Generated:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, index, vector = arguments
        hint = builder.module.add_metadata([ir.Constant(_INT, 1)])
        for first in (0, LANES // 2):
            half = _shuffle(builder, vector, vector, list(range(first, first + LANES // 2)))
            at = builder.add(index, ir.Constant(index.type, first))
            written = builder.store(half, _pointer(context, builder, signature.args[0], (target, at), _HALF), align=_HALF_BYTES)
            written.set_metadata("nontemporal", hint)
        return context.get_dummy_value()

    return types.void(array, types.intp, _float32x8), generate


def _fence(_typing: Any) -> Generated:
    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


def _splat(_typing: Any, _value: Any) -> Generated:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _splatted(builder, arguments[0])

    return _float32x8(types.float32), generate


def _add_product(_typing: Any, _sum: Any, _vector: Any, _factor: Any) -> Generated:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        total, vector, factor = arguments
        return builder.fadd(total, builder.fmul(vector, _splatted(builder, factor)))

    return _float32x8(_float32x8, _float32x8, types.float32), generate


def _transpose(_typing: Any, source: Any, _at: Any, _step: Any, target: Any, _to: Any, _stride: Any) -> Generated:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, step, goal, to, stride = arguments
        rows = []
        for _ in range(LANES):
            rows.append(builder.load(_pointer(context, builder, signature.args[0], (array, at), _VECTOR), align=4))
            at = builder.add(at, step)
        for row in _transposed(builder, rows):
            builder.store(row, _pointer(context, builder, signature.args[3], (goal, to), _VECTOR), align=4)
            to = builder.add(to, stride)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), generate


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Eight vectors as the columns of eight: quadrants of 4, 2 and 1 lanes change places."""
    distance = LANES // 2
    while distance:
        for first in range(LANES):
            if first & distance:
                continue
            low, high = rows[first], rows[first + distance]
            keep = [lane if not lane & distance else LANES + lane - distance for lane in range(LANES)]
            rows[first] = _shuffle(builder, low, high, keep)
            rows[first + distance] = _shuffle(builder, low, high, [lane + distance for lane in keep])
        distance //= 2
    return rows


load: Callable[[Floats, int], Vector] = intrinsic(_load)
"""The vector at `array.flat[index]`."""

store: Callable[[Floats, int, Vector], None] = intrinsic(_store)
"""Write a vector to `array.flat[index]`."""

stream: Callable[[Any, int, Vector], None] = intrinsic(_stream)
"""As `store`, past the caches: for results that nobody reads soon. The address must be a multiple of 16 bytes; `fence` afterwards."""

fence: Callable[[], None] = intrinsic(_fence)
"""Whatever was streamed before is visible to every thread that sees a later write of this one."""

splat: Callable[[Any], Vector] = intrinsic(_splat)
"""One float32 in all lanes."""

add_product: Callable[[Vector, Vector, Any], Vector] = intrinsic(_add_product)
"""`sum + vector * factor`, rounded twice; `factor` is one float32."""

transpose: Callable[[Floats, int, int, Floats, int, int], None] = intrinsic(_transpose)
"""transpose(source, at, step, target, to, stride): `target.flat[to + stride * c + r] = source.flat[at + step * r + c]` for r, c < 8."""
