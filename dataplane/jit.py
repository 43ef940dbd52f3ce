"""How this project compiles numeric functions: one decorator, so that the settings live once and types survive it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

__all__ = ["compiled"]

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`numba.njit` with the machine code cached on disk and the GIL released while it runs; compiled at its first call, not at import."""
    return cast(Function, njit(cache=True, nogil=True)(function))
