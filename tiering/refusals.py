"""What is not worth trying for a while, so that a full disk or a bad object costs one attempt and not one for every read."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Final

from dataplane.errors import CorruptObject

__all__ = ["Refusals"]

_log: Final = logging.getLogger("tiering")
_PAUSE_SECONDS: Final = 10.0
_NO_ROOM_SECONDS: Final = 1.0
_CORRUPT_SECONDS: Final = 30.0


class Refusals:
    """The refusals of one process. Thread-safe: every change is one assignment."""

    def __init__(self, root: Path, cold_url: str) -> None:
        self._root = root
        self._cold_url = cold_url
        self._paused_until = 0.0
        self._warned = False
        self._no_room: dict[str, float] = {}
        self._corrupt: dict[str, tuple[float, str]] = {}

    def allows(self, key: str) -> bool:
        """Whether to try `key` now. Raises `CorruptObject` where its bytes in cold were wrong a moment ago."""
        now = time.monotonic()
        until, message = self._corrupt.get(key, (0.0, ""))
        if now < until:
            raise CorruptObject(message)
        return now >= max(self._paused_until, self._no_room.get(key, 0.0))

    def pause(self, error: Exception) -> None:
        """The disk or the index failed: bring nothing in for a while. Said once."""
        self._paused_until = time.monotonic() + _PAUSE_SECONDS
        _log.log(
            logging.DEBUG if self._warned else logging.WARNING,
            "hot tier %s cannot be used now (%s); reads go to %s and work goes on",
            self._root,
            error,
            self._cold_url,
        )
        self._warned = True

    def no_room(self, key: str) -> None:
        """An object did not fit, or a bad copy of it is in use."""
        self._no_room[key] = time.monotonic() + _NO_ROOM_SECONDS

    def corrupt(self, key: str, message: str) -> CorruptObject:
        """Cold's own bytes are wrong. The error to raise."""
        self._corrupt[key] = (time.monotonic() + _CORRUPT_SECONDS, message)
        return CorruptObject(message)
