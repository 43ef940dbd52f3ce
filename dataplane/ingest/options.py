"""What a user asks of an ingest, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from dataplane.catalog import SplitCount
from dataplane.errors import InvalidArgument

__all__ = ["FORMAT_OF_KIND", "Bad", "IngestOptions", "IngestResult", "Kind", "Progress", "parse_bytes"]

Order = Literal["hash", "source"]
Check = Literal["decode", "structure"]
Kind = Literal["pictures", "files", "tables", "text", "arrays"]
WantedKind = Literal["auto", Kind]

FORMAT_OF_KIND: Final[dict[Kind, str]] = {"pictures": "tar", "files": "tar", "tables": "parquet", "text": "parquet", "arrays": "zarr"}
"""Where samples of a kind of data go."""

_BYTES: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?)B?|B)?\Z", re.IGNORECASE)
_POWER: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_bytes(text: str) -> int:
    """A number of bytes: `67108864`, `64MiB`, `64 MiB`, `64M` (binary), `64MB` (decimal). Raises `InvalidArgument`."""
    match = _BYTES.match(text.strip())
    if match is None:
        raise InvalidArgument(f"{text!r} is no number of bytes; write it as 67108864, 64MiB or 64 MB")
    number, letter, binary = match[1], (match[2] or "").upper(), match[3]
    decimal = bool(letter) and not binary and text.strip().upper().endswith("B")
    return int(float(number) * (1000 if decimal else 1024) ** _POWER[letter])


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How files become samples. `docs/ingest.md` explains each in full.

    `label_from`: `"folder"`, `"csv:FILE"` or `"name:REGEX"`; None for no labels. `split`: names and fractions that add up to 1.
    `group_by`: a regular expression whose first group (or group `group`) names what must stay in one split. `order`: of samples in the
    shards, by the hash of the key or by the source's path. `sync`: drop samples whose source went away. `strict`: fail before committing
    when a source is bad. `check`: `"decode"` everything, or only look at the `"structure"`. `workers`: processes; None chooses. `kind`: of
    data, where the names of the files do not tell. `key`: the column of a table that holds the keys; None for the file and the row.
    """

    label_from: str | None = None
    split: str = "train=1"
    group_by: str | None = None
    shard_bytes: int = 64 << 20
    order: Order = "hash"
    sync: bool = False
    strict: bool = False
    check: Check = "decode"
    max_pixels: int = 178_956_970
    workers: int | None = None
    kind: WantedKind = "auto"
    key: str | None = None

    def __post_init__(self) -> None:
        for name, kind in (("order", Order), ("check", Check), ("kind", WantedKind)):
            if getattr(self, name) not in get_args(kind):
                raise InvalidArgument(f"{name} is {getattr(self, name)!r}; allowed are {' and '.join(get_args(kind))}")
        for name in ("shard_bytes", "max_pixels"):
            if getattr(self, name) < 1:
                raise InvalidArgument(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.workers is not None and self.workers < 1:
            raise InvalidArgument(f"workers is {self.workers}; it must be at least 1")


@dataclass(frozen=True, slots=True)
class Bad:
    """A source that did not become a sample, and why. `etag` is set where the reason lies in its bytes: they need no second look
    until they change."""

    source: str
    reason: str
    etag: str | None = None

    def to_json(self) -> dict[str, str]:
        """The form it has in commits."""
        return {"source": self.source, "reason": self.reason, **({"etag": self.etag} if self.etag else {})}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an ingest is: `samples` of `total` (0 while it is not known) are dealt with, `read` of them by this run, with their bytes."""

    stage: Literal["listing", "reading", "committing"]
    samples: int = 0
    total: int = 0
    read: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What an ingest did. The counts of samples, shards and bytes are those of the version that is the newest now.

    `kept`, `added`, `replaced` and `dropped` count samples against the version before. `ignored` counts hidden files and the like,
    `renamed` pictures that went in under another format than their name says, `resumed` samples taken over from a run that was killed.
    """

    lake: str
    name: str
    version: int
    committed: bool
    splits: Mapping[str, SplitCount]
    bad: tuple[Bad, ...]
    kept: int
    added: int
    replaced: int
    dropped: int
    ignored: int
    renamed: int
    resumed: int
    notes: tuple[str, ...]
    seconds: float
    lake_made: bool
    kind: Kind = "pictures"

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
        """The document of `dataplane ingest --json`."""
        counts = ("kept", "added", "replaced", "dropped", "ignored", "renamed", "resumed")
        return {
            "name": self.name,
            "version": self.version,
            "samples": self.samples,
            "shards": self.shards,
            "bytes": self.bytes,
            "bad": [{"source": bad.source, "reason": bad.reason} for bad in self.bad],
            "kind": self.kind,
            "format": FORMAT_OF_KIND[self.kind],
            "lake": self.lake,
            "committed": self.committed,
            "splits": {name: count.to_json() for name, count in self.splits.items()},
            **{name: getattr(self, name) for name in counts},
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }
