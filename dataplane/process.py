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
    """A process of some machine. `started` tells it from a later one with its number (see `started`); `space` says where the number counts:
    containers may share a host's name and have numbers of their own. It is "" where nobody wrote it down."""

    host: str
    pid: int
    started: str
    space: str = ""

    @classmethod
    def own(cls) -> Process:
        """This one."""
        return cls(socket.gethostname(), os.getpid(), started(os.getpid()), _space())

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Process:
        """The inverse of `to_json`. The first ones had no `space`."""
        return cls(value["host"], value["pid"], value["started"], value.get("space", ""))

    def to_json(self) -> dict[str, Any]:
        """The form in a log."""
        return asdict(self)

    def here(self) -> bool:
        """It is one of this machine, and its number is one that can be looked up; as far as names tell."""
        return self.host == socket.gethostname() and self.space in {"", _space()}

    def gone(self) -> bool:
        """It was a process of this machine since it was booted, and is no more. Of others nobody can tell: machines may share a name."""
        boot = self.started.partition("/")[0]
        return self.here() and bool(boot) and started(os.getpid()).startswith(f"{boot}/") and started(self.pid) != self.started


def started(pid: int) -> str:
    """What tells a process from a later one with its number: the boot, and the clock tick it started at; "" when it is gone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if state in "ZX" else f"{boot}/{rest[18]}"  # a zombie is gone, but nobody has asked how it ended


def _space() -> str:
    """The space that this process's number counts in."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
