"""Memory that is used again."""

import multiprocessing
import threading

import pytest

from dataplane.memory import keep_freed_memory, scratch


def test_a_thread_has_its_memory_again():
    first = scratch(1000)
    first[:] = b"a" * 1000
    assert bytes(scratch(10)) == b"a" * 10
    assert len(scratch(0)) == 0
    assert len(scratch(100_000)) == 100_000


def test_threads_have_memory_of_their_own():
    mine = scratch(10)
    mine[:] = b"a" * 10
    thread = threading.Thread(target=_write)
    thread.start()
    thread.join()
    assert bytes(mine) == b"a" * 10


def test_much_memory_is_not_kept():
    small, large = scratch(10), scratch(9 << 20)
    small[:], large[:10] = b"a" * 10, b"b" * 10
    assert bytes(scratch(10)) == b"a" * 10


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_memory_of_its_own():
    mine = scratch(10)
    mine[:] = b"a" * 10
    child = multiprocessing.get_context("fork").Process(target=_write)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert bytes(mine) == b"a" * 10


def test_the_library_can_be_told_twice():
    keep_freed_memory()
    keep_freed_memory()


def _write():
    scratch(10)[:] = b"c" * 10
