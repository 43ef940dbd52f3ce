"""A contender of the writing task: how a write is timed, made durable and verified."""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.peers.protocol import Measurement, VerificationFailed
from benchmarks.tasks.write import Job, check_contents


class Writer(Protocol):
    """What one file under `peers/write/` provides. Its processes are forked or spawned anew in each call, as a user's would be."""

    @property
    def setup(self) -> str:
        """As in `RunningContender`."""

    @property
    def packages(self) -> tuple[str, ...]:
        """As in `RunningContender`."""

    @property
    def syncs(self) -> bool:
        """Whether what `write` has written survives a loss of power once it returns."""

    def write(self, out: Path) -> None:
        """Write all files of the job into the folder `out`, which is there and empty."""

    def read(self, out: Path) -> Iterator[Any]:
        """The contents of all samples, read by the system's own reader."""


@dataclass(slots=True)
class WriteContender:
    """Runs `writer` as the protocol asks: a round is one write of everything, however long it takes."""

    writer: Writer
    job: Job

    @property
    def setup(self) -> str:
        return self.writer.setup + ("" if self.writer.syncs else f"; then fsync of every file and folder, {self.job.threads} at once")

    @property
    def packages(self) -> tuple[str, ...]:
        return self.writer.packages

    def verify(self) -> Mapping[str, Any]:
        out, _ = self._written()
        try:
            return {"contents": check_contents(self.writer.read(out), self.job.digests)}
        finally:
            shutil.rmtree(out)

    def measure(self, seconds: float) -> Measurement:
        out, elapsed = self._written()
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        shutil.rmtree(out)
        if size < self.job.bytes:
            raise VerificationFailed(f"{size} bytes were written; the sources have {self.job.bytes}")
        return Measurement(images=self.job.samples, seconds=elapsed, checks={"bytes_written": size})

    def close(self) -> None:
        pass

    def _written(self) -> tuple[Path, float]:
        out = Path(self.job.scratch, uuid.uuid4().hex)
        out.mkdir()
        os.sync()  # what others have written must not be waited for by this one
        started = time.perf_counter()
        self.writer.write(out)
        if not self.writer.syncs:
            sync_all(out, threads=self.job.threads)
        return out, time.perf_counter() - started


def sync_all(folder: Path, *, threads: int) -> None:
    """fsync every file below `folder`, then every folder, and the one that holds it."""
    files, folders = [], [folder.parent]
    for at, _, names in os.walk(folder):
        folders.append(Path(at))
        files += [Path(at, name) for name in names]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_sync, files))
        list(pool.map(_sync, folders))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def opener(make: Callable[[Job], Writer]) -> Callable[[Mapping[str, Any]], WriteContender]:
    """What `serve` wants, from the class of a writer."""

    def open_contender(job: Mapping[str, Any]) -> WriteContender:
        parsed = Job.from_json(job)
        return WriteContender(make(parsed), parsed)

    return open_contender
