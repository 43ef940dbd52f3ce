"""Data where it lies: tars, Parquet files and Zarr arrays in any store become a dataset in place, and nothing is copied.

```python
from dataplane.adopt import AdoptOptions, adopt

result = adopt("./lake", "s3://bucket/photos-{000..127}.tar", "photos", options=AdoptOptions(split="train"))
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.adopt.options import AdoptOptions, AdoptResult
    from dataplane.adopt.run import adopt

__all__ = ["AdoptOptions", "AdoptResult", "adopt"]


def __getattr__(name: str) -> Any:  # the compiled scan loads when something is adopted, not for every command
    if name not in __all__:
        raise AttributeError(f"module 'dataplane.adopt' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("dataplane.adopt.run" if name == "adopt" else "dataplane.adopt.options"), name)
