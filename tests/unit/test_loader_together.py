"""Ranges read and checked together: what is whole comes, what is not is left to others, and the planner leaves nothing out."""

import os
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.crc import HARDWARE
from dataplane.formats.index import Placed
from dataplane.formats.tar import crc32c
from dataplane.objects import Objects
from dataplane.refs import Digest
from dataplane.store import open_store
from dataplane.store.local import LocalStore
from loaders.together import Together, pieces

pytestmark = pytest.mark.skipif(not HARDWARE, reason="this processor has no instruction for CRC-32C")

DATA = np.random.default_rng(3).integers(0, 256, 3 << 20, np.uint8).tobytes()


@pytest.fixture
def stored(tmp_path):
    store = LocalStore(tmp_path)
    return store, Objects(store).put(DATA, suffix=".tar")


def placed(start: int, size: int, *, crc: int | None = None) -> Placed:
    return Placed(start, size, crc32c(DATA[start : start + size]) if crc is None else crc)


@given(st.lists(st.integers(0, 1 << 20) | st.integers(0, 1 << 14), max_size=60))
def test_pieces_are_all_there_is_in_its_order_and_small_or_alone(spans):
    found = [range(*piece.indices(len(spans))) for piece in pieces(spans)]
    assert [n for piece in found for n in piece] == list(range(len(spans)))
    assert all(len(piece) == 1 or (len(piece) <= 16 and sum(spans[n] for n in piece) <= 1 << 20) for piece in found)
    assert all(len(a) == 16 or sum(spans[n] for n in a) + spans[b[0]] > 1 << 20 for a, b in pairwise(found))


def test_what_is_whole_comes_and_the_rest_is_left_out(stored):
    store, ref = stored
    together = Together(store)
    gone = Digest("0" * len(ref.hex), ".tar", 10)
    asked = [
        (ref, placed(7, 1000)),
        (ref, placed(1 << 20, 70_001)),
        (ref, placed(5, 0)),
        (ref, placed(9, 100, crc=1)),
        (ref, Placed(11, 33, None)),
        (ref, Placed(len(DATA) - 10, 20, None)),
        (gone, placed(0, 10)),
    ]
    read = together.read(asked)
    assert [None if data is None else data.tobytes() for data in read] == [
        DATA[7:1007],
        DATA[1 << 20 : (1 << 20) + 70_001],
        b"",
        None,
        DATA[11:44],
        None,
        None,
    ]


def test_it_grows_to_what_is_asked_for(stored):
    store, ref = stored
    together = Together(store)
    for size in (10, 2 << 20, 3 << 20, 1):
        (data,) = together.read([(ref, placed(0, size))])
        assert data is not None
        assert data.tobytes() == DATA[:size]


def test_no_file_stays_open(stored):
    store, ref = stored
    before = len(os.listdir("/proc/self/fd"))
    together = Together(store)
    for _ in range(5):
        together.read([(ref, placed(0, 10)), (ref, placed(20, 10))])
    assert len(os.listdir("/proc/self/fd")) == before


def test_it_is_for_folders_only(tmp_path):
    assert Together.of(open_store(str(tmp_path))) is not None
    assert Together.of(open_store("memory://together")) is None
