"""Processes: which one wrote something, and whether it is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Process", "started"]


@dataclass(frozen=True, slots=True)
class Process:
    """A process of some machine. `started` tells it from a later one with its number (see `started`)."""

    host: str
    pid: int
    started: str

    @classmethod
    def own(cls) -> Process:
        """This one."""
        return cls(socket.gethostname(), os.getpid(), started(os.getpid()))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Process:
        """The inverse of `to_json`."""
        return cls(value["host"], value["pid"], value["started"])

    def to_json(self) -> dict[str, Any]:
        """The form in a log."""
        return asdict(self)

    def gone(self) -> bool:
        """It was a process of this machine, and is no more. Of other machines' processes nobody can tell."""
        return self.host == socket.gethostname() and bool(self.started) and started(self.pid) != self.started


def started(pid: int) -> str:
    """What tells a process from a later one with its number: the boot, and the clock tick it started at; "" when it is gone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if state in "ZX" else f"{boot}/{rest[18]}"  # a zombie is gone, but nobody has asked how it ended
