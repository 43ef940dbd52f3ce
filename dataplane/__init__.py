"""dataplane: a storage-centric data plane for deep learning. `Lake` is where to start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.dataset import Dataset, Sample, Split
    from dataplane.lake import Lake
    from dataplane.store import open_store
    from dataplane.writer import WriteOptions, write

__all__ = ["Dataset", "Lake", "Sample", "Split", "WriteOptions", "open_store", "write"]

_WHERE = {
    "Dataset": "dataplane.dataset",
    "Lake": "dataplane.lake",
    "Sample": "dataplane.dataset",
    "Split": "dataplane.dataset",
    "WriteOptions": "dataplane.writer",
    "open_store": "dataplane.store",
    "write": "dataplane.writer",
}


def __getattr__(name: str) -> Any:  # pyarrow and numpy load when first needed: `dataplane --help` stays quick
    if name not in _WHERE:
        raise AttributeError(f"module 'dataplane' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_WHERE[name]), name)
