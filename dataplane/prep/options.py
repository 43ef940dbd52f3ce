"""How pictures are stored, as a user asks for it. No decoder is loaded for this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from dataplane.errors import InvalidArgument

__all__ = ["DEFAULT_QUALITY", "Jpeg", "Metadata", "PictureOptions", "Progressive"]

Jpeg = Literal["index", "keep"]
Metadata = Literal["keep", "drop"]
Progressive = Literal["baseline", "keep"]

DEFAULT_QUALITY: Final = 90
"""Of pictures that are made smaller, where no quality is asked for."""


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """What is done to JPEG files; other pictures are stored as they are.

    `jpeg`: "index" gives a file restart markers, without changing a pixel, so that loaders decode just the crop; "keep" does nothing.
    `metadata` and `progressive` are for files that are indexed: whether EXIF, profiles and comments stay, and whether progressive files,
    which nothing can be cut out of, become sequential ones first. `jpeg_quality` and `max_side` are for smaller datasets: pictures whose
    longer side has more pixels than `max_side` are reduced to it, and with `jpeg_quality` all are encoded anew if that makes them smaller.
    """

    jpeg: Jpeg
    metadata: Metadata
    progressive: Progressive
    jpeg_quality: int | None
    max_side: int | None

    def __post_init__(self) -> None:
        for name, allowed in (("jpeg", Jpeg), ("metadata", Metadata), ("progressive", Progressive)):
            if getattr(self, name) not in get_args(allowed):
                raise InvalidArgument(f"{name} is {getattr(self, name)!r}; allowed are {' and '.join(get_args(allowed))}")
        if self.metadata == "drop" and self.jpeg == "keep":
            raise InvalidArgument("metadata='drop' changes files, and jpeg='keep' stores them as they are; leave one of the two out")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise InvalidArgument(f"jpeg_quality is {self.jpeg_quality}; allowed are 1 to 100")
        if self.max_side is not None and self.max_side < 1:
            raise InvalidArgument(f"max_side is {self.max_side}; it must be at least 1")

    @property
    def encodes(self) -> bool:
        """Pictures may be encoded anew."""
        return self.jpeg_quality is not None or self.max_side is not None

    @property
    def changes(self) -> bool:
        """Something may be done to pictures at all."""
        return self.jpeg == "index" or self.encodes
