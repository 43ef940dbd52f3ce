"""What a user asks of an ingest, and what came of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, get_args

from dataplane.catalog import SplitCount
from dataplane.errors import InvalidArgument
from dataplane.formats.options import DEFAULT_CODEC, ROW_GROUP_BYTES, check_codecs, parse_codec, writer_options
from dataplane.prep.options import Jpeg, Metadata, PictureOptions, Progressive

__all__ = ["FORMAT_OF_KIND", "Bad", "IngestOptions", "IngestResult", "Kind", "Pictures", "Progress", "parse_bytes", "parse_chunks"]

Order = Literal["hash", "source"]
Check = Literal["decode", "structure"]
Kind = Literal["pictures", "files", "tables", "text", "arrays"]
WantedKind = Literal["auto", Kind]

FORMAT_OF_KIND: Final[dict[Kind, str]] = {"pictures": "tar", "files": "tar", "tables": "parquet", "text": "parquet", "arrays": "zarr"}
"""Where samples of a kind of data go."""

_FIELD_OF_NPY: Final = "array"
_OF_PICTURES: Final = tuple(each.name for each in fields(PictureOptions))
_ASKED_WITH: Final = {
    **{name: f"--{name.replace('_', '-')}" for name in _OF_PICTURES},
    "codecs": "--codec",
    "chunks": "--chunk",
    "row_group_bytes": "--row-group",
}
_HAS: Final[dict[Kind, set[str]]] = {
    "pictures": set(_OF_PICTURES),
    "files": set(),
    "tables": {"codecs", "row_group_bytes"},
    "text": {"codecs", "row_group_bytes"},
    "arrays": {"codecs", "row_group_bytes", "chunks"},
}
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


def parse_chunks(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Inner chunks by field, from `FIELD=N,N,…`, or `N,N,…` for the field of `.npy` files. Raises `InvalidArgument`."""
    chunks = {}
    for text in texts:
        name, _, numbers = text.rpartition("=")
        try:
            chunks[name or _FIELD_OF_NPY] = tuple(int(number) for number in numbers.split(","))
        except ValueError:
            raise InvalidArgument(f"{text!r} is no chunk; write it as 1,64,64 or volume=1,64,64: samples first") from None
    return chunks


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How files become samples. `docs/ingest.md` explains each in full.

    `label_from`: `"folder"`, `"csv:FILE"` or `"name:REGEX"`; None for no labels. `split`: names and fractions that add up to 1.
    `group_by`: a regular expression whose first group (or group `group`) names what must stay in one split. `order`: of samples in the
    shards, by the hash of the key or by the source's path. `sync`: drop samples whose source went away. `strict`: fail before committing
    when a source is bad. `check`: `"decode"` everything, or only look at the `"structure"`. `workers`: processes; None chooses. `kind`: of
    data, where the names of the files do not tell. `key`: the column of a table that holds the keys; None for the file and the row.
    `codecs`, `chunks` and `row_group_bytes`: how Parquet and Zarr shards are compressed and cut, as in `WriteOptions`. `jpeg`, `metadata`,
    `progressive`, `jpeg_quality` and `max_side`: what is done to JPEG files, as in `PictureOptions`.
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
    codecs: str | Mapping[str, str] = DEFAULT_CODEC
    chunks: Mapping[str, Sequence[int]] = field(default_factory=dict)
    row_group_bytes: int = ROW_GROUP_BYTES
    jpeg: Jpeg = "index"
    metadata: Metadata = "keep"
    progressive: Progressive = "baseline"
    jpeg_quality: int | None = None
    max_side: int | None = None

    def __post_init__(self) -> None:
        for name, kind in (("order", Order), ("check", Check), ("kind", WantedKind)):
            if getattr(self, name) not in get_args(kind):
                raise InvalidArgument(f"{name} is {getattr(self, name)!r}; allowed are {' and '.join(get_args(kind))}")
        for name in ("shard_bytes", "max_pixels", "row_group_bytes"):
            if getattr(self, name) < 1:
                raise InvalidArgument(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.workers is not None and self.workers < 1:
            raise InvalidArgument(f"workers is {self.workers}; it must be at least 1")
        check_codecs(self.codecs)
        _ = self.pictures  # which checks them

    def check_format(self, kind: Kind) -> None:
        """Raise `InvalidArgument` where the format that this kind of data goes into has not what is asked for."""
        format_, has = FORMAT_OF_KIND[kind], _HAS[kind]
        for name in sorted(self.writing.keys() - has):
            raise InvalidArgument(
                f"{name} ({_ASKED_WITH[name]}) is not for {kind}, which go into {format_} shards; "
                + (f"what is allowed is {', '.join(sorted(has))}" if has else "those hold the files as they are: leave it out")
            )
        if format_ == "parquet" and not isinstance(self.codecs, str):
            raise InvalidArgument(f"codecs is {self.codecs!r}, and a Parquet shard has one for all fields, such as {DEFAULT_CODEC!r}")
        if "codecs" in has and isinstance(self.codecs, str):
            parse_codec(self.codecs, format_)

    @property
    def pictures(self) -> PictureOptions:
        """What is done to pictures."""
        return PictureOptions(**{name: getattr(self, name) for name in _OF_PICTURES})

    @property
    def writing(self) -> dict[str, Any]:
        """How samples are stored: those options that are not the usual ones, as a commit tells them."""
        usual = {each.name: each.default for each in fields(self)}
        asked = {
            **{name: getattr(self, name) for name in (*_OF_PICTURES, "row_group_bytes")},
            "codecs": self.codecs if isinstance(self.codecs, str) else dict(self.codecs),
        }
        chunks = {"chunks": {name: list(chunk) for name, chunk in self.chunks.items()}} if self.chunks else {}
        return {name: value for name, value in asked.items() if value != usual[name]} | chunks

    def by_format(self) -> dict[str, dict[str, Any]]:
        """What the writer of each format is given."""
        return writer_options(codecs=self.codecs, chunks=self.chunks, row_group_bytes=self.row_group_bytes)


@dataclass(frozen=True, slots=True)
class Pictures:
    """What was done to pictures: how many were `indexed` and `encoded` anew, and what `left` others as they are, with their numbers.
    `bytes_before` and `bytes_after` are those of the pictures that were changed."""

    indexed: int = 0
    encoded: int = 0
    left: Mapping[str, int] = field(default_factory=dict)
    bytes_before: int = 0
    bytes_after: int = 0

    def __add__(self, other: Pictures) -> Pictures:
        return Pictures(
            self.indexed + other.indexed,
            self.encoded + other.encoded,
            dict(Counter(self.left) + Counter(other.left)),
            self.bytes_before + other.bytes_before,
            self.bytes_after + other.bytes_after,
        )

    def to_json(self) -> dict[str, Any]:
        """The form it has in `dataplane ingest --json`."""
        return {**asdict(self), "left": dict(sorted(self.left.items()))}


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
    `pictures` says what this run did to those that it stored.
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
    pictures: Pictures = Pictures()

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
            "pictures": self.pictures.to_json(),
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }
