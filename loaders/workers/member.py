"""One worker process, as its parent has it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dataplane.errors import BadSample, InvalidArgument
from loaders.workers.block import Block
from loaders.workers.job import Job, name_of
from loaders.workers.serving import DONE, READY, REQUEST, WRONG, result_bytes, serve

__all__ = ["Died", "Member"]

_JOIN_SECONDS: Final = 5.0


class Died(Exception):
    """The process ended in the middle of something; the text says how."""


class Member:
    """A process that does `job`, one value at a time, once it has been met. Not thread-safe, except that anybody may `kill` it.

    Raises `InvalidArgument` where this process is a daemonic one, which must not start others.
    """

    def __init__(self, job: Job, pickled: bytes) -> None:
        if multiprocessing.current_process().daemon:
            raise InvalidArgument(
                f"Map({name_of(job.fn)}, processes=…): this is itself a worker process, which must not start others; leave processes out"
            )
        self._job = job
        self._offset = result_bytes(job)
        self._block = Block()
        self._connection, theirs = multiprocessing.Pipe()
        self._parent = os.getpid()
        self._process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs, self._block, pickled), name="dataplane-map", daemon=True
        )
        try:
            with _interrupts_held():
                self._process.start()
            self._block.reserve(self._offset + 1)
        except BaseException:
            self.dispose()
            raise
        finally:
            theirs.close()

    def meet(self) -> None:
        """Wait until it has loaded the function. Raises `InvalidArgument` where that cannot be done there, or where the script that it is
        from starts processes whenever it is imported."""
        try:
            answer = self._connection.recv_bytes()
        except (EOFError, OSError):
            raise InvalidArgument(
                f"Map({name_of(self._job.fn)}, processes=…): a worker process {self._how()} before it could begin. A script that uses "
                'worker processes must be a file, and needs `if __name__ == "__main__":` around what it runs, since they import it, too'
            ) from None
        if answer != READY:
            _, text = pickle.loads(answer[1:])
            raise InvalidArgument(
                f"Map({name_of(self._job.fn)}, processes=…): a worker process cannot load the function, which must be defined at the top "
                f"of a module that can be imported (not in a notebook or a prompt):\n{text}"
            )

    def do(self, value: npt.NDArray[np.uint8], stream: int, out: npt.NDArray[Any]) -> None:
        """Have the job done for `value`, of one axis or three. Raises `BadSample` where the function raised, `InvalidArgument` where it
        returned something else than announced, and `Died`."""
        self._block.reserve(self._offset + value.size)
        self._block.array(self._offset, value.shape, np.uint8)[...] = value
        request = REQUEST.pack(self._block.size, stream, *value.shape, *(0,) * (3 - value.ndim))
        try:
            self._connection.send_bytes(request)
            answer = self._connection.recv_bytes()
        except (EOFError, OSError):
            raise Died(self._how()) from None
        if answer != DONE:
            self._raise(answer)
        out[...] = self._block.array(0, self._job.shape, self._job.dtype)

    def kill(self) -> None:
        """Make the process end now. Whoever waits for its answer hears `Died`; he has to `dispose`."""
        if self._parent == os.getpid():  # after a fork it is somebody else's
            with suppress(ValueError, AttributeError):  # closed before, never started
                self._process.kill()

    def dismiss(self) -> None:
        """Let it end by itself: nothing more will be asked. For the thread that has it, which then has to `dispose`."""
        self._connection.close()

    def dispose(self, *, until: float = 0.0) -> None:
        """Have the process gone, and everything that belongs to it. It may take until then (of `time.monotonic`) to end by itself. For the
        thread that has it. Idempotent."""
        self._connection.close()
        self._block.close()
        if self._parent != os.getpid():
            return
        with suppress(ValueError):  # closed before
            if self._process.pid is not None:
                self._process.join(max(0.0, until - time.monotonic()))
                if self._process.exitcode is None:
                    self._process.kill()
                    self._process.join(_JOIN_SECONDS)
            self._process.close()

    def _raise(self, answer: bytes) -> None:
        told, text = pickle.loads(answer[1:])
        try:
            error = pickle.loads(told)
        except Exception:  # it could not be sent, or is of a module that is found only there
            error = None
        if not isinstance(error, Exception):
            what, error = text.strip().splitlines()[-1], RuntimeError(text)
        else:
            what = f"{type(error).__name__}: {error}"
            error.add_note(f"In the worker process:\n{text}")
            if answer.startswith(WRONG):
                raise error
        raise BadSample(f"Map({name_of(self._job.fn)}) failed: {what}") from error

    def _how(self) -> str:
        """How it ended."""
        self._process.join(_JOIN_SECONDS)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started here never see Ctrl-C, not even while they start."""
    resource_tracker.ensure_running()  # starting it lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
