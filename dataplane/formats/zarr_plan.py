"""Pure planning for Zarr shards: how big units and members are, and which units a batch of rows, or a window of them, needs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dataplane.errors import InvalidArgument

__all__ = ["UNIT_BYTES", "Selection", "block_rows", "default_unit", "select", "take"]

UNIT_BYTES: Final = 256 << 10
"""Samples smaller than this share a unit of about as many bytes."""
_LARGEST_BYTES: Final = 16 << 20  # a larger sample is cut, so that its units are decoded side by side and a window reads part of it
_BLOCK_BYTES: Final = 32 << 20

Shape = tuple[int, ...]


def default_unit(shape: Shape, itemsize: int) -> Shape:
    """The unit of an array of samples of `shape`: several small samples, one sample, or a part of a very large one."""
    size = itemsize * math.prod(shape)
    part = [max(1, n) for n in shape]
    while itemsize * math.prod(part) > _LARGEST_BYTES:
        axis = max(range(len(part)), key=part.__getitem__)
        part[axis] = (part[axis] + 1) // 2
    return (max(1, UNIT_BYTES // max(1, size)), *part)


def block_rows(shape: Shape, itemsize: int, unit_rows: int) -> int:
    """How many samples one member holds: about 32 MiB of them before compression, in whole units."""
    rows = _BLOCK_BYTES // max(1, itemsize * math.prod(shape))
    return max(1, rows // unit_rows) * unit_rows


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The units that some rows need, and how their samples come out of them.

    `units`: coordinates, those of one run of rows side by side, `tiles` of them for each run. `runs` and `rows` are int64 [n]: which run
    a row asked for lies in, and which row of its unit it is. `window` bounds each axis of a sample.
    """

    units: Sequence[Shape]
    tiles: Sequence[Shape]
    runs: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    unit: Shape
    window: tuple[tuple[int, int], ...]


def select(
    shape: Shape, unit: Shape, rows: Sequence[int] | npt.NDArray[np.int64], window: Sequence[slice] = (), *, where: str = "the array"
) -> Selection:
    """What rows of an array need, in the order asked for, or only a window (slices of step 1; missing ones mean the whole axis)."""
    wanted = np.asarray(rows, np.int64).reshape(-1)
    if len(wanted) and (wanted.min() < 0 or wanted.max() >= shape[0]):
        raise InvalidArgument(f"{where} has {shape[0]} samples; rows {wanted.min()} to {wanted.max()} were asked for")
    if len(window) > len(shape) - 1:
        raise InvalidArgument(f"a window of {len(window)} axes, but a sample of {where} has the shape {shape[1:]}")
    whole = itertools.chain(window, itertools.repeat(slice(None)))
    bounds = tuple(_bounds(cut, n, where) for cut, n in zip(whole, shape[1:], strict=False))
    runs, at = np.unique(wanted // unit[0], return_inverse=True)
    spans = [range(start // n, -(-stop // n) if stop > start else start // n) for (start, stop), n in zip(bounds, unit[1:], strict=True)]
    tiles = list(itertools.product(*spans))
    units = [(int(run), *tile) for run in runs for tile in tiles]
    return Selection(units, tiles, at.reshape(-1).astype(np.int64), wanted % unit[0], unit, bounds)


def take(selection: Selection, units: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The samples, [n, *window], out of the units of a selection, [units * rows of a unit, *unit]. Memory of the caller's own."""
    run_rows, tiles = selection.unit[0], selection.tiles
    sizes = tuple(max(0, stop - start) for start, stop in selection.window)
    if len(tiles) == 1:
        cut = tuple(_overlap(b, t, n)[1] for b, t, n in zip(selection.window, tiles[0], selection.unit[1:], strict=True))
        at = selection.runs * run_rows + selection.rows
        if len(at) == len(units) and np.array_equal(at, np.arange(len(at))) and sizes == selection.unit[1:]:
            return units
        picked: Any = (at, *cut)
        return np.ascontiguousarray(units[picked])
    found = np.empty((len(selection.rows), *sizes), units.dtype)
    split = units.reshape(-1, max(1, len(tiles)), *selection.unit)
    for number, tile in enumerate(tiles):
        places = [_overlap(b, t, n) for b, t, n in zip(selection.window, tile, selection.unit[1:], strict=True)]
        target, source = tuple(p for p, _ in places), tuple(p for _, p in places)
        into: Any = (slice(None), *target)
        of: Any = (selection.runs, number, selection.rows, *source)
        found[into] = split[of]
    return found


def _bounds(cut: slice, size: int, where: str) -> tuple[int, int]:
    start, stop, step = cut.indices(size)
    if step != 1:
        raise InvalidArgument(f"{where}: a window has steps of 1, got {cut}")
    return start, max(start, stop)


def _overlap(bounds: tuple[int, int], tile: int, size: int) -> tuple[slice, slice]:
    """What a tile gives to a window along one axis: where in the window, and from where in the tile."""
    start, stop = max(bounds[0], tile * size), min(bounds[1], (tile + 1) * size)
    return slice(start - bounds[0], stop - bounds[0]), slice(start - tile * size, stop - tile * size)
