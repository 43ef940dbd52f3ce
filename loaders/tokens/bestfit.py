"""Best fit: the documents of a shard packed into sequences that each begin with a document. Pure; no I/O happens here.

Documents that are longer than a sequence are cut into whole ones first. What is left goes by decreasing length, each into the sequence that
it leaves the least room in; so no sequence overflows, and the same lengths give the same packs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from dataplane.jit import compiled
from dataplane.shards import starts

__all__ = ["Packs", "pack"]


@dataclass(frozen=True, slots=True, eq=False)
class Packs:
    """`pieces` int64 [pieces, 3]: a document, from which of its tokens on, and how many; pack p has those in [starts[p], starts[p + 1])."""

    starts: npt.NDArray[np.int64]
    pieces: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1


def pack(lengths: npt.NDArray[np.int64], length: int) -> Packs:
    """The packs of documents of `lengths` tokens, int64 [documents], into sequences of `length`. Empty documents are in none. Within a pack
    the documents stand from the longest to the shortest; packs are in the order of their first documents."""
    pieces = _cut(lengths, length)
    by_size = np.argsort(-pieces[:, 2], kind="stable")
    sizes = pieces[by_size, 2]
    bins, count = _best_fit(sizes, min(length, int(sizes.sum())))  # a longer sequence has no more in it, and would need more memory
    order = np.argsort(bins, kind="stable")
    counts = np.bincount(bins, minlength=count)
    packed, begin = pieces[by_size][order], starts(counts)
    turn = np.argsort(packed[begin[:-1], 0], kind="stable") if count else np.zeros(0, np.int64)
    ends = starts(counts[turn])
    moved = np.arange(len(packed)) + np.repeat(begin[turn] - ends[:-1], counts[turn])
    return Packs(ends, np.ascontiguousarray(packed[moved]))


@compiled
def _cut(lengths: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """The pieces of all documents, none longer than a sequence."""
    total = 0
    for n in lengths:
        total += (n + length - 1) // length
    pieces = np.empty((total, 3), np.int64)
    k = 0
    for document in range(lengths.size):
        at = 0
        while at < lengths[document]:
            taken = min(length, lengths[document] - at)
            pieces[k, 0], pieces[k, 1], pieces[k, 2] = document, at, taken
            at += taken
            k += 1
    return pieces


@compiled
def _best_fit(sizes: NDArray[np.int64], length: int) -> tuple[NDArray[np.int64], int]:
    """The bin of each size, given from the largest to the smallest, and how many bins there are.

    Bins with the same room wait in one list, the newest first. A tree of flags over the amounts of room finds the least that is enough.
    """
    bins = np.empty(sizes.size, np.int64)
    newest = np.full(length + 1, -1, np.int64)  # by room
    older = np.empty(sizes.size, np.int64)  # by bin: the one before it in its list
    width = 1
    while width < length + 1:
        width *= 2
    some = np.zeros(2 * width, np.uint8)  # node v has 2v and 2v + 1 below it; the leaf of a room is width + room
    count = 0
    for n in range(sizes.size):
        size = sizes[n]
        room = _least(some, width, size)
        if room < 0:
            chosen, room = count, length
            count += 1
        else:
            chosen = newest[room]
            newest[room] = older[chosen]
            if newest[room] < 0:
                _set(some, width + room, 0)
        bins[n] = chosen
        left = room - size
        if left:
            if newest[left] < 0:
                _set(some, width + left, 1)
            older[chosen] = newest[left]
            newest[left] = chosen
    return bins, count


@compiled
def _least(some: NDArray[np.uint8], width: int, size: int) -> int:
    """The least room that is at least `size`, -1 where there is none."""
    if size >= width:
        return -1
    node = width + size
    if some[node]:
        return size
    while node > 1:
        if node % 2 == 0 and some[node + 1]:
            node += 1
            while node < width:
                node = 2 * node if some[2 * node] else 2 * node + 1
            return node - width
        node //= 2
    return -1


@compiled
def _set(some: NDArray[np.uint8], node: int, value: int) -> None:
    """Set a leaf, and what its ancestors say of it."""
    some[node] = value
    node //= 2
    while node:
        some[node] = some[2 * node] | some[2 * node + 1]
        node //= 2
