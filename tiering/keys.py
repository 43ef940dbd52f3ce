"""The name an object has in a hot tier. It says which bytes they are, never where they came from, so lakes, clones, versions and jobs
share them."""

from __future__ import annotations

import json
import re
from typing import Final

from blake3 import blake3

from dataplane.refs import Digest, ObjectRef

__all__ = ["is_key", "key_of"]

_KEY: Final = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{1,15}\Z")


def key_of(ref: ObjectRef) -> str:
    """A file name: the digest and suffix of an object of the lake; for a `Foreign`, the BLAKE3 of everything that identifies its bytes."""
    if isinstance(ref, Digest):
        return ref.hex + ref.suffix
    identity = json.dumps([ref.url, ref.size, ref.etag, ref.version_id], separators=(",", ":"))
    return blake3(identity.encode()).hexdigest() + ".foreign"


def is_key(name: str) -> bool:
    """Whether a file name can have come from `key_of`."""
    return _KEY.match(name) is not None
