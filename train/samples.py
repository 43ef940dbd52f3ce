"""The sample log: which samples each step was given, as JSON lines, such that a resumed run's log has no sample twice.

Rank k writes FILE.rank<k>, a line for each of its steps: {"run", "epoch", "step", "rank", "positions", "keys"}. A line is written
before the checkpoint of its step is committed, and a run that resumes cuts off the lines behind its checkpoint: those samples will come
again. So the lines that are left are the deliveries that count, whatever was killed when.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from dataplane.errors import InvalidArgument
from dataplane.store.local import fsync_directory, translated

__all__ = ["SampleLog", "cut_sample_logs"]


class SampleLog:
    """One rank's log. Lines reach the operating system as they are written, and the disk with `sync`."""

    def __init__(self, path: Path, *, run: str, rank: int) -> None:
        self._run = run
        self._rank = rank
        with translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _locked(open(f"{path}.rank{rank}", "ab", buffering=0))  # noqa: SIM115 - open for as long as the run
            fsync_directory(path.parent)

    def write(self, *, epoch: int, step: int, positions: Sequence[int], keys: Sequence[str]) -> None:
        """Append the samples of a step."""
        line = {"run": self._run, "epoch": epoch, "step": step, "rank": self._rank, "positions": list(positions), "keys": list(keys)}
        left = memoryview(json.dumps(line).encode() + b"\n")
        with translated(self._file.name):
            while left:  # a disk that is nearly full takes a part, and only then says so
                left = left[self._file.write(left) :]

    def sync(self) -> None:
        """Make the lines durable: before a checkpoint that counts them."""
        with translated(self._file.name):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def cut_sample_logs(path: Path, *, run: str, step: int) -> None:
    """Cut every rank's file behind `step`, also those of ranks that a smaller world no longer has. Raises `InvalidArgument` for a log of
    another run, which is left as it is."""
    for file in sorted(path.parent.glob(f"{path.name}.rank*")):
        _cut(file, run, step)


def _locked(file: IO[bytes]) -> IO[bytes]:
    """The file, with other processes kept from it until it is closed: ranks can outlive a torchrun that was killed, and write on."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InvalidArgument(f"{file.name} is being written by another process: is the run still training? End that first") from None
    return file


def _cut(file: Path, run: str, step: int) -> None:
    keep = 0
    with _locked(open(file, "r+b")) as lines:
        for line in lines:
            if not line.endswith(b"\n"):  # torn by a kill
                break
            entry = _entry(line, file)
            if entry["run"] != run:
                raise InvalidArgument(
                    f"{file} is the sample log of run {entry['run']}, not of {run}; move it away, or name another sample_log"
                )
            if entry["step"] > step:
                break
            keep += len(line)
        os.ftruncate(lines.fileno(), keep)


def _entry(line: bytes, file: Path) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(line)
        if not {"run", "step"} <= entry.keys():
            raise ValueError("a line without a run or a step")
    except (ValueError, AttributeError) as error:
        raise InvalidArgument(f"{file} is no sample log ({error}); move it away, or name another sample_log") from error
    return entry
