"""What kind of data a source holds, by the names and the first bytes of its files. It decides the format of the shards."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from dataplane.ingest.options import Kind
from dataplane.ingest.source import Entry
from dataplane.prep.image import EXTENSIONS, sniff

__all__ = ["detect", "kind_of_name"]

_BY_NAME: Final[dict[str, Kind]] = {
    **dict.fromkeys(EXTENSIONS, "pictures"),
    **dict.fromkeys(("csv", "tsv", "jsonl", "ndjson", "parquet", "pq", "arrow", "feather"), "tables"),
    **dict.fromkeys(("txt",), "text"),
    **dict.fromkeys(("npy", "npz"), "arrays"),
    **dict.fromkeys(("wav", "flac", "mp3", "ogg", "opus", "m4a", "aac", "mp4", "avi", "mkv", "webm", "mov", "mpg", "pdf", "bin"), "files"),
}
_LOOKED_AT: Final = 8  # files without a telling name


def kind_of_name(path: str) -> Kind | None:
    """What the extension of a file promises."""
    return _BY_NAME.get(posixpath.splitext(path)[1][1:].lower())


def detect(entries: Sequence[Entry], start_of: Callable[[Entry], bytes]) -> Kind:
    """Pictures where there are any, since all else is then a stray; otherwise what most files are. Where no name tells, the first bytes
    of some files do: pictures, or just files."""
    found = Counter(kind for entry in entries if (kind := kind_of_name(entry.path)))
    if found["pictures"]:
        return "pictures"
    if found:
        return max(found, key=lambda kind: (found[kind], kind))
    return "files" if entries and not any(sniff(start_of(entry)) for entry in entries[:_LOOKED_AT]) else "pictures"
