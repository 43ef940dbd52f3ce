"""The folder a demo works in: it is emptied only of what an earlier demo put there, and only one demo uses it at a time."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dataplane.errors import InvalidArgument

__all__ = ["Workspace", "workspace"]

_MARKER: Final = ".dataplane-demo"


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where each thing of a demo lies. Paths are relative where the user gave a relative folder, so that commands can be copied."""

    root: Path

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    @property
    def hot(self) -> Path:
        return self.root / "hot"

    @property
    def config(self) -> Path:
        return self.root / "train.toml"

    @property
    def sample_log(self) -> Path:
        """The sample log, as training is told of it."""
        return self.root / "samples.log"

    @property
    def samples(self) -> Path:
        """The sample log's file of rank 0, the only one."""
        return self.root / "samples.log.rank0"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def made(self) -> tuple[Path, ...]:
        """Everything a demo puts there."""
        return (self.pictures, self.lake, self.hot, self.config, self.samples, self.report)


@contextmanager
def workspace(root: Path) -> Iterator[Workspace]:
    """The folder `root`, made or emptied of an earlier demo, and ours until the block ends.

    Files that no demo made are kept. Raises `InvalidArgument` for a folder with contents that no demo marked as its own, and where
    another demo is running.
    """
    marker = root / _MARKER
    if root.exists() and not root.is_dir():
        raise InvalidArgument(f"{root} is a file; --dir must be a folder of an earlier demo, an empty one, or a new one")
    if root.exists() and any(root.iterdir()) and not marker.exists():
        raise InvalidArgument(f"{root} has files that no demo made, so none is touched; choose another folder with --dir")
    root.mkdir(parents=True, exist_ok=True)
    with marker.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidArgument(f"another demo is running in {root}; wait for it, or choose another folder with --dir") from error
        place = Workspace(root)
        for path in place.made():
            _remove(path)
        yield place


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
