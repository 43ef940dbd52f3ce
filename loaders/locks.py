"""Locks that no handler of signals waits for in vain, nor a forked child: whichever thread held one there stayed behind."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any, Final

__all__ = ["lock_of"]

_owners: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


def lock_of(owner: Any) -> Any:
    """A lock for `owner` to have as its `_lock`; in a forked child it gets another there. A thread may take it twice, since handlers of
    signals run in the middle of anything."""
    _owners.add(owner)
    return threading.RLock()


def _after_fork() -> None:
    for owner in list(_owners):
        owner._lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork)
