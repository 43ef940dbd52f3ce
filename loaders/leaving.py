"""How the threads of a loader hear that nobody waits for their work any more: between two steps, and while they pause."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue

__all__ = ["Leaving", "Left", "heed", "listen", "listens", "pause"]


class Left(BaseException):
    """Nobody waits for this work any more, so it ends here. It is no `Exception`: who handles errors of samples must let it pass."""


class Leaving:
    """Told once, heard by every thread that listens. Thread-safe; telling takes no lock, since the garbage collector may be who does it, in
    the middle of anything."""

    __slots__ = ("_bell", "told")

    def __init__(self) -> None:
        self.told = False
        self._bell: SimpleQueue[None] = SimpleQueue()

    def tell(self) -> None:
        """End whatever listens. Idempotent."""
        self.told = True
        self._bell.put(None)

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than until it is told. Whether it was."""
        if not self.told:
            with suppress(Empty):
                self._bell.get(timeout=seconds)
                self._bell.put(None)  # for the next who waits
        return self.told


_here = threading.local()


def listen(leaving: Leaving) -> None:
    """From now on, work on this thread ends when `leaving` is told."""
    _here.leaving = leaving


def listens() -> bool:
    """Whether this is a thread of a loader, not the caller's own."""
    return getattr(_here, "leaving", None) is not None


def heed() -> None:
    """Raise `Left` where nobody waits for what this thread does. It costs next to nothing."""
    leaving: Leaving | None = getattr(_here, "leaving", None)
    if leaving is not None and leaving.told:
        raise Left


def pause(seconds: float) -> None:
    """Sleep; a thread that listens raises `Left` as soon as it is told."""
    leaving: Leaving | None = getattr(_here, "leaving", None)
    if leaving is None:
        time.sleep(seconds)
    elif leaving.wait(seconds):
        raise Left
