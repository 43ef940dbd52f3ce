"""Waiting out a store that fails for now."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from dataplane.errors import StoreUnavailable
from loaders.leaving import heed, pause

__all__ = ["patiently"]

T = TypeVar("T")

_FIRST_SECONDS: Final = 0.1
_LONGEST_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 60.0
_TOLD_SECONDS: Final = 1.0  # a shorter pause is nobody's business
_jitter = random.Random()  # of its own: pauses must not move the numbers that a training script draws
_logger = logging.getLogger("loaders")


def patiently(call: Callable[[], T]) -> T:
    """What `call` gives. Where it raises `StoreUnavailable` it is called again, after longer and longer pauses or what the server asks for.

    That ends, and the error is raised, once a minute has passed since the first call: a store that has tried for longer by itself is
    not asked again. On a thread of a loader that is being closed, `Left` is raised instead, before the call and in the middle of a pause.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    longest = _FIRST_SECONDS
    while True:
        heed()
        try:
            return call()
        except StoreUnavailable as error:
            seconds = max(_jitter.uniform(longest / 2, longest), min(error.retry_after or 0.0, _LONGEST_SECONDS))
            if time.monotonic() + seconds > until:
                raise
            _logger.log(logging.WARNING if seconds > _TOLD_SECONDS else logging.DEBUG, "%s; trying again in %.1f s", error, seconds)
        pause(seconds)
        longest = min(2 * longest, _LONGEST_SECONDS)
