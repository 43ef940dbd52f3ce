"""Datasets that need no decoding: the pictures of a version as uint8 pixels of a fixed or largest size, a dataset of its own.

```python
from dataplane.materialize import MaterializeOptions, materialize

result = materialize(lake, "photos@7", options=MaterializeOptions(size=256))
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane.materialize.options import MaterializeOptions, MaterializeResult
    from dataplane.materialize.run import materialize

__all__ = ["MaterializeOptions", "MaterializeResult", "materialize"]


def __getattr__(name: str) -> Any:  # Pillow and the decoders load when something is decoded, not for every command
    if name not in __all__:
        raise AttributeError(f"module 'dataplane.materialize' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"dataplane.materialize.{'run' if name == 'materialize' else 'options'}"), name)
