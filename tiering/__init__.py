"""The hot tier: objects that are read from an object store stay on a local disk, checked, within a limit."""

from __future__ import annotations

from tiering.options import Hot
from tiering.stats import HotStats
from tiering.store import HotStore

__all__ = ["Hot", "HotStats", "HotStore"]
