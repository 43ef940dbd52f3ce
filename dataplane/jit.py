"""How this project compiles numeric functions: its decorators, so that the settings live once and types survive them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

__all__ = ["brief", "compiled"]

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`numba.njit` with the machine code cached on disk and the GIL released while it runs; compiled at its first call, not at import."""
    return cast(Function, njit(cache=True, nogil=True)(function))


def brief(function: Function) -> Function:
    """As `compiled`, but the GIL is kept: for what Python calls and is done within a microsecond. To have the GIL again may take another
    thread's turn, and then a wake-up."""
    return cast(Function, njit(cache=True)(function))
