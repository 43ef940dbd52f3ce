"""Training that is killed in the middle of an epoch, really, and goes on from its newest checkpoint."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from rich.status import Status

from dataplane import Lake
from dataplane.checkpoint import Checkpoints
from train.demo.processes import Command, DemoFailed, started
from train.demo.samples import read_deliveries
from train.demo.story import Crash

__all__ = ["find_crash", "kill_at"]

_STEP = re.compile(r"step (\d+),")


def kill_at(command: Command, step: int, status: Status) -> int:
    """Start training and SIGKILL it as soon as it reports `step` or a later one; the id of the process that was killed.

    Raises `DemoFailed` where training ends by itself before.
    """
    last = ""
    with started(command, watch=True) as process:
        for line in _lines(process):
            last = line
            status.update(f"training: {line}")
            found = _STEP.match(line)
            if found and int(found[1]) >= step:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return process.pid
        process.wait()
    raise DemoFailed(f"training ended before step {step}, with exit code {process.returncode}: {last or 'it said nothing'}")


def find_crash(lake: str, run: str, samples: Path) -> Crash | None:
    """What a kill left: the newest checkpoint, and the samples delivered since. None where the newest checkpoint is not within an epoch."""
    checkpoint = Checkpoints(Lake(lake), run).latest()
    if checkpoint is None or checkpoint.progress.position == 0:
        return None
    progress, deliveries = checkpoint.progress, read_deliveries(samples)
    undone = sum(len(delivery.keys) for delivery in deliveries if delivery.step > progress.step)
    return Crash(progress.epoch, deliveries[-1].step, progress.step, progress.position, undone)


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    """What the process says on standard error, line by line, until it ends."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.strip():
            yield line.strip()
