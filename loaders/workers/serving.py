"""What a worker process does: load the function, then answer request after request until nobody asks any more.

A request is five int64: the size of the shared block, the stream of random numbers, and the shape of the value, which is [a] where b is 0,
else [a, b, c]. The block has the result at 0 and the value at `result_bytes`. An answer is a byte, `READY`, `DONE`, `RAISED` or `WRONG`,
the last two followed by a pickled (pickled error, text of its traceback), where the former is empty if the error cannot be sent.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import threading
import traceback
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np

from loaders.workers.block import Block
from loaders.workers.job import PASSED, Job

__all__ = ["DONE", "RAISED", "READY", "REQUEST", "WRONG", "result_bytes", "serve"]

REQUEST: Final = struct.Struct("<5q")
READY: Final = b"+"
DONE: Final = b"."
RAISED: Final = b"!"
WRONG: Final = b"?"


def result_bytes(job: Job) -> int:
    """Of one result, rounded up so that what follows it is aligned."""
    size = int(np.prod(job.shape, dtype=np.int64)) * job.dtype.itemsize
    return size + -size % 64


def serve(connection: Connection[Any, Any], block: Block, pickled: bytes) -> None:
    """The life of a worker process. `pickled` is a `Job`. It ends when its pipe does or, in the middle of a call, its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to everybody: the parent is the one to act on it
    threading.Thread(target=_follow, name="dataplane-map-parent", daemon=True).start()
    try:
        job: Job = pickle.loads(pickled)
    except BaseException as error:
        connection.send_bytes(RAISED + _told(error))
        return
    connection.send_bytes(READY)
    while True:
        try:
            request = connection.recv_bytes()
        except (EOFError, OSError):
            return
        answer = _answer(job, block, request)
        try:
            connection.send_bytes(answer)
        except OSError:  # nobody is there to hear it
            return


def _follow() -> None:
    """End this process once its parent has ended: a call that never returns would outlive one that was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(job: Job, block: Block, request: bytes) -> bytes:
    size, stream, a, b, c = REQUEST.unpack(request)
    try:
        block.look(size)
        value = block.array(result_bytes(job), (a, b, c) if b else (a,), np.uint8)
        job.do(value, stream, block.array(0, job.shape, job.dtype))
    except PASSED as error:
        return WRONG + _told(error)
    except Exception as error:
        return RAISED + _told(error)
    return DONE


def _told(error: BaseException) -> bytes:
    text = "".join(traceback.format_exception(error))
    try:
        told = pickle.dumps(error)
        pickle.loads(told)  # some errors can be taken apart and not put together
    except Exception:
        told = b""
    return pickle.dumps((told, text))
