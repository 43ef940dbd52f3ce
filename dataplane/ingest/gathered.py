"""What a task gathers while it goes through its files: the rows of the metadata, the bad files, and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from dataplane.ingest.options import Bad, Pictures
from dataplane.ingest.plan import Todo
from dataplane.manifest import METADATA

__all__ = ["CLASS_ID", "COLUMNS", "RESERVED", "Gathered"]

CLASS_ID: Final = "class_id"
"""The column that a journal's metadata has beside those of the manifest: the class id that lies in the shard, -1 where there is none."""
COLUMNS: Final = pa.schema([*(column for column in METADATA if column.name != "shard"), pa.field(CLASS_ID, pa.int32(), nullable=False)])
RESERVED: Final = (*COLUMNS.names, "shard", "split")
"""Names that no further column of the metadata may have."""


@dataclass(slots=True)
class Gathered:
    """Lists have one entry a sample; an object a sample would keep Python's collector busy. `same` samples are in the dataset with equal
    bytes."""

    todo: list[Todo] = field(default_factory=list)
    etags: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    widths: list[int | None] = field(default_factory=list)
    heights: list[int | None] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)
    class_ids: list[int] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    same: int = 0
    renamed: int = 0
    pictures: Pictures = field(default_factory=Pictures)

    def __len__(self) -> int:
        return len(self.todo)

    def sample(self, todo: Todo, etag: str, digest: bytes, *, class_id: int, size: tuple[int | None, int | None], stored: int) -> None:
        """A sample was appended to the shard: made of a file with this etag and BLAKE3, of this width and height, `stored` bytes in all."""
        self.todo.append(todo)
        self.etags.append(etag)
        self.digests.append(digest)
        self.widths.append(size[0])
        self.heights.append(size[1])
        self.stored.append(stored)
        self.class_ids.append(class_id)

    def metadata(self) -> Any:
        """The samples as a table."""
        wanted = [item.wanted for item in self.todo]
        columns: dict[str, Sequence[Any]] = {
            "row": range(len(wanted)),
            "key": [item.key for item in wanted],
            "label": [item.label for item in wanted],
            "width": self.widths,
            "height": self.heights,
            "bytes": self.stored,
            "source": [item.entry.path for item in wanted],
            "source_etag": self.etags,
            "source_blake3": self.digests,
            CLASS_ID: self.class_ids,
        }
        return pa.table(columns, COLUMNS)
