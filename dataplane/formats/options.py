"""How shards are compressed and cut: what people may ask of the writers of the formats, by the same names everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dataplane.errors import InvalidArgument

__all__ = ["CODECS", "DEFAULT_CODEC", "ROW_GROUP_BYTES", "Levels", "check_codecs", "parse_codec", "writer_options"]


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of a codec, from the fastest to the smallest."""

    low: int
    high: int


CODECS: Final[Mapping[str, Mapping[str, Levels | None]]] = {
    "parquet": {"zstd": Levels(1, 22), "snappy": None, "gzip": Levels(1, 9), "none": None},
    "zarr": {"zstd": Levels(-7, 22), "blosc": Levels(0, 9), "gzip": Levels(0, 9), "none": None},
}
"""By format and name; None for a codec without levels."""
DEFAULT_CODEC: Final = "zstd"
ROW_GROUP_BYTES: Final = 256 << 10
"""Where a row group of Parquet ends, before compression."""


def parse_codec(text: str, format_: str) -> tuple[str, int | None]:
    """The name and the level of a codec such as "zstd:9", as a format knows it; None for its usual level. Raises `InvalidArgument`."""
    name, colon, level = text.partition(":")
    known = CODECS[format_]
    if name not in known:
        raise InvalidArgument(
            f"no codec {text!r} for a {format_.capitalize()} shard; there are {', '.join(known)}, with a level as in 'zstd:9'"
        )
    if not colon:
        return name, None
    levels = known[name]
    if levels is None:
        raise InvalidArgument(f"codec {text!r}: {name} has no levels")
    try:
        number = int(level)
    except ValueError:
        number = levels.low - 1
    if not levels.low <= number <= levels.high:
        raise InvalidArgument(f"codec {text!r}: {name} has levels from {levels.low} to {levels.high}")
    return name, number


def check_codecs(codecs: str | Mapping[str, str]) -> None:
    """Raise `InvalidArgument` for a codec that no format knows; those by field are of Zarr."""
    if not isinstance(codecs, str):
        for text in codecs.values():
            parse_codec(text, "zarr")
    elif (name := codecs.partition(":")[0]) not in {*CODECS["parquet"], *CODECS["zarr"]}:
        known = "; ".join(f"{format_.capitalize()} has {', '.join(names)}" for format_, names in CODECS.items())
        raise InvalidArgument(f"no codec {codecs!r}: {known}; with a level as in 'zstd:9'")
    else:
        for format_ in CODECS:
            if name in CODECS[format_]:
                parse_codec(codecs, format_)


def writer_options(
    *, codecs: str | Mapping[str, str], chunks: Mapping[str, Sequence[int]], row_group_bytes: int
) -> dict[str, dict[str, Any]]:
    """What the writer of each format is given. A codec that a format does not know leaves it at its default."""
    own = {
        format_: codecs if isinstance(codecs, str) and codecs.partition(":")[0] in CODECS[format_] else DEFAULT_CODEC for format_ in CODECS
    }
    zarr = own["zarr"] if isinstance(codecs, str) else codecs
    return {"parquet": {"codec": own["parquet"], "row_group_bytes": row_group_bytes}, "zarr": {"codecs": zarr, "chunks": chunks}}
