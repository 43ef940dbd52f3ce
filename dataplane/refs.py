"""Names of immutable objects: `ObjectRef` is a `Digest` (in the lake) or a `Foreign` (adopted, elsewhere)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dataplane.errors import CorruptObject, InvalidArgument

__all__ = ["Digest", "Foreign", "ObjectRef", "digest_of_path", "ref_from_json", "ref_to_json", "referenced"]

_HEX = re.compile(r"[0-9a-f]{64}\Z")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,15}\Z")
_PATH = re.compile(r"objects/([0-9a-f]{2})/([0-9a-f]{64})(\.[a-z0-9]{1,15})\Z")


@dataclass(frozen=True, slots=True)
class Digest:
    """An object of the lake, named by the BLAKE3 of its bytes.

    `suffix` tells people and tools what is inside (".tar"); equal bytes under two suffixes are two objects.
    """

    hex: str
    suffix: str
    size: int

    def __post_init__(self) -> None:
        if not _HEX.match(self.hex) or not _SUFFIX.match(self.suffix) or self.size < 0:
            raise InvalidArgument(f"not an object name: hex {self.hex!r}, suffix {self.suffix!r}, size {self.size}")

    @property
    def path(self) -> str:
        """Where the object lies, relative to the lake's root."""
        return f"objects/{self.hex[:2]}/{self.hex}{self.suffix}"

    def __str__(self) -> str:
        return f"{self.hex[:12]}{self.suffix}"


@dataclass(frozen=True, slots=True)
class Foreign:
    """An object that the lake adopted in place. Reads send If-Match, so a source that changed is an error that names it."""

    url: str
    size: int
    etag: str | None = None
    version_id: str | None = None

    def __str__(self) -> str:
        return self.url


ObjectRef = Digest | Foreign


def digest_of_path(path: str, size: int) -> Digest | None:
    """The `Digest` whose path this is, or None for paths that are no objects (logs, tags, `lake.json`)."""
    match = _PATH.match(path)
    if match is None or match[1] != match[2][:2]:
        return None
    return Digest(match[2], match[3], size)


def ref_to_json(ref: ObjectRef) -> dict[str, Any]:
    """The form a reference has in commits and journals."""
    if isinstance(ref, Digest):
        return {"blake3": ref.hex, "suffix": ref.suffix, "size": ref.size}
    return {"url": ref.url, "size": ref.size, "etag": ref.etag, "version_id": ref.version_id}


def ref_from_json(value: dict[str, Any]) -> ObjectRef:
    """The inverse of `ref_to_json`. Raises `CorruptObject` for anything else."""
    try:
        if "blake3" in value:
            return Digest(value["blake3"], value["suffix"], value["size"])
        return Foreign(value["url"], value["size"], value.get("etag"), value.get("version_id"))
    except (KeyError, TypeError, InvalidArgument) as error:
        raise CorruptObject(f"not an object reference: {value!r}") from error


def referenced(body: Any) -> Iterator[Digest]:
    """Every object of the lake that a commit names, wherever in it the reference stands."""
    if isinstance(body, Mapping):
        if {"blake3", "suffix", "size"} <= body.keys():
            ref = ref_from_json(dict(body))
            if isinstance(ref, Digest):
                yield ref
            return
        body = list(body.values())
    if isinstance(body, list):
        for value in body:
            yield from referenced(value)
