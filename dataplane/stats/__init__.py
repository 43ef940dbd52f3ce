"""What a version holds: counts, sizes, shapes, colours (`statistics`), and what its samples look like (`head`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.stats.samples import Glimpse, head
    from dataplane.stats.version import Statistics, statistics

__all__ = ["Glimpse", "Statistics", "head", "statistics"]

_WHERE = {
    "Glimpse": "dataplane.stats.samples",
    "Statistics": "dataplane.stats.version",
    "head": "dataplane.stats.samples",
    "statistics": "dataplane.stats.version",
}


def __getattr__(name: str) -> Any:  # the decoders load when first needed: `dataplane --help` stays quick
    if name not in _WHERE:
        raise AttributeError(f"module 'dataplane.stats' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)
