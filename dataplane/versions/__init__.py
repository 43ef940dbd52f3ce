"""Versions that cost nothing: what is cloned, added, filtered or split anew shares the objects that are there.

```python
from dataplane.versions import where

where(lake, "photos@7", "label in ('cat', 'dog') and width >= 256", to="pets")
```
"""

from dataplane.versions.append import AppendResult, append
from dataplane.versions.clone import CloneResult, clone
from dataplane.versions.diff import DiffResult, SchemaDiff, diff
from dataplane.versions.lineage import Ancestor, lineage
from dataplane.versions.split import SplitResult, split
from dataplane.versions.tag import TagResult, tag, tags
from dataplane.versions.where import WhereResult, where

__all__ = [
    "Ancestor",
    "AppendResult",
    "CloneResult",
    "DiffResult",
    "SchemaDiff",
    "SplitResult",
    "TagResult",
    "WhereResult",
    "append",
    "clone",
    "diff",
    "lineage",
    "split",
    "tag",
    "tags",
    "where",
]
