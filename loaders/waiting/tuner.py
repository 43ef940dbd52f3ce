"""Has a pipeline go on with as many threads and batches ahead as it turns out to need."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Final

from loaders.pipeline import Pipeline
from loaders.stats import Stats
from loaders.waiting.tuning import Limits, Room, Setting, Tuning, decide, settled_for

__all__ = ["Tuner", "usable_cores", "usable_memory"]

_LEAST_PREFETCH: Final = 2
_GIB: Final = 1 << 30
_GROUPS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_logger = logging.getLogger("loaders")


class Tuner:
    """The numbers that one loader's pipelines have: those given, and for each that is None what turns out well within `limits`.

    Not thread-safe: it is the consumer's, though anybody may read the setting.
    """

    def __init__(self, threads: int | None, prefetch: int | None, limits: Limits) -> None:
        self._cores = usable_cores()
        self._limits = limits
        self._given = (threads, prefetch)
        self._tuning = Tuning(
            Setting(
                min(self._cores, limits.threads) if threads is None else threads,
                min(_LEAST_PREFETCH, limits.prefetch) if prefetch is None else prefetch,
            )
        )

    @property
    def setting(self) -> Setting:
        """What a pipeline has, or is to begin with."""
        return self._tuning.setting

    @property
    def cores(self) -> int:
        """That this process may use."""
        return self._cores

    @property
    def tried(self) -> bool:
        """Whether more threads were tried lately, and did not help."""
        return self._tuning.rests.get("threads", 0) > 0

    @property
    def limited(self) -> bool:
        """Whether it has as many threads as it may choose."""
        return self._given[0] is None and self.setting.threads >= self._limits.threads

    @property
    def tunes(self) -> bool:
        """Whether there is anything to choose."""
        return None in self._given and self.setting.threads > 0

    def step(self, pipeline: Pipeline[Any], stats: Stats, batch_bytes: int) -> bool:
        """A lap is over: look whether to change anything, and whether that was done. `batch_bytes` is the memory of a batch."""
        if not self.tunes:
            return False
        before = self.setting
        self._tuning = decide(self._tuning, stats.recent(laps=1), self._rooms(batch_bytes))
        if self.setting != before:
            _logger.debug("threads %d → %d, prefetch %d → %d", before.threads, self.setting.threads, before.prefetch, self.setting.prefetch)
            pipeline.resize(threads=self.setting.threads, depth=self.setting.prefetch + 1)
            if pipeline.threads < self.setting.threads:
                self._tuning = settled_for(self._tuning, pipeline.threads)
        return self.setting != before

    def _rooms(self, batch_bytes: int) -> Room:
        threads, prefetch = self._given
        limits = self._limits
        allowed = limits.prefetch_bytes if limits.prefetch_bytes is not None else min(_GIB, usable_memory() // 8)
        ahead = min(limits.prefetch, max(_LEAST_PREFETCH, allowed // max(1, batch_bytes)))
        least = Setting(1 if threads is None else threads, 1 if prefetch is None else prefetch)
        most = Setting(max(self.setting.threads, limits.threads) if threads is None else threads, ahead if prefetch is None else prefetch)
        return Room(least, most, self._cores)


def usable_cores() -> int:
    """How many this process may run on."""
    return len(os.sched_getaffinity(0))


def usable_memory() -> int:
    """Bytes that this process may use: the machine's, or its control group's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in _GROUPS:
        try:
            limit = int(file.read_text())
        except (OSError, ValueError):  # there is no such file, or it says "max"
            continue
        total = min(total, limit)
    return total
