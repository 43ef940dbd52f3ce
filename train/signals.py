"""Ctrl-C and SIGTERM: the step that is running finishes, then the run saves a checkpoint and ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Stop"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Within its `with` block, SIGINT and SIGTERM only set `signal`. Outside the main thread, where Python allows no handlers, nothing
    changes. Later signals change nothing: torchrun passes on what the terminal has sent to every process already."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None  # of this process
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._caught) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def flags(self) -> tuple[float, float]:
        """Whether this process got SIGINT, and SIGTERM: to be summed over ranks."""
        return float(self.signal == signal.SIGINT), float(self.signal == signal.SIGTERM)

    @staticmethod
    def agreed(interrupted: float, terminated: float) -> signal.Signals | None:
        """What all ranks stop for, from their summed flags."""
        return signal.SIGINT if interrupted else signal.SIGTERM if terminated else None

    def _caught(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)
