"""Ragged fields: room that is reserved, and what is set right at the end."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.buffers import BufferPool
from loaders.ragged import Ragged, RaggedPlaces

LENGTHS = st.integers(0, 40)


@given(st.lists(st.tuples(LENGTHS, LENGTHS, st.sampled_from(["reserved", "put", "other", "empty", "twice"])), max_size=12))
def test_places_hold_what_was_put_there_in_their_order(plan):
    places = RaggedPlaces(len(plan), BufferPool(keep=1))
    places.lay_out(lambda: (np.array([reserved for reserved, _, _ in plan], np.int64), {}))
    wanted = []
    for i, (reserved, other, how) in reversed(list(enumerate(plan))):
        size = other if how in {"other", "twice"} else reserved
        data = np.arange(i, i + size).astype(np.uint8)
        if how == "empty":
            places[i] = 0
            data = data[:0]
        elif how == "reserved":
            places.room(i)[:] = data
            places.filled(np.array([i]))
        else:
            if how == "twice":
                places[i : i + 1].put(np.full(reserved + 1, 255, np.uint8))
            places[i : i + 1].put(data)
        wanted.insert(0, data.tobytes())
    ragged = places.ragged()
    assert [data.tobytes() for data in ragged] == wanted
    assert [ragged[i].tobytes() for i in range(len(ragged))] == wanted
    assert len(ragged.data) == ragged.offsets[-1] == sum(map(len, wanted))


def test_room_is_reserved_once():
    places = RaggedPlaces(2, BufferPool(keep=1))
    places.lay_out(lambda: (np.array([3, 4], np.int64), {}))
    places.lay_out(lambda: pytest.fail("asked again"))
    assert places.reserved.tolist() == [3, 4]
    assert places.addresses.tolist() == [places.room(0).ctypes.data, places.room(1).ctypes.data]


def test_nothing_is_filled_to_begin_with():
    places = RaggedPlaces(2, BufferPool(keep=1))
    places.lay_out(lambda: (np.array([3, 4], np.int64), {}))
    assert [len(data) for data in places.ragged()] == [0, 0]


def test_buffers_of_about_one_size_share_their_memory():
    pool, seen = BufferPool(keep=1), set()
    for size in range(100_000, 100_064):
        places = RaggedPlaces(1, pool)
        places.lay_out(lambda size=size: (np.array([size], np.int64), {}))
        seen.add(int(places.addresses[0]))
    assert len(seen) < 5


def test_both_arrays_are_changed():
    changed = Ragged(np.zeros(3, np.uint8), np.array([0, 3])).map(lambda array: array + 1)
    assert (changed.data.tolist(), changed.offsets.tolist()) == ([1, 1, 1], [1, 4])


def test_memory_is_bounded_where_batches_differ_widely():
    pool, sizes = BufferPool(keep=3), [int(1000 * 1.2**n) for n in range(40)]
    for size in sizes:
        places = RaggedPlaces(1, pool)
        places.lay_out(lambda size=size: (np.array([size], np.int64), {}))
    del places
    pool.take((1,), np.uint8)
    assert 0 < sum(memory.nbytes for idle in pool._idle.values() for memory in idle) <= 3 * 1.125 * max(sizes)


def test_it_is_no_sequence_of_which_others_would_make_a_list():
    assert not isinstance(Ragged(np.zeros(3, np.uint8), np.array([0, 3])), Sequence)
