"""A contender that goes through tars: how this is timed and verified."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.peers.protocol import Measurement, VerificationFailed
from benchmarks.tasks.index import Tars

Look = Callable[[str], int]
"""Goes through one tar, a path or a URL, and returns what it counts there: members, or bytes."""


class LookContender:
    def __init__(
        self, names: Sequence[str], tars: Tars, look: Look, *, counts: int, setup: str, packages: tuple[str, ...] = ("dataplane",)
    ) -> None:
        self.names, self.tars, self.look, self.counts = names, tars, look, counts
        self.setup, self.packages = setup, packages

    def verify(self) -> Mapping[str, Any]:
        self._all()
        return {"counted": self.counts}

    def measure(self, seconds: float) -> Measurement:
        started, elapsed, epochs = time.perf_counter(), 0.0, 0
        while epochs == 0 or elapsed * (epochs + 0.5) / epochs < seconds:
            self._all()
            epochs += 1
            elapsed = time.perf_counter() - started
        return Measurement(images=epochs * round(self.tars.bytes / 1e6), seconds=elapsed, checks={"epochs": epochs})

    def close(self) -> None:
        pass

    def _all(self) -> None:
        found = sum(map(self.look, self.names))
        if found != self.counts:
            raise VerificationFailed(f"{found} were counted in {len(self.names)} tars; {self.counts} are there")
