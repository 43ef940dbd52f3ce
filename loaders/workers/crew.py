"""Some worker processes that do one job, shared by the threads of a loader."""

from __future__ import annotations

import os
import pickle
import threading
import time
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

import numpy.typing as npt

from dataplane.errors import BadSample
from loaders.leaving import Left, heed, listens
from loaders.workers.job import Here, Job, name_of
from loaders.workers.member import Died, Member

__all__ = ["Crew"]

_GRACE_SECONDS: Final = 0.2  # for all processes together to end by themselves
_TRIES: Final = 2  # of one value: a process that was killed by somebody is no fault of the value, two in a row are


class Crew:
    """Up to `count` processes that do `job`, started when they are first needed. Thread-safe: each thread that calls has one for the call.

    They end when this is closed or collected, when the interpreter exits, and when it is killed. In a forked child it starts its own, and
    after `close` others.
    """

    def __init__(self, job: Job, *, count: int) -> None:
        self._job = job
        self._here = Here(job)
        self._pickled = pickle.dumps(job)
        self._count = count
        self._beginning = threading.Lock()
        self._begin()

    def do(self, value: npt.NDArray[Any], stream: int, out: npt.NDArray[Any]) -> None:
        """Have the job done for `value`, uint8 of one axis or three, and the result written to `out`. On a thread that is none of a
        loader's, it is done there and then, for debuggers.

        A process that dies meanwhile is replaced, and the value tried once more. Raises `BadSample` where the function raised or that one
        dies, too; `InvalidArgument` where it returned something else than announced or cannot be loaded; `Left` where this is closed.
        """
        if not listens():
            self._here.do(value, stream, out)
            return
        for _ in range(_TRIES):
            heed()
            try:
                self._try(self._at_home(), value, stream, out)
                return
            except Died as death:
                died = str(death)
        raise BadSample(f"Map({name_of(self._job.fn)}) failed: the worker process {died}, and so did another one that tried again")

    def close(self) -> None:
        """End the processes, also those that work. Idempotent."""
        self._finalizer()

    def _try(self, home: _Home, value: npt.NDArray[Any], stream: int, out: npt.NDArray[Any]) -> None:
        member = home.take()
        try:
            member = member or self._started(home)
            member.do(value, stream, out)
        except Died:
            home.bury(member)
            member = None
            if not home.open:
                raise Left from None
            raise
        finally:
            home.give_back(member)

    def _started(self, home: _Home) -> Member:
        """One more process, which has loaded the function."""
        member = home.hire(Member(self._job, self._pickled))
        try:
            member.meet()
        except BaseException:
            home.bury(member)
            if not home.open:  # that is what ended it
                raise Left from None
            raise
        return member

    def _at_home(self) -> _Home:
        if not self._home.open:
            with self._beginning:
                if not self._home.open:
                    self._begin()
        return self._home

    def _begin(self) -> None:
        self._home = _Home(self._count)
        self._finalizer = weakref.finalize(self, self._home.close)


class _Home:
    """Where processes are while nobody has them; None stands for one that has not been started."""

    def __init__(self, count: int) -> None:
        self._pid = os.getpid()
        self._idle: SimpleQueue[Member | None] = SimpleQueue()
        self._hired: list[Member] = []
        self._closed = False
        for _ in range(count):
            self._idle.put(None)

    @property
    def open(self) -> bool:
        """It is this process's, and not closed."""
        return not self._closed and self._pid == os.getpid()

    def take(self) -> Member | None:
        """An idle one; it is waited for."""
        member = self._idle.get()
        if self._closed:
            self.give_back(member)
            raise Left
        return member

    def hire(self, member: Member) -> Member:
        """Count one that has been started: from now on closing this ends it."""
        self._hired.append(member)
        if self._closed:  # meanwhile
            member.kill()
        return member

    def bury(self, member: Member | None, *, until: float = 0.0) -> None:
        """Have nothing left of one that has died, or may take until then to end by itself."""
        if member is not None:
            with suppress(ValueError):
                self._hired.remove(member)
            member.dispose(until=until)

    def give_back(self, member: Member | None) -> None:
        """Make it idle again. Once this is closed, it ends."""
        if self._closed:
            self.bury(member)
            member = None
        self._idle.put(member)

    def close(self) -> None:
        """Those that are idle end by themselves, those that work are made to. It takes no lock: the garbage collector may call it."""
        self._closed = True
        idle: list[Member | None] = []
        with suppress(Empty):
            while True:
                idle.append(self._idle.get_nowait())
        for member in list(self._hired):
            if member in idle:
                member.dismiss()
            else:
                member.kill()
        until = time.monotonic() + _GRACE_SECONDS
        for each in idle:
            self.bury(each, until=until)
        self._idle.put(None)  # whoever waits for one hears of it, and tells the next
