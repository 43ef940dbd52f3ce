"""A timeline of a loader, in the JSON form that Perfetto (ui.perfetto.dev) and chrome://tracing open.

There is a track for the consumer and one for each thread.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from dataplane.errors import InvalidArgument
from dataplane.stages import Clock, Stage
from loaders.waiting.attribution import Step
from loaders.waiting.recent import WAITS

__all__ = ["Tracer", "slices"]

Change = tuple[float, int]

_CONSUMER: Final = 0  # its track
_MICRO: Final = 1e6
_KEPT: Final = 1 << 17  # newest steps, and changes of stage of each thread


class Tracer:
    """Gathers what happens from its making to `write`: the newest hundred thousand steps, and changes of stage of each thread, of which a
    sample has a few. Each takes about 100 bytes, so that is some ten megabytes a thread at most."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._start = perf_counter()
        self._threads: dict[str, deque[Change]] = {}
        self._steps: deque[tuple[int, Step, float, float, int]] = deque(maxlen=_KEPT)
        self._count = 0

    def watch(self, clock: Clock) -> None:
        """Take what this thread does from now on. A thread of the next epoch goes on with the track of its name."""
        changes = self._threads.setdefault(clock.name, deque(maxlen=_KEPT))
        changes.append((perf_counter(), clock.stage))
        clock.log = changes

    def step(self, step: Step, *, asked: float, got: float, samples: int) -> None:
        """Take a delivered batch: when it was asked for, and there."""
        self._steps.append((self._count, step, asked, got, samples))
        self._count += 1

    def write(self, file: Path) -> None:
        """Write all that was gathered. Raises `InvalidArgument` where that cannot be done; a file that was there stays then."""
        part = file.with_name(f"{file.name}.part")
        try:
            self._write(part)
            part.replace(file)
        except OSError as error:
            raise InvalidArgument(f"no trace can be written to {file} ({error.strerror}); name a file in a folder that is there") from error
        finally:
            part.unlink(missing_ok=True)

    def _write(self, file: Path) -> None:
        """Event by event: a document of them all would take ten times the memory."""
        with file.open("w") as out:
            out.write('{"displayTimeUnit": "ms", "traceEvents": [')
            for number, event in enumerate(self._events(perf_counter())):
                out.write(f"{',' if number else ''}\n{json.dumps(event)}")
            out.write("\n]}\n")

    def _events(self, now: float) -> Iterator[dict[str, Any]]:
        yield self._meta("process_name", _CONSUMER, self._name)
        yield self._meta("thread_name", _CONSUMER, "consumer")
        for number, step, asked, got, samples in self._steps:
            waits = {stage.name.lower(): round(1e3 * step.waits[stage], 3) for stage in WAITS if step.waits[stage] > 0}
            yield self._slice("working", _CONSUMER, asked - step.consumer, asked)
            yield self._slice("waiting", _CONSUMER, asked, step.end, batch=number, samples=samples, milliseconds=waits)
            yield self._slice("copy", _CONSUMER, got, step.end)
        for track, (name, changes) in enumerate(self._threads.items(), 1):
            yield self._meta("thread_name", track, name)
            for stage, start, end in slices(list(changes), now):
                yield self._slice(Stage(stage).name.lower(), track, start, end)

    def _slice(self, name: str, track: int, start: float, end: float, **about: Any) -> dict[str, Any]:
        place = {"ts": (max(start, self._start) - self._start) * _MICRO, "dur": max(0.0, end - max(start, self._start)) * _MICRO}
        return {"name": name, "cat": "loader", "ph": "X", "pid": os.getpid(), "tid": track, **place, **({"args": about} if about else {})}

    def _meta(self, what: str, track: int, name: str) -> dict[str, Any]:
        return {"name": what, "ph": "M", "pid": os.getpid(), "tid": track, "args": {"name": name}}


def slices(changes: Sequence[Change], end: float) -> Iterator[tuple[int, float, float]]:
    """Changes of stage, up to `end`, as (stage, start, end), without idle time and without stages that lasted no time."""
    for n, (start, stage) in enumerate(changes):
        until = changes[n + 1][0] if n + 1 < len(changes) else end
        if stage != Stage.IDLE and until > start:
            yield stage, start, until
