"""Where data comes from: a folder or a store of pictures becomes a version of a dataset.

```python
from dataplane.ingest import IngestOptions, ingest

result = ingest("./lake", "./photos", "photos", options=IngestOptions(label_from="folder", split="train=0.9,test=0.1"))
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.ingest.options import Bad, IngestOptions, IngestResult
    from dataplane.ingest.run import ingest

__all__ = ["Bad", "IngestOptions", "IngestResult", "ingest"]


def __getattr__(name: str) -> Any:  # Pillow and the decoders load when something is ingested, not for every command
    if name not in __all__:
        raise AttributeError(f"module 'dataplane.ingest' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("dataplane.ingest.run" if name == "ingest" else "dataplane.ingest.options"), name)
