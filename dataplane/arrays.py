"""Columns of Arrow tables as NumPy arrays over the same memory.

Arrow's own `to_numpy` loads pandas where that is installed, and most of its functions load `pyarrow.compute`: 45 MB and a quarter of a
second, for which a process that opens a dataset and reads files from it has no other use.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["numbers", "one_array", "valid"]


def one_array(column: Any) -> Any:
    """A chunked array in one piece."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def valid(array: Any) -> npt.NDArray[np.bool_]:
    """Which values of an array are not null."""
    if not array.null_count:
        return np.ones(len(array), bool)
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    return np.unpackbits(bits, count=array.offset + len(array), bitorder="little")[array.offset :].view(bool)


def numbers(column: Any, *, null: int | None = None) -> npt.NDArray[Any]:
    """The values of a chunked array of numbers, in its own type; or as int64 where it has nulls, which become `null`. Raises `ValueError`
    for nulls that nobody expects."""
    array = one_array(column)
    if not array.null_count:
        return np.from_dlpack(array)
    if null is None:
        raise ValueError(f"a column of numbers has {array.null_count} nulls")
    values = pa.Array.from_buffers(array.type, len(array), [None, array.buffers()[1]], offset=array.offset)
    return np.where(valid(array), np.from_dlpack(values).astype(np.int64), null)
