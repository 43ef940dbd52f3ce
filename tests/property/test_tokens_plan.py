"""Planning and copying sequences, as compiled code does it, against documents in lists: shards and documents without tokens, documents that
nobody wants, row groups that end anywhere."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.shards import starts
from loaders.kernels.tokens import INT32, RUN, SHARD, copy_runs, plan_packs, plan_stream
from loaders.tokens.bestfit import Packs, pack
from loaders.tokens.stream import Laid

DOCUMENT = st.tuples(st.integers(0, 9), st.booleans(), st.booleans())  # tokens, whether it is wanted, whether a row group ends behind it
SHARDS = st.lists(st.lists(DOCUMENT, max_size=8), min_size=1, max_size=5)
SPOILED = -7  # in rows that nobody asked for


@dataclass
class Stored:
    """A shard in memory: all its tokens, and what compiled code is told of it."""

    docs: list  # those that are wanted: lists of tokens
    keep: tuple
    about: tuple


def stored(number, documents, *, behind, length):
    counts = np.array([n for n, _, _ in documents], np.int64)
    tokens = np.arange(counts.sum(), dtype=np.int32) + 1000 * number
    begins = starts(counts)
    wanted = np.array([want for _, want, _ in documents], bool)
    ends = [begins[i + 1] for i, (_, _, ends) in enumerate(documents) if ends]
    first = np.array([0, *ends, begins[-1]], np.int64)
    at = tokens.ctypes.data + 4 * first[:-1]
    ready = np.ones(len(at), np.uint8)
    begin, places = starts(counts[wanted] + behind), np.ascontiguousarray(begins[:-1][wanted])
    packs = pack(counts[wanted], length)
    about = (int(wanted.sum()), begin.ctypes.data, places.ctypes.data, len(at), first.ctypes.data, at.ctypes.data, ready.ctypes.data, INT32)
    about = (*about, packs.starts.ctypes.data, packs.pieces.ctypes.data)
    docs = [tokens[a : a + n].tolist() for a, n in zip(places.tolist(), counts[wanted].tolist(), strict=True)]
    return Stored(docs, (tokens, first, at, ready, begin, places, packs), about)


def filled(plan, sequences, length):
    """Tokens, positions and segments of sequences that are planned into every second row, and how many runs that took."""
    tokens, positions, segments = (np.full((2 * sequences, length), SPOILED, np.int32) for _ in range(3))
    runs = np.empty(1, RUN)
    while (count := plan(np.arange(sequences) * 2, (tokens, positions, segments), runs)) < 0:
        runs = np.empty(2 * len(runs), RUN)
    runs = runs[:count]
    ends = runs["to"] + runs["count"]
    assert (runs["count"] > 0).all()
    assert (runs["to"] // length == (ends - 1) // length).all()  # none reaches into another sequence
    assert copy_runs(runs, 0, (1 << 31) - 1, tokens.reshape(-1)) == (count, 0)
    for array in (tokens, positions, segments):
        assert (array[1::2] == SPOILED).all()
    return [
        [list(line) for line in zip(*(array[2 * n].tolist() for array in (tokens, positions, segments)), strict=True)]
        for n in range(sequences)
    ]


@settings(deadline=None, max_examples=150)
@given(shards=SHARDS, length=st.integers(1, 12), separator=st.sampled_from([-1, 99]), seed=st.sampled_from([None, 0, 1]))
def test_a_stream_is_filled_as_lists_say(shards, length, separator, seed):
    behind = [] if separator < 0 else [separator]
    shards = [stored(number, documents, behind=len(behind), length=length) for number, documents in enumerate(shards)]
    rows = np.array([shard.about for shard in shards], np.int64).view(SHARD).reshape(-1)
    totals = np.array([sum(len(doc) + len(behind) for doc in shard.docs) for shard in shards], np.int64)
    laid = Laid.of(totals, seed=seed, epoch=3)
    stream = [
        (token, at, (number, n))
        for number in laid.order.tolist()
        for n, doc in enumerate(shards[number].docs)
        for at, token in enumerate(doc + behind)
    ]
    expected = []
    for first in range(0, len(stream) - length + 1, length):
        mine = stream[first : first + length]
        owners = list(dict.fromkeys(owner for _, _, owner in mine))
        expected.append([[token, at, 1 + owners.index(owner)] for token, at, owner in mine])
    firsts = np.arange(len(expected), dtype=np.int64) * length

    def plan(places, out, runs):
        return plan_stream((firsts, places), (length, separator), (laid.order, laid.starts, rows), out, runs)

    assert filled(plan, len(expected), length) == expected
    opened = np.zeros(len(shards), bool)
    opened[laid.shards(firsts, length)] = True
    assert opened[np.unique([shard for _, _, (shard, _) in stream[: len(expected) * length]]).astype(int)].all()


@settings(deadline=None, max_examples=150)
@given(shards=SHARDS, length=st.integers(1, 12))
def test_packs_are_filled_as_lists_say(shards, length):
    shards = [stored(number, documents, behind=0, length=length) for number, documents in enumerate(shards)]
    rows = np.array([shard.about for shard in shards], np.int64).view(SHARD).reshape(-1)
    expected, which = [], []
    for number, shard in enumerate(shards):
        packs: Packs = shard.keep[-1]
        for p in range(len(packs)):
            pieces = packs.pieces[packs.starts[p] : packs.starts[p + 1]].tolist()
            line = [[shard.docs[d][at + i], at + i, 1 + n] for n, (d, at, count) in enumerate(pieces) for i in range(count)]
            expected.append(line + [[5, 0, 0]] * (length - len(line)))
            which.append((number, p))
    numbers, packs = np.array(which, np.int64).reshape(-1, 2).T.copy()

    def plan(places, out, runs):
        return plan_packs((numbers, packs, places), (length, 5), rows, out, runs)

    assert filled(plan, len(expected), length) == expected
