"""The directory of a hot tier: what lies where, what counts towards its limit, and how a directory becomes one.

    dataplane-hot.json    what this is and in which format; every process that changes the index locks it
    index.sqlite          which objects are here, reserved room, the limit, counters
    objects/KEY           complete objects, verified before they got this name
    partial/KEY           an object on its way in; whoever fetches it holds its exclusive lock

Nothing else in the directory is touched or counted.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dataplane.errors import AlreadyExists, DataplaneError, FormatTooNew, InvalidArgument, StoreError
from dataplane.store.local import LocalStore

__all__ = ["BLOCK_BYTES", "FORMAT", "MIN_LIMIT_BYTES", "Layout", "Unusable", "charge", "index_charge", "local"]

FORMAT: Final = 1
BLOCK_BYTES: Final = 4096
MIN_LIMIT_BYTES: Final = 512 << 10
_INDEX_FLOOR_BYTES: Final = 256 << 10
_MARKER: Final = "dataplane-hot.json"


class Unusable(Exception):
    """The directory or its index cannot be used just now: the caller falls through to cold. Never leaves this package."""


@contextmanager
def local() -> Iterator[None]:
    """Turns a failure of the local disk or of the index into `Unusable`; errors of the cold store pass."""
    try:
        yield
    except DataplaneError:
        raise
    except (OSError, sqlite3.Error) as error:
        raise Unusable(str(error)) from error


def charge(size: int) -> int:
    """What a file of `size` bytes counts: whole blocks, and one block for its names and its row."""
    return (size + 2 * BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES


def index_charge(database_bytes: int) -> int:
    """What the index counts. Its log can hold every page once and what precedes a checkpoint; the floor covers the latter."""
    return _INDEX_FLOOR_BYTES + 2 * database_bytes


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one hot tier."""

    root: Path

    @property
    def marker(self) -> Path:
        return self.root / _MARKER

    @property
    def database(self) -> Path:
        return self.root / "index.sqlite"

    @property
    def objects(self) -> Path:
        return self.root / "objects"

    @property
    def partial(self) -> Path:
        return self.root / "partial"

    def database_files(self) -> tuple[Path, ...]:
        return tuple(self.root / f"index.sqlite{suffix}" for suffix in ("", "-wal", "-shm"))

    def make(self) -> None:
        """Make the directory a hot tier, unless it is one. Raises `FormatTooNew`, and `InvalidArgument` for a directory in which
        somebody else's files have the names that are needed here."""
        taken = [path.name for path in (self.objects, self.partial, self.database) if path.exists()]
        if not self.exists():
            if taken:
                raise InvalidArgument(
                    f"{self.root} holds {', '.join(taken)}, which no hot tier made; name an empty or new folder for the hot tier"
                )
            self._mark()
        self.objects.mkdir(exist_ok=True)
        self.partial.mkdir(exist_ok=True)

    def _mark(self) -> None:
        marker = json.dumps({"kind": "dataplane hot tier", "format": FORMAT}) + "\n"
        try:
            LocalStore(self.root).put(_MARKER, marker.encode(), mode="create")
        except AlreadyExists:  # another process was first
            self.exists()
        except StoreError as error:
            raise Unusable(str(error)) from error

    def exists(self) -> bool:
        """Whether the directory is a hot tier of a format that this release knows. Raises `FormatTooNew` for a newer one."""
        try:
            text = self.marker.read_text()
        except FileNotFoundError:
            return False
        try:
            found = int(json.loads(text)["format"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unusable(f"{self.marker} does not read as the marker of a hot tier") from error
        if found > FORMAT:
            raise FormatTooNew(f"{self.root} is a hot tier of format {found}; this release knows {FORMAT}; upgrade, or name another folder")
        return True

    def index_bytes(self) -> int:
        """What the index counts towards the limit at present."""
        return index_charge(os.stat(self.database).st_size)
