"""The directory after every step at which a process can be killed."""

import os

import pytest

from tests.hot import totals
from tiering.directory import Directory
from tiering.layout import MIN_LIMIT_BYTES
from tiering.stats import Counters

KEY, OTHER = f"{1:064x}.tar", f"{2:064x}.tar"
SIZE = 100_000


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "hot"


def make(folder, limit_bytes=MIN_LIMIT_BYTES):
    directory = Directory(folder, limit_bytes=limit_bytes, counters=Counters(), last_read=dict)
    directory.prepare()
    return directory


def start(directory, key, *, written):
    """A claimed object with room reserved, and so many bytes of it there."""
    fd = directory.claim(key, wait=False)
    assert directory.reserve(key, fd, SIZE, evict=True)
    os.pwrite(fd, bytes(written), 0)
    return fd


def names(folder):
    return sorted(f"{where}/{name}" for where in ("objects", "partial") for name in os.listdir(folder / where))


def settled(folder):
    """(objects, bytes) after another process has opened the directory."""
    make(folder).close()
    found = totals(folder)
    return found.objects, found.bytes


def test_an_object_on_its_way(folder):
    directory = make(folder)
    fd = start(directory, KEY, written=SIZE)
    assert settled(folder) == (0, SIZE)  # alive: it counts, and nobody touches it
    assert names(folder) == [f"partial/{KEY}"]
    directory.complete(KEY, SIZE)
    directory.release(KEY, fd)
    assert settled(folder) == (1, SIZE)
    assert names(folder) == [f"objects/{KEY}"]
    assert directory.evict(KEY)
    assert settled(folder) == (0, 0)
    directory.close()


def test_an_object_that_does_not_come(folder):
    directory = make(folder)
    fd = start(directory, KEY, written=10)
    directory.cancel(KEY, fd)
    directory.release(KEY, fd)
    assert settled(folder) == (0, 0)
    assert names(folder) == []
    directory.close()


def test_killed_after_the_claim(folder):
    directory = make(folder)
    os.close(directory.claim(KEY, wait=False))
    assert settled(folder) == (0, 0)
    assert names(folder) == []
    directory.close()


def test_killed_after_the_reservation(folder):
    directory = make(folder)
    os.close(start(directory, KEY, written=10))
    directory.close()
    assert names(folder) == [f"partial/{KEY}"]
    assert settled(folder) == (0, 0)
    assert names(folder) == []


def test_killed_between_rename_and_commit(folder):
    directory = make(folder)
    fd = start(directory, KEY, written=SIZE)
    os.rename(folder / "partial" / KEY, folder / "objects" / KEY)
    os.close(fd)
    directory.close()
    assert settled(folder) == (1, SIZE)
    assert names(folder) == [f"objects/{KEY}"]


def test_alive_between_rename_and_commit(folder):
    directory = make(folder)
    fd = start(directory, KEY, written=SIZE)
    os.rename(folder / "partial" / KEY, folder / "objects" / KEY)
    assert settled(folder) == (1, SIZE)
    directory.release(KEY, fd)
    assert names(folder) == [f"objects/{KEY}"]
    directory.close()


def test_killed_in_the_middle_of_an_eviction(folder):
    directory = make(folder)
    fd = start(directory, KEY, written=SIZE)
    directory.complete(KEY, SIZE)
    directory.release(KEY, fd)
    directory.close()
    os.truncate(folder / "objects" / KEY, 0)
    assert settled(folder) == (0, 0)
    assert names(folder) == []


def test_killed_after_an_eviction_that_was_not_committed(folder):
    directory = make(folder)
    fd = start(directory, KEY, written=SIZE)
    directory.complete(KEY, SIZE)
    directory.release(KEY, fd)
    os.unlink(folder / "objects" / KEY)
    assert settled(folder) == (0, 0)
    directory.close()


def test_room_of_the_dead_is_reclaimed_before_anything_is_evicted(folder):
    directory = make(folder)
    fd = start(directory, KEY, written=SIZE)
    directory.complete(KEY, SIZE)
    directory.release(KEY, fd)
    os.close(start(directory, OTHER, written=10))  # not released: as if killed
    third = f"{3:064x}.tar"
    fd = start(directory, third, written=0)
    assert names(folder) == [f"objects/{KEY}", f"partial/{third}"]
    directory.release(third, fd)
    directory.close()


def test_objects_and_live_fetches_are_counted_anew_when_the_index_is_lost(folder):
    directory = make(folder)
    fd = start(directory, KEY, written=SIZE)
    directory.complete(KEY, SIZE)
    directory.release(KEY, fd)
    fd = start(directory, OTHER, written=10)
    directory.close()
    (folder / "index.sqlite").unlink()
    assert settled(folder) == (1, 2 * SIZE)
    directory.complete(OTHER, SIZE)
    directory.release(OTHER, fd)
    assert settled(folder) == (2, 2 * SIZE)
    directory.close()


def test_what_is_being_read_is_not_evicted(folder):
    directory = make(folder)
    fd = start(directory, KEY, written=SIZE)
    directory.complete(KEY, SIZE)  # its claim is an exclusive lock still
    assert not directory.evict(KEY)
    claim = directory.claim(OTHER, wait=False)
    assert not directory.reserve(OTHER, claim, 300_000, evict=True)
    directory.release(KEY, fd)
    assert directory.reserve(OTHER, claim, 200_000, evict=True)
    assert names(folder) == [f"partial/{OTHER}"]
    directory.release(OTHER, claim)
    directory.close()
