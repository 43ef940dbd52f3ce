"""What killed processes leave behind that is no object: probes, temporary files of a local store, and empty folders of journals."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from dataplane.store import Store
from dataplane.store.local import LocalStore

__all__ = ["Litter", "find_litter", "remove_litter"]

_AGE: Final = timedelta(hours=1)  # a file that is being written is younger, since each write makes it so
_TEMPORARY: Final = ".tmp"
_PROBE: Final = "writers/.probe-"


@dataclass(frozen=True, slots=True)
class Litter:
    """One thing to remove: an object of the store, or a file or folder of a local one."""

    path: str
    file: Path | None = None


def find_litter(store: Store, now: datetime) -> list[Litter]:
    """What has lain there for an hour or more."""
    probes = [meta for meta in store.list_with_delimiter("writers")["objects"] if meta["path"].startswith(_PROBE)]
    found = [Litter(meta["path"]) for meta in probes if now - meta["last_modified"] > _AGE]
    if isinstance(store, LocalStore):
        found += [Litter(f"{_TEMPORARY}/{file.name}", file) for file in _old(store.root / _TEMPORARY, now, folders=False)]
        found += [Litter(f"writers/{folder.name}", folder) for folder in _old(store.root / "writers", now, folders=True) if _empty(folder)]
    return found


def remove_litter(store: Store, litter: Sequence[Litter]) -> None:
    """Remove it. What is gone already, or is not empty any more, is no error."""
    store.delete([item.path for item in litter if item.file is None])
    for file in (item.file for item in litter if item.file is not None):
        with suppress(OSError):
            file.rmdir() if file.is_dir() else file.unlink()


def _old(folder: Path, now: datetime, *, folders: bool) -> list[Path]:
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                kind = stat.S_ISDIR(status.st_mode) if folders else stat.S_ISREG(status.st_mode)
                if kind and now - datetime.fromtimestamp(status.st_mtime, UTC) > _AGE:
                    found.append(Path(entry.path))
    return sorted(found)


def _empty(folder: Path) -> bool:
    with suppress(OSError), os.scandir(folder) as entries:
        return next(entries, None) is None
    return False  # it is gone by now, or not ours to look into
