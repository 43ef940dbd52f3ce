"""For authors of stores, and for tests: a conformance kit (needs pytest), stores that fail or record on purpose, a small lake.

```python
from dataplane.testing import StoreTests

class TestMyStore(StoreTests):
    @pytest.fixture
    def store(self, tmp_path):
        return MyStore(tmp_path)
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dataplane.testing.faults import Fault, FaultStore
from dataplane.testing.recording import Call, RecordingStore

if TYPE_CHECKING:
    from dataplane.testing.store import StoreTests

__all__ = ["Call", "Fault", "FaultStore", "RecordingStore", "StoreTests"]


def __getattr__(name: str) -> Any:  # pytest is needed for the kit alone
    if name != "StoreTests":
        raise AttributeError(f"module 'dataplane.testing' has no attribute {name!r}")
    import pytest

    pytest.register_assert_rewrite("dataplane.testing.store")  # before its import: a failed test of the kit shows the values
    from dataplane.testing.store import StoreTests

    return StoreTests
