"""For authors of stores and formats, and for tests: conformance kits (they need pytest), stores that fail, lag, die or record on purpose,
and runs that disturb a command at each of its calls. `docs/testing.md` shows each.

```python
from dataplane.testing import StoreTests

class TestMyStore(StoreTests):
    @pytest.fixture
    def store(self, tmp_path):
        return MyStore(tmp_path)
```
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from dataplane.testing.crash import Crashed, CrashStore, sigkill
from dataplane.testing.faults import Fault, FaultStore
from dataplane.testing.latency import LatencyStore
from dataplane.testing.points import Point, Tried, crash_points, fault_points
from dataplane.testing.recording import Call, RecordingStore

if TYPE_CHECKING:
    from dataplane.testing.catalog import CatalogMachine
    from dataplane.testing.formats import FormatTests
    from dataplane.testing.store import StoreTests

__all__ = [
    "Call",
    "CatalogMachine",
    "CrashStore",
    "Crashed",
    "Fault",
    "FaultStore",
    "FormatTests",
    "LatencyStore",
    "Point",
    "RecordingStore",
    "StoreTests",
    "Tried",
    "crash_points",
    "fault_points",
    "sigkill",
]

_KITS: Final = {  # they need pytest and hypothesis, which nothing else here does
    "CatalogMachine": "dataplane.testing.catalog",
    "FormatTests": "dataplane.testing.formats",
    "StoreTests": "dataplane.testing.store",
}


def __getattr__(name: str) -> Any:
    if name not in _KITS:
        raise AttributeError(f"module 'dataplane.testing' has no attribute {name!r}")
    import pytest

    pytest.register_assert_rewrite(_KITS[name])  # before its import: a failed test of the kit shows the values
    return getattr(importlib.import_module(_KITS[name]), name)
