"""Making runs of tokens ready to be copied: checked where they lie, or fetched, or decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from dataplane.errors import CorruptObject, DataplaneError, SourceChanged
from dataplane.objects import Objects, past_damage
from dataplane.refs import Digest
from dataplane.store import ReadInto, Store
from dataplane.store.local import preadv_full, translated
from loaders.kernels.tokens import INT64
from loaders.patience import patiently
from loaders.tokens.mapped import identity
from loaders.tokens.opened import KINDS, Groups, OpenShard, Table

__all__ = ["make_ready"]


def make_ready(table: Table, runs: npt.NDArray[np.void], *, store: Store, groups: Groups) -> tuple[dict[int, DataplaneError], list[Any]]:
    """Make the runs ready that are not: say where each lies now. The errors of those that cannot be, by run, and what has to live until the
    others are copied.

    Of a shard in a folder, a row group is read through and checked when the first of its tokens is wanted. Of one that is not mapped just
    the bytes of the runs are fetched, those of a shard together. What is not stored as plain numbers is decoded, a row group at a time.
    """
    waiting = np.flatnonzero(runs["ready"] == 0)
    errors: dict[int, DataplaneError] = {}
    held: list[Any] = []
    numbers = runs["shard"][waiting]
    for number in np.unique(numbers).tolist():
        shard, mine = table.shards[number], waiting[numbers == number].tolist()
        try:
            if shard.column.values is None:
                decode = partial(_decoded, number, shard, store, groups)
                errors |= _decode(runs, mine, decode, held)
                continue
            if shard.path is not None:
                errors |= _check(shard, shard.path, runs, mine)
                mine = [n for n in mine if n not in errors]
            if shard.file is None and mine:
                held += _fetch(shard, runs, mine, store)
        except DataplaneError as error:
            errors.update(dict.fromkeys(mine, error))
    return errors, held


def _check(shard: OpenShard, path: str, runs: npt.NDArray[np.void], mine: Sequence[int]) -> dict[int, DataplaneError]:
    """Read and check the row groups of runs, of the file `path`; once each."""
    bad: dict[int, DataplaneError] = {}
    for group in np.unique(runs["group"][mine]).tolist():
        try:
            _check_group(shard, path, group)
        except DataplaneError as error:
            bad[group] = error
    return {n: bad[int(runs["group"][n])] for n in mine if int(runs["group"][n]) in bad}


def _check_group(shard: OpenShard, path: str, group: int) -> None:
    if shard.checked[group]:
        return
    column = shard.column
    span = column.layout.chunk(group, column.leaf)
    data = bytearray(len(span))
    with translated(path), open(path, "rb", buffering=0) as file:
        if shard.file is not None and identity(file.fileno()) != shard.file.identity:
            raise SourceChanged(f"{path} was replaced since it was opened; make the loader anew")
        preadv_full(file.fileno(), data, span.start, name=path)
    column.reader.check_chunk(group, column.leaf, data)
    shard.checked[group] = 1


def _fetch(shard: OpenShard, runs: npt.NDArray[np.void], mine: Sequence[int], store: Store) -> list[Any]:
    """The bytes of runs, out of the store."""
    ref = shard.column.ref
    width = 8 if shard.kind == INT64 else 4
    begins, sizes = runs["where"][mine].tolist(), (runs["count"][mine] * width).tolist()
    if isinstance(store, ReadInto) and isinstance(ref, Digest):
        pieces = [np.empty(size, np.uint8) for size in sizes]
        for start, piece in zip(begins, pieces, strict=True):
            patiently(partial(store.read_into, ref, start=start, buffer=piece))
    else:
        fetched = patiently(lambda: Objects(store).ranges(ref, starts=begins, lengths=sizes))
        pieces = [np.frombuffer(piece, np.uint8) for piece in fetched]
    for n, piece, start, size in zip(mine, pieces, begins, sizes, strict=True):
        if len(piece) != size:
            raise CorruptObject(f"{shard.column.layout.where} ends at byte {start + len(piece)}; {size - len(piece)} more were expected")
        runs["where"][n] = piece.ctypes.data
    return pieces


def _decode(
    runs: npt.NDArray[np.void], mine: Sequence[int], decode: Callable[[int], npt.NDArray[Any]], held: list[Any]
) -> dict[int, DataplaneError]:
    """The tokens of the row groups of runs, in memory."""
    errors: dict[int, DataplaneError] = {}
    for group in np.unique(runs["group"][mine]).tolist():
        among = [n for n in mine if runs["group"][n] == group]
        try:
            tokens = decode(group)
        except DataplaneError as error:
            errors.update(dict.fromkeys(among, error))
            continue
        held.append(tokens)
        runs["kind"][among] = KINDS[tokens.dtype]
        runs["where"][among] = tokens.ctypes.data + runs["start"][among] * tokens.itemsize
    return errors


def _decoded(number: int, shard: OpenShard, store: Store, groups: Groups, group: int) -> npt.NDArray[Any]:
    """The tokens of a row group: those that are kept, or else decoded."""
    decode = partial(past_damage, store, shard.column.ref, partial(_tokens, shard, group))
    return groups.get(number, group, partial(patiently, decode))


def _tokens(shard: OpenShard, group: int) -> npt.NDArray[Any]:
    tokens = shard.column.decode(group)[1]
    expected = int(shard.first[group + 1] - shard.first[group])
    if len(tokens) != expected:
        raise CorruptObject(f"{shard.column.layout.where}: row group {group} has {len(tokens)} tokens, {expected} were counted before")
    return tokens
