import gc
import sys
import threading

import numpy as np

from loaders.buffers import BufferPool


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_once_the_last_view_is_gone():
    pool = BufferPool(keep=1)
    first = pool.take((4, 8), np.float32)
    where = address(first)
    view = first[1:, ::2].T
    del first
    second = pool.take((4, 8), np.float32)
    assert address(second) != where, "a view still lives on the first piece"
    del view
    gc.collect()
    assert address(pool.take((4, 8), np.float32)) == where
    assert address(second) != where


def test_only_so_many_idle_pieces_are_kept():
    pool = BufferPool(keep=2)
    arrays = [pool.take((10,), np.uint8) for _ in range(5)]
    del arrays
    again = pool.take((10,), np.uint8)
    assert sum(len(idle) for idle in pool._idle.values()) == 1, "two were kept, and one of them is in use"
    del again


def test_a_torch_tensor_keeps_the_memory_alive():
    import torch

    pool = BufferPool(keep=1)
    tensor = torch.from_numpy(pool.take((16,), np.int64))
    tensor.fill_(7)
    other = pool.take((16,), np.int64)
    other[:] = 0
    assert tensor.tolist() == [7] * 16


def test_threads_may_drop_views_anywhere():
    pool = BufferPool(keep=4)

    def work():
        for _ in range(500):
            array = pool.take((64,), np.uint8)
            array[:] = threading.get_ident() % 251
            assert (array == threading.get_ident() % 251).all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(idle) for idle in pool._idle.values()) <= 4


def test_dropping_a_batch_runs_no_python_code():
    """An interrupt that arrives in a `__del__` is lost."""
    pool = BufferPool(keep=1)
    array = pool.take((8,), np.uint8)
    seen = []
    sys.setprofile(lambda frame, event, arg: seen.append((event, getattr(arg, "__name__", frame.f_code.co_name))))
    try:
        del array
    finally:
        sys.setprofile(None)
    assert [event for event, _ in seen if event == "call"] == []
    assert len(pool._returned) == 1


def test_other_memory_can_be_asked_for():
    made = []

    def allocate(shape, dtype):
        made.append(np.zeros(shape, dtype))
        return made[-1]

    pool = BufferPool(keep=2)
    before = pool.take((4,), np.int32)
    pool.allocate_with(allocate)
    del before
    after = pool.take((4,), np.int32)
    assert address(after) == address(made[0]), "what is older does not come back"
    where = address(after)
    del after
    assert address(pool.take((4,), np.int32)) == where
    assert len(made) == 1


def test_memory_lives_as_long_as_views_of_it_even_without_the_pool():
    pool = BufferPool(keep=1)
    array = pool.take((1000,), np.int64)
    array[:] = 7
    pool.allocate_with(np.empty)
    del pool
    gc.collect()
    others = [np.zeros(1000, np.int64) for _ in range(50)]
    assert (array == 7).all()
    del others


def test_what_lay_idle_for_longest_is_let_go_of():
    pool = BufferPool(keep=1, fields=2)
    for size in (10, 20, 10, 30):
        pool.take((size,), np.uint8)
    pool.take((40,), np.uint8)
    assert {shape for (shape, _), idle in pool._idle.items() if idle} == {(10,), (30,)}
