"""A function of the user's as a transform."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dataplane.errors import InvalidArgument
from loaders.transforms.checks import is_int
from loaders.transforms.plan import Call, Doer

__all__ = ["Map"]


@dataclass(frozen=True, slots=True)
class Map:
    """Whatever `fn` makes of a value.

    As the transform of a field, `{"wav": Map(read, shape=(16000,), dtype="float32")}`, fn gets the field's bytes, uint8 [size], and returns
    an array of exactly this shape and dtype. Among the transforms of an image it stands where those of pixels do, and gets and returns
    uint8 [height, width, 3]; with `shape` it returns another height and width. What it gets is read-only, and gone once it returns.

    With `random` it is called as fn(value, rng): a numpy Generator of the sample's own, so that what is drawn from it depends on neither
    threads, batches nor ranks, and is the same after a resume.

    fn is called on the loader's threads, several at a time; code that holds the interpreter belongs into `processes`, so many spawned ones,
    to which fn is sent: it must be a function (or a `functools.partial` of one, or an object) of a module that can be imported. With
    `Loader(threads=0)` it is called on the caller's thread in any case, for debuggers.

    An exception in fn makes the sample a bad one (`BadSample`); a result that is not as announced is an `InvalidArgument`.
    """

    fn: Callable[..., Any]
    shape: tuple[int, ...] | None = None
    dtype: Any = None
    random: bool = False
    processes: int = 0
    doer: Doer | None = field(default=None, init=False, repr=False, compare=False)
    """Set by the loader that it is compiled for."""

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise InvalidArgument(f"{self}: fn must be callable; it is a {type(self.fn).__name__}")
        if self.shape is not None:
            shape = tuple(self.shape) if isinstance(self.shape, tuple | list) else (self.shape,)
            if not all(is_int(n) and n >= 0 for n in shape):
                raise InvalidArgument(f"{self}: shape must be a tuple of sizes of at least 0")
            object.__setattr__(self, "shape", shape)
        if self.dtype is not None:
            object.__setattr__(self, "dtype", _plain_dtype(self))
        if not is_int(self.processes) or self.processes < 0:
            raise InvalidArgument(f"{self}: processes must be an int of at least 0; with 0, fn is called on the loader's threads")
        if self.processes:
            _check_travels(self)

    def done_by(self, doer: Doer) -> Map:
        """The same transform, whose function `doer` calls."""
        bound = copy.copy(self)
        object.__setattr__(bound, "doer", doer)
        return bound

    def steps(self, stream: int, size: tuple[int, int]) -> tuple[Call, ...]:
        """One, of an image that is (height, width) before. Reads the stream as numpy's Philox generator does."""
        if self.doer is None:
            raise InvalidArgument(f"{self} is a description; a Loader executes it")
        return (Call(self.doer, stream, self.size or size),)

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the image that it gives, where that is not what it gets."""
        return None if self.shape is None else (self.shape[0], self.shape[1])

    def check_image(self) -> None:
        """Raise `InvalidArgument` where this cannot be a transform of images."""
        if self.dtype not in (None, np.dtype(np.uint8)):
            raise InvalidArgument(f"{self}: among the transforms of an image, fn returns uint8; leave dtype out, and convert with ToFloat")
        if self.shape is not None and (len(self.shape) != 3 or self.shape[2] != 3 or not all(self.shape)):
            raise InvalidArgument(
                f"{self}: among the transforms of an image, fn returns [height, width, 3]; give that as shape, or nothing"
            )


def _plain_dtype(op: Map) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(op.dtype)
    except TypeError as error:
        raise InvalidArgument(f"{op}: dtype is none that numpy knows: {error}") from error
    if dtype.kind not in "biufc":
        raise InvalidArgument(f"{op}: dtype must be of numbers or bool; it is {dtype}")
    return dtype


def _check_travels(op: Map) -> None:
    try:
        pickle.dumps(op.fn)
    except Exception as error:
        raise InvalidArgument(
            f"{op}: fn must travel to other processes, and cannot: {error}. Define it with def at the top of a module, not in a function "
            "and not as a lambda; give it further arguments with functools.partial; or leave processes out, to call it on threads"
        ) from error
