"""Bytes put aside: pieces of one unnamed file, read by anybody at any time."""

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dataplane.aside import Aside

RNG = np.random.default_rng(0)
DATA = [RNG.bytes(size) for size in (0, 1, 100_000, 0, 3 << 20, 7)]


def test_what_is_put_there_is_read_again_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))
    aside = Aside()
    openers = [aside.put(memoryview(data)) for data in DATA]
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del aside
    for opener, data in zip(openers, DATA, strict=True):
        one, other = opener(), opener()
        assert one.read(5) == data[:5]
        assert (one.tell(), other.tell()) == (len(data[:5]), 0)
        assert (one.seek(-3, os.SEEK_CUR) if len(data) > 5 else 2) == 2
        assert one.seek(0, os.SEEK_END) == len(data)
        assert one.read(10) == b""  # and not the next one's
        assert other.read() == data
        one.close()
    del opener, openers, one, other
    assert len(os.listdir("/proc/self/fd")) == before


def test_many_threads():
    aside = Aside()
    pieces = [RNG.bytes(size) for size in RNG.integers(200_000, size=200)]
    with ThreadPoolExecutor(8) as threads:
        openers = list(threads.map(aside.put, pieces))
        assert list(threads.map(lambda opener: opener().read(), openers)) == pieces


def test_after_a_fork():
    opener = Aside().put(DATA[2])
    child = os.fork()
    if not child:
        os._exit(0 if opener().read() == DATA[2] else 1)
    assert os.waitpid(child, 0)[1] == 0
