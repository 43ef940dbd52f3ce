"""Memory and files by their addresses inside compiled functions: pieces of many arrays, which no array of NumPy can hold together.

Only compiled functions can call these. Nothing checks an address: the caller has to own what lies there, for as long as it is used. To
prefetch what is not there does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["pointer", "pread", "prefetch"]

Generated: TypeAlias = tuple[Any, Callable[..., Any]]  # numba's (signature, code generator)

_INT = ir.IntType(32)
_READ, _KEEP, _DATA = 0, 3, 1  # what for, in how many caches, and of which kind


def _pointer(_typing: Any, _address: Any) -> Generated:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


def _prefetch(_typing: Any, _address: Any) -> Generated:
    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, _INT, _INT, _INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        how = [ir.Constant(_INT, value) for value in (_READ, _KEEP, _DATA)]
        builder.call(function, [builder.inttoptr(arguments[0], cgutils.voidptr_t), *how])
        return context.get_dummy_value()

    return types.void(types.int64), generate


pointer: Any = intrinsic(_pointer)
"""An address as what `numba.carray` takes."""

prefetch: Any = intrinsic(_prefetch)
"""Have the line of memory at an address brought into the caches, without waiting for it."""

pread: Any = types.ExternalFunction("pread", types.int64(types.int32, types.int64, types.uint64, types.int64))
"""The system's `pread(fd, address, size, offset)`: how many bytes were read, 0 at the end of the file, -1 for an error."""
