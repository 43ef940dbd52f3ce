"""Where the tokens of packed sequences come from, and bringing them there: the walk over documents, and the copy.

Two steps. A plan walks the documents of sequences: it writes positions, segments, separators and padding, and notes the **runs** of tokens
of one sequence that lie side by side in one row group of one shard. `copy_runs` then copies each run, in whatever type it is stored, to
tokens of the type that is wanted, looking at each on the way. In between, Python makes ready what is not: it checks, fetches or decodes.

Documents are those that a version wants, in stored order: document d of a shard has the places [begin[d], begin[d + 1]) of the shard's part
of the stream, the last of which is the separator's, if there is one, and its tokens begin at token `stored[d]` of the shard.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import carray
from numpy.typing import NDArray

from dataplane.jit import compiled
from loaders.kernels.memory import pointer, prefetch

__all__ = [
    "INT32",
    "INT64",
    "RUN",
    "SHARD",
    "UINT16",
    "UINT32",
    "copy_runs",
    "plan_packs",
    "plan_stream",
]

UINT16: Final = 3  # how tokens are stored: the number of bytes is 2 ** (kind // 2), and an even kind has a sign
INT32: Final = 4
UINT32: Final = 5
INT64: Final = 6  # uint64 too: what is beyond it is too large for everybody

_LINE: Final = 64  # bytes that come together
_BLOCK: Final = 128  # tokens that are copied between two bunches of prefetches

_SHARD_FIELDS = (
    *("documents", "begin", "stored"),  # how many, and the addresses of int64 [documents + 1] and int64 [documents]
    *("groups", "first", "at", "ready"),  # row groups: how many, addresses of int64 [groups + 1], int64 [groups] and uint8 [groups]
    "kind",  # how its tokens are stored
    *("packs", "pieces"),  # addresses of int64 [packs + 1], and of int64 [pieces, 3]: document, from where in it, how many tokens
)
SHARD = np.dtype([(name, np.int64) for name in _SHARD_FIELDS])
"""What compiled code knows of a shard. `first` has the first token of each row group, `at` where its tokens begin: the address, or the byte
of the file where that is not mapped; `ready` whether they can be copied from there as they are."""

RUN = np.dtype([(name, np.int64) for name in ("to", "shard", "group", "start", "count", "where", "kind", "ready")])
"""Tokens side by side: they go to `to` of the flat array of tokens, and are tokens [start, start + count) of the row group. `where` they
are, as `at` has it."""


@compiled
def plan_stream(
    sequences: tuple[NDArray[np.int64], NDArray[np.int64]],
    numbers: tuple[int, int],
    laid: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.void]],
    out: tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]],
    runs: NDArray[np.void],
) -> int:
    """Plan sequences of a stream. How many runs there are; -1 where `runs` has no room for them.

    `sequences`: the places of the stream that they begin at, and the rows of `out` that they go to: (tokens, positions, segments), the
    latter two perhaps without rows. `numbers`: how many tokens one has, and the separator, negative for none. `laid`: the numbers of the
    shards in the order of the stream; where each begins in it, and where the last ends; and all that are open, by number.
    """
    first, places = sequences
    length, separator = numbers
    order, starts, shards = laid
    positions, segments = out[1], out[2]
    behind = 1 if separator >= 0 else 0
    count = 0
    for n in range(first.size):
        row, at, k, segment = places[n], first[n], 0, 0
        before = count
        i = np.searchsorted(starts, at, "right") - 1
        while k < length:
            while starts[i + 1] <= at:
                i += 1
            shard = order[i]
            about = shards[shard]
            begin = carray(pointer(about["begin"]), (about["documents"] + 1,), np.int64)
            stored = carray(pointer(about["stored"]), (about["documents"],), np.int64)
            inside = at - starts[i]
            document = np.searchsorted(begin, inside, "right") - 1
            while k < length and document < about["documents"]:
                skipped = inside - begin[document]
                left = begin[document + 1] - inside
                taken = min(left, length - k)
                if taken > 0:
                    segment += 1
                    _tell(positions, segments, (row, k, taken), skipped, segment)
                    tokens = min(taken, left - behind)
                    if tokens > 0:
                        to = row * length + k
                        count = _note(runs, (before, count), about, (shard, to), (stored[document] + skipped, tokens))
                        if count < 0:
                            return -1
                    if tokens < taken:
                        out[0][row, k + tokens] = separator
                k += taken
                inside += taken
                document += 1
            at = starts[i] + inside
    return count


@compiled
def plan_packs(
    packs: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    numbers: tuple[int, int],
    shards: NDArray[np.void],
    out: tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]],
    runs: NDArray[np.void],
) -> int:
    """`plan_stream` for packs: the shard of each, its number there, and the row of `out` that it goes to. `numbers`: how many tokens one
    has, and what fills it up."""
    length, pad = numbers
    places = packs[2]
    positions, segments = out[1], out[2]
    count = 0
    for n in range(places.size):
        row, k, before = places[n], 0, count
        shard, pack = packs[0][n], packs[1][n]
        about = shards[shard]
        first = carray(pointer(about["packs"] + 8 * pack), (2,), np.int64)
        pieces = carray(pointer(about["pieces"] + 24 * first[0]), (first[1] - first[0], 3), np.int64)
        stored = carray(pointer(about["stored"]), (about["documents"],), np.int64)
        for piece in range(pieces.shape[0]):
            document, skipped, taken = pieces[piece]
            _tell(positions, segments, (row, k, taken), skipped, piece + 1)
            count = _note(runs, (before, count), about, (shard, row * length + k), (stored[document] + skipped, taken))
            if count < 0:
                return -1
            k += taken
        out[0][row, k:] = pad
        if positions.size:
            positions[row, k:] = 0
        if segments.size:
            segments[row, k:] = 0
    return count


@compiled
def _tell(positions: NDArray[np.int32], segments: NDArray[np.int32], where: tuple[int, int, int], skipped: int, segment: int) -> None:
    """Say of `where` (row, from, how many) that it is the document `segment`, from its token `skipped` on."""
    row, k, taken = where
    if positions.size:
        line = positions[row, k : k + taken]
        for j in range(line.size):
            line[j] = skipped + j
    if segments.size:
        segments[row, k : k + taken] = segment


@compiled
def _note(runs: NDArray[np.void], counts: tuple[int, int], about: np.void, where: tuple[int, int], what: tuple[int, int]) -> int:
    """Note tokens of a shard, a run for each row group: `where` is the number of the shard and the place that they go to, `what` the first
    and how many; `counts` how many runs there were before this sequence, and are now. How many there are then, or -1 where there is no
    room. No run reaches from one sequence into another: what is wrong with one is told of its sequence alone."""
    before, count = counts
    shard, to = where
    start, tokens = what
    first = carray(pointer(about["first"]), (about["groups"] + 1,), np.int64)
    at = carray(pointer(about["at"]), (about["groups"],), np.int64)
    ready = carray(pointer(about["ready"]), (about["groups"],), np.uint8)
    if count > before:
        last = runs[count - 1]
        if last["shard"] == shard and last["to"] + last["count"] == to:
            end = first[last["group"]] + last["start"] + last["count"]
            more = min(tokens, first[last["group"] + 1] - end)
            if end == start and more > 0:
                last["count"] += more
                to, start, tokens = to + more, start + more, tokens - more
    if tokens:
        group = np.searchsorted(first, start, "right") - 1
        while tokens:
            if count == runs.size:
                return -1
            inside = start - first[group]
            taken = min(tokens, first[group + 1] - start)
            if taken > 0:
                run = runs[count]
                run["to"], run["shard"], run["group"], run["start"], run["count"] = to, shard, group, inside, taken
                run["kind"], run["ready"] = about["kind"], ready[group]
                run["where"] = at[group] + inside * _width(about["kind"])
                count += 1
                to, start, tokens = to + taken, start + taken, tokens - taken
            group += 1
    return count


@compiled
def copy_runs(runs: NDArray[np.void], begin: int, most: int, out: NDArray[Any]) -> tuple[int, int]:
    """Copy the runs from `begin` on, all of which are ready, into `out`, flat. Each token has to be one of 0 … `most`, a power of two less
    one.

    How many runs there are, and 0; or the first run with a token that is not, and which of its tokens it is.

    Sequences come from all over the memory, where the processor cannot guess what is next: so a run is prefetched while the one before it
    is copied, which takes a third of the time off.
    """
    for n in range(begin, runs.size):
        run = runs[n]
        ahead, left = 0, 0
        if n + 1 < runs.size:
            ahead, left = runs[n + 1]["where"], runs[n + 1]["count"] * _width(runs[n + 1]["kind"])
        target = out[run["to"] : run["to"] + run["count"]]
        _copy((run["where"], run["kind"]), target, ahead, left)
        if not _fits(run["where"], run["kind"], run["count"], most):
            return n, _first_bad(run["where"], run["kind"], run["count"], most)
    return runs.size, 0


@compiled
def _copy(where: tuple[int, int], out: NDArray[Any], ahead: int, left: int) -> None:
    """Copy tokens from `where`, their address and kind. Meanwhile `left` bytes from the address `ahead` on are prefetched."""
    address, kind = where
    if kind == INT32:
        _copy_blocks(carray(pointer(address), (out.size,), np.int32), out, ahead, left)
    elif kind == UINT16:
        _copy_blocks(carray(pointer(address), (out.size,), np.uint16), out, ahead, left)
    elif kind == UINT32:
        _copy_blocks(carray(pointer(address), (out.size,), np.uint32), out, ahead, left)
    else:
        _copy_blocks(carray(pointer(address), (out.size,), np.int64), out, ahead, left)


@compiled
def _copy_blocks(tokens: NDArray[Any], out: NDArray[Any], ahead: int, left: int) -> None:
    for start in range(0, tokens.size, _BLOCK):
        stop = min(tokens.size, start + _BLOCK)
        for byte in range(start * tokens.itemsize, min(stop * tokens.itemsize, left), _LINE):
            prefetch(ahead + byte)
        out[start:stop] = tokens[start:stop]


@compiled
def _fits(address: int, kind: int, count: int, most: int) -> bool:
    """Whether tokens of some kind are all in 0 … `most`: no bit above those may be set in any. Eight bytes are looked at together, whatever
    the kind."""
    width = _width(kind)
    bits = np.uint64(0)
    words = carray(pointer(address), (count * width // 8,), np.uint64)
    for i in range(words.size):
        bits |= words[i]
    rest = carray(pointer(address + 8 * words.size), (count * width - 8 * words.size,), np.uint8)
    for i in range(rest.size):
        bits |= np.uint64(rest[i]) << np.uint64(8 * (i % width))
    token = np.uint64(2**64 - 1) >> np.uint64(64 - 8 * width)
    wrong = token & ~(np.uint64(most) & (token >> np.uint64((kind + 1) % 2)))
    found = False
    for at in range(0, 64, 8 * width):
        found |= (bits >> np.uint64(at)) & wrong != 0
    return not found


@compiled
def _first_bad(address: int, kind: int, count: int, most: int) -> int:
    for i in range(count):
        if not _fits(address + i * _width(kind), kind, 1, most):
            return i
    return 0


@compiled
def _width(kind: int) -> int:
    """Bytes of a token."""
    return 1 << (kind // 2)
