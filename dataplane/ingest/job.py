"""What an ingest works on, and what has come of it: shared by the kinds of data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from dataplane.catalog import Version
from dataplane.errors import redact
from dataplane.ingest.commit import Edit
from dataplane.ingest.labels import Labels
from dataplane.ingest.options import Bad, IngestOptions, Kind, Pictures, Progress
from dataplane.ingest.source import Listing, Source
from dataplane.ingest.splits import Splits
from dataplane.journal import Finished
from dataplane.lake import Lake

__all__ = ["Job", "Outcome", "Tally", "Watch"]

Watch = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Job:
    """An ingest that is about to be done: everything that is known without reading a file."""

    lake: Lake
    source: Source
    name: str
    options: IngestOptions
    splits: Splits
    listing: Listing
    kind: Kind
    labels: Labels | None
    watch: Watch

    @property
    def about(self) -> dict[str, Any]:
        """What makes another run the same work, so that it may take over shards of this one."""
        told = {"source": redact(self.source.url), "check": self.options.check, "max_pixels": self.options.max_pixels}
        return {**told, **asdict(self.options.pictures)} if self.kind == "pictures" else {**told, "kind": self.kind}

    @property
    def parameters(self) -> dict[str, Any]:
        """What the commit says of how the version was made."""
        told = ("split", "group_by", "order", "shard_bytes", "sync")
        label_from = redact(self.options.label_from) if self.options.label_from else None
        key = {"key": self.options.key} if self.options.key else {}
        return {
            **self.about,
            "label_from": label_from,
            **key,
            **self.options.writing,
            **{name: getattr(self.options, name) for name in told},
        }


@dataclass(slots=True)
class Tally:
    """What has come of an ingest so far. `carried` are finished shards, this run's and those of a run that was killed."""

    carried: list[Finished] = field(default_factory=list)
    bad: dict[str, Bad] = field(default_factory=dict)
    kept: int = 0
    renamed: int = 0
    resumed: int = 0
    pictures: Pictures = field(default_factory=Pictures)

    @property
    def listed(self) -> tuple[Bad, ...]:
        """The bad files, by path."""
        return tuple(self.bad[source] for source in sorted(self.bad))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The version that is the newest now, what was changed for it, and whether it was committed just now."""

    version: Version
    change: Edit
    committed: bool
