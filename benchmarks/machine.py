"""Hardware and versions, so that a figure can be judged later."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any


def hardware(folder: Path) -> dict[str, Any]:
    """The processor, memory and the disk that `folder` is on; `busy` is the load average of the last minute for each usable core."""
    cores = len(os.sched_getaffinity(0))
    return {
        "cpu": _cpu(),
        "cores": cores,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disk": _disk(folder),
        "busy": round(os.getloadavg()[0] / cores, 2),
    }


def versions() -> dict[str, str]:
    """Of what all contenders share; each reports its own libraries besides."""
    return {
        "dataplane": version_of("dataplane"),
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()),
    }


def version_of(distribution: str) -> str:
    """The installed version, "not installed" for a source tree that was never installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    first = info.read_text().split("\n\n")[0] if info.exists() else ""
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    if "model name" not in said:
        return platform.processor() or platform.machine()
    return f"{said['model name']} (family {said.get('cpu family')}, model {said.get('model')})"


def _disk(folder: Path) -> dict[str, Any]:
    """The device and file system that hold `folder`: the mount point that is its longest prefix."""
    statistics = os.statvfs(folder)
    found = {"device": "unknown", "file_system": "unknown", "free_bytes": statistics.f_bavail * statistics.f_frsize}
    mounts = Path("/proc/mounts")
    if mounts.exists():
        rows = [line.split()[:3] for line in mounts.read_text().splitlines()]
        _, mount, kind = max((row for row in rows if folder.resolve().is_relative_to(row[1])), key=lambda row: len(row[1]))
        found |= {"device": next(row[0] for row in rows if row[1] == mount), "file_system": kind}
    return found
