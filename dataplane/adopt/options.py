"""What a user asks of an adoption, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dataplane.catalog import SplitCount, check_name
from dataplane.errors import InvalidArgument
from dataplane.ingest.options import Bad

__all__ = ["AdoptOptions", "AdoptResult", "Format", "Progress"]

Format = Literal["tar", "parquet", "zarr"]


@dataclass(frozen=True, slots=True)
class AdoptOptions:
    """How objects that lie somewhere become the shards of a dataset. `docs/adopt.md` explains each in full.

    `split`: the split of everything; `split_from`: a regular expression whose first group (or group `split`), searched for in each object's
    URL, names its split instead. `format`: take only objects of this format. `key`: the column of Parquet files that holds the keys.
    `prefix`: put the name of its object before each key. `columns`: columns of Parquet files that become metadata, to filter by.
    `label_from_field`: a small field of text that is read as the label. `verify`: read everything once and record checksums. `strict`: fail
    before committing when anything is bad. `workers`: objects that are looked at side by side; None chooses.
    """

    split: str = "train"
    split_from: str | None = None
    format: Format | None = None
    key: str | None = None
    prefix: bool = False
    columns: tuple[str, ...] = ()
    label_from_field: str | None = None
    verify: bool = False
    strict: bool = False
    workers: int | None = None

    def __post_init__(self) -> None:
        check_name(self.split, "split")
        if self.format is not None and self.format not in get_args(Format):
            raise InvalidArgument(f"format is {self.format!r}; allowed are {', '.join(get_args(Format))}")
        if self.workers is not None and self.workers < 1:
            raise InvalidArgument(f"workers is {self.workers}; it must be at least 1")

    def settings(self) -> dict[str, Any]:
        """What makes another result of the same objects."""
        names = ("split", "split_from", "format", "key", "prefix", "label_from_field", "verify")
        return {**{name: getattr(self, name) for name in names}, "columns": list(self.columns)}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an adoption is: `objects` of `total` (0 while it is not known) have been looked at."""

    stage: Literal["listing", "scanning", "committing"]
    objects: int = 0
    total: int = 0
    samples: int = 0
    bytes_read: int = 0


@dataclass(frozen=True, slots=True)
class AdoptResult:
    """What an adoption did. The counts of samples, shards and bytes are those of the version that is the newest now.

    `added`, `replaced` and `kept` count objects: new ones, ones that had changed, and ones that the version before had already.
    `bytes_read` are those fetched from the source, with what lies between neighbours that shared a request.
    """

    lake: str
    name: str
    version: int
    committed: bool
    splits: Mapping[str, SplitCount]
    bad: tuple[Bad, ...]
    added: int
    replaced: int
    kept: int
    ignored: int
    bytes_read: int
    notes: tuple[str, ...]
    seconds: float
    lake_made: bool

    @property
    def samples(self) -> int:
        """Samples of all splits."""
        return sum(count.samples for count in self.splits.values())

    @property
    def shards(self) -> int:
        """Shards of all splits."""
        return sum(count.shards for count in self.splits.values())

    @property
    def bytes(self) -> int:
        """Bytes of all samples."""
        return sum(count.bytes for count in self.splits.values())

    def to_json(self) -> dict[str, Any]:
        """The document of `dataplane adopt --json`."""
        return {
            "name": self.name,
            "version": self.version,
            "samples": self.samples,
            "shards": self.shards,
            "bytes": self.bytes,
            "bad": [{"source": bad.source, "reason": bad.reason} for bad in self.bad],
            "notes": list(self.notes),
            "bytes_read": self.bytes_read,
            "lake": self.lake,
            "committed": self.committed,
            "splits": {name: count.to_json() for name, count in self.splits.items()},
            **{name: getattr(self, name) for name in ("added", "replaced", "kept", "ignored")},
            "seconds": round(self.seconds, 3),
        }
