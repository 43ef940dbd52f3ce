import gc
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
    assert sum(len(idle) for idle in pool._idle.values()) == 2


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
