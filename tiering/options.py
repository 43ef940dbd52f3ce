"""How users name a hot tier."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final

from dataplane.errors import InvalidArgument
from dataplane.store import Store
from tiering.store import HotStore

__all__ = ["Hot", "parse_bytes"]

_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)b?\s*\Z", re.IGNORECASE)


def parse_bytes(size: int | str) -> int:
    """A number of bytes from an int or from text: "500 GiB" (powers of 1024), "1.5 TB" (powers of 1000), "4096"."""
    if isinstance(size, int) and not isinstance(size, bool):
        return size
    match = _SIZE.match(size) if isinstance(size, str) else None
    if match is None or (match[3] and not match[2]):
        raise InvalidArgument(f"{size!r} is not a number of bytes; write an int, or text such as '500 GiB' or '1.5 TB'")
    power = " kmgtp".index(match[2].lower() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


@dataclass(frozen=True, slots=True)
class Hot:
    """A hot tier: a folder on a local disk, and how many bytes it may take. See `HotStore` for what it does."""

    directory: str | os.PathLike[str]
    limit: int | str

    def __post_init__(self) -> None:
        if not os.fspath(self.directory):
            raise InvalidArgument("a hot tier without a folder; name one on a local disk, as in Hot('/nvme/hot', limit='500 GiB')")
        parse_bytes(self.limit)

    @property
    def limit_bytes(self) -> int:
        return parse_bytes(self.limit)

    def wrap(self, store: Store) -> HotStore:
        """`store` with this hot tier in front of it."""
        return HotStore(store, self.directory, self.limit_bytes)
