"""What a user asks of `materialize`, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from dataplane.catalog import SplitCount
from dataplane.errors import InvalidArgument
from dataplane.ingest.options import Bad

__all__ = ["FIELD", "Fit", "MaterializeOptions", "MaterializeResult"]

Fit = Literal["crop", "stretch", "pad"]

FIELD: Final = "npy"
"""The field that the pixels are in."""

_LARGEST_SIDE: Final = 16_384


@dataclass(frozen=True, slots=True)
class MaterializeOptions:
    """How pictures become pixels. `docs/materialize.md` explains each in full.

    Either `size` or `max_side` is given. `size`: every picture becomes size × size, as `fit` says: "crop" resizes the shorter side to it
    and takes the centre, "stretch" changes the proportions, "pad" resizes the longer side to it and puts black beside. `max_side`: pictures
    whose longer side has more pixels are reduced to it, in proportion; the others keep their size. `field`: which fields the pictures are
    in, as "jpg" or "jpg;png"; by default all that the schema calls images. `splits`: which to take, by default all. `strict`: fail before
    committing when a sample is bad. `workers`: processes; None chooses.
    """

    size: int | None = None
    max_side: int | None = None
    fit: Fit = "crop"
    field: str | None = None
    splits: tuple[str, ...] | None = None
    strict: bool = False
    shard_bytes: int = 64 << 20
    max_pixels: int = 178_956_970
    workers: int | None = None

    def __post_init__(self) -> None:
        if (self.size is None) == (self.max_side is None):
            raise InvalidArgument(f"size is {self.size} and max_side is {self.max_side}; give one of them, for example size=256")
        if self.fit not in get_args(Fit):
            raise InvalidArgument(f"fit is {self.fit!r}; allowed are {', '.join(get_args(Fit))}")
        if self.max_side is not None and self.fit != "crop":
            raise InvalidArgument(f"fit={self.fit!r} is for a fixed size, and max_side keeps the proportions; leave one of the two out")
        side = self.size if self.max_side is None else self.max_side
        if side is None or not 1 <= side <= _LARGEST_SIDE:
            raise InvalidArgument(f"{'size' if self.max_side is None else 'max_side'} is {side}; allowed are 1 to {_LARGEST_SIDE:,} pixels")
        for name in ("shard_bytes", "max_pixels", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidArgument(f"{name} is {value}; it must be at least 1")
        if self.splits is not None and not self.splits:
            raise InvalidArgument("splits names no split; leave it out to take all")

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that `field` names, each once, sorted; none where it names none."""
        return () if self.field is None else tuple(sorted(set(self.field.split(";"))))

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides which samples there are, and their pixels, as a commit tells it."""
        shape = {"size": self.size, "fit": self.fit} if self.size is not None else {"max_side": self.max_side}
        splits = None if self.splits is None else sorted(set(self.splits))
        return {**shape, "field": ";".join(self.fields) or None, "splits": splits}

    def name_for(self, name: str) -> str:
        """What the dataset made of `name` is called where the user does not say: "photos-256", "photos-max500"."""
        return f"{name}-{self.size}" if self.size is not None else f"{name}-max{self.max_side}"


@dataclass(frozen=True, slots=True)
class MaterializeResult:
    """What was made. The counts of samples, shards and bytes are those of the version that is the newest now.

    `source` is the version that it was made from. `kept`, `added`, `replaced` and `dropped` count samples against the version before;
    `resumed` are samples taken over from a run that was killed. `bad` names samples, by their keys, that have no pixels here.
    """

    source: str
    name: str
    version: int
    committed: bool
    splits: Mapping[str, SplitCount]
    bad: tuple[Bad, ...]
    kept: int
    added: int
    replaced: int
    dropped: int
    resumed: int
    seconds: float

    @property
    def samples(self) -> int:
        """Samples of all splits."""
        return sum(count.samples for count in self.splits.values())

    @property
    def bytes(self) -> int:
        """Bytes of all samples."""
        return sum(count.bytes for count in self.splits.values())

    def to_json(self) -> dict[str, Any]:
        """The document of `dataplane materialize --json`."""
        counts = ("kept", "added", "replaced", "dropped", "resumed")
        return {
            "name": self.name,
            "version": self.version,
            "source": self.source,
            "samples": self.samples,
            "shards": sum(count.shards for count in self.splits.values()),
            "bytes": self.bytes,
            "bad": [{"source": bad.source, "reason": bad.reason} for bad in self.bad],
            "committed": self.committed,
            "splits": {name: count.to_json() for name, count in self.splits.items()},
            **{name: getattr(self, name) for name in counts},
            "seconds": round(self.seconds, 3),
        }
