"""Calling a function of the user's on one value, here or in a process that was started for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dataplane.errors import BadSample, InvalidArgument, StoreError

__all__ = ["PASSED", "Here", "Job", "name_of"]

PASSED: Final = (InvalidArgument, StoreError, MemoryError)
"""Errors of a call that say nothing about its value: they are raised as they are."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is done to each value: `fn(value)`, or `fn(value, rng)` where it is `random`, which gives an array of this shape and dtype."""

    fn: Callable[..., Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    random: bool

    def do(self, value: npt.NDArray[np.uint8], stream: int, out: npt.NDArray[Any]) -> None:
        """Call it and copy the result to `out`. `value` cannot be written to. The generator that a random one gets is a function of
        `stream` alone. Raises what `fn` raises, and `InvalidArgument` for a result that is not as announced."""
        value = value.view()
        value.flags.writeable = False
        result = self.fn(value, np.random.Generator(np.random.Philox(key=stream))) if self.random else self.fn(value)
        try:
            array = np.asarray(result)
        except Exception as error:
            raise InvalidArgument(f"{name_of(self.fn)} returned a {type(result).__name__}, which is no array: {error}") from error
        if array.shape != self.shape or array.dtype != self.dtype:
            raise InvalidArgument(
                f"{name_of(self.fn)} returned {array.dtype} {list(array.shape)} and not the {self.dtype} {list(self.shape)} that Map "
                "announces: return an array of that shape and dtype, or give Map(shape=…, dtype=…) what fn returns"
            )
        out[...] = array


@dataclass(frozen=True, slots=True)
class Here:
    """Does a job on the thread that asks. Thread-safe if the function is."""

    job: Job

    def do(self, value: npt.NDArray[np.uint8], stream: int, out: npt.NDArray[Any]) -> None:
        """Write what it makes of `value` to `out`. Raises `BadSample` where the function raises, and what is in `PASSED`."""
        try:
            self.job.do(value, stream, out)
        except PASSED:
            raise
        except Exception as error:
            raise BadSample(f"Map({name_of(self.job.fn)}) failed: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """There is nothing to close."""


def name_of(fn: Any) -> str:
    """What to call a function in a message."""
    while isinstance(fn, partial):
        fn = fn.func
    return str(getattr(fn, "__qualname__", None) or type(fn).__qualname__)
