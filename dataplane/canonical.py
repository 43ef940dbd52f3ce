"""Canonical JSON: one byte form for a value, so that equal values have equal digests."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["canonical_json"]


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no white space. Raises `ValueError` for NaN and infinities, which JSON lacks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
