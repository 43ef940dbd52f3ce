"""The one error tree: catch `DataplaneError` for everything, or what a handler would act on.

DataplaneError                      kind
├── InvalidArgument  (ValueError)   "invalid-argument"    the call is wrong: change it
├── StateMismatch    (ValueError)   "state-mismatch"      a loader state or checkpoint of something else
├── FormatTooNew     (ValueError)   "format-too-new"      written by a newer release: upgrade
├── BadSample        (ValueError)   "bad-sample"          one sample's bytes cannot be used
│   ├── BadSources                  "bad-sources"         too many of a source's files are bad to commit anything
│   └── BadSamples                  "bad-samples"         more of an epoch's samples are bad than its loader may leave out
├── NotFound         (KeyError)     "not-found"           no such lake, dataset, version, split, sample, object
├── AlreadyExists    (FileExistsError) "already-exists"   put-if-absent met an object
├── CommitConflict   (RuntimeError) "commit-conflict"     another commit came first and cannot be rebased on
├── MissingExtra     (ImportError)  "missing-extra"       an optional dependency is not installed
└── StoreError       (OSError)      "store"               the store failed, for good
    ├── StoreUnavailable (ConnectionError) "unavailable"  may work when tried again (time-out, 5xx, throttled)
    ├── PermissionDenied (PermissionError) "permission"   credentials or modes forbid it
    ├── StorageFull                "full"                 no space or quota left
    ├── NotALake                   "not-a-lake"           the store cannot hold a lake, or holds something else
    ├── SourceChanged              "source-changed"       an adopted object is no longer the one that was adopted
    └── CorruptObject              "corrupt"              bytes differ from their digest or checksum

`kind` is stable and meant for programs; the message is meant for people: it names the thing, what was got, what is
allowed and what to do. No message carries a credential, a token or a signed URL (`redact`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

__all__ = [
    "AlreadyExists",
    "BadSample",
    "BadSamples",
    "BadSources",
    "CommitConflict",
    "CorruptObject",
    "DataplaneError",
    "FormatTooNew",
    "InvalidArgument",
    "MissingExtra",
    "NotALake",
    "NotFound",
    "PermissionDenied",
    "SourceChanged",
    "StateMismatch",
    "StorageFull",
    "StoreError",
    "StoreUnavailable",
    "redact",
]


class DataplaneError(Exception):
    """Base of every error this project raises. `str(error)` is one plain sentence or two."""

    kind: ClassVar[str] = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:  # KeyError would show the repr
        return self.message


class InvalidArgument(DataplaneError, ValueError):
    """The call cannot be right, whatever the data: a programming or command-line mistake."""

    kind = "invalid-argument"


class StateMismatch(DataplaneError, ValueError):
    """A state or checkpoint belongs to another dataset, version or pipeline."""

    kind = "state-mismatch"


class FormatTooNew(DataplaneError, ValueError):
    """Bytes written in a format version that this release does not know."""

    kind = "format-too-new"


class BadSample(DataplaneError, ValueError):
    """The bytes of one sample cannot be used: truncated, not an image, too large …"""

    kind = "bad-sample"


class BadSources(BadSample):
    """Nothing was committed: no file of a source can be a sample, or some cannot and that was not allowed. `bad` lists them."""

    kind = "bad-sources"

    def __init__(self, message: str, bad: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.bad = tuple(bad)


class BadSamples(BadSample):
    """More samples of an epoch are bad than its loader may skip or substitute. `bad` lists the first few."""

    kind = "bad-samples"

    def __init__(self, message: str, bad: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.bad = tuple(bad)


class NotFound(DataplaneError, KeyError):
    """A thing that was named does not exist."""

    kind = "not-found"


class AlreadyExists(DataplaneError, FileExistsError):
    """A put-if-absent found the name taken."""

    kind = "already-exists"


class CommitConflict(DataplaneError, RuntimeError):
    """Another commit came first, and this one cannot be rebased on it."""

    kind = "commit-conflict"


class MissingExtra(DataplaneError, ImportError):
    """An optional dependency is needed here; the message says which extra brings it."""

    kind = "missing-extra"


class StoreError(DataplaneError, OSError):
    """The store failed, and trying again would not help."""

    kind = "store"


class StoreUnavailable(StoreError, ConnectionError):
    """The store failed in a way that may pass: time-outs, refused connections, 5xx, throttling.

    `retry_after`: how many seconds the server asks to wait before the next try, where it said so.
    """

    kind = "unavailable"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermissionDenied(StoreError, PermissionError):
    """Credentials or file modes forbid the operation."""

    kind = "permission"


class StorageFull(StoreError):
    """No space or quota left where bytes were to be written."""

    kind = "full"


class NotALake(StoreError):
    """The URL does not hold a lake, or its store cannot hold one (no put-if-absent)."""

    kind = "not-a-lake"


class SourceChanged(StoreError):
    """An object that lies elsewhere was adopted, and has been replaced or changed since."""

    kind = "source-changed"


class CorruptObject(StoreError):
    """Bytes that differ from their digest or checksum, or a structure that cannot be parsed."""

    kind = "corrupt"


_SECRETS = tuple(
    (re.compile(f"(?i){pattern}"), r"\1***")
    for pattern in (
        r"(\bauthorization[\"']?\s*[:=]\s*[\"']?)[^\r\n\"']+",
        r"(\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}",
        r"(\b[a-z][a-z0-9+.-]*://)[^/\s]+(?=@)",
        r"(\b(?:x-amz-[a-z-]+|x-goog-[a-z-]+|sig|signature|credential|awsaccesskeyid)=)[^&\s\"',;]+",
        r"(<(?:awsaccesskeyid|signatureprovided|stringtosign|canonicalrequest)>)[^<]*",
        r"([?&](?:token|key|code)=)[^&\s\"']+",
        r"((?:secret|password|token|(?:access|account|api|private|secret)[_-]?key(?:[_-]?id)?)[\"']?\s*[:=]\s*[\"']?)[^\s\"',}&;]+",
    )
)


def redact(text: str) -> str:
    """`text` without user info, signatures and credentials, for messages that quote a URL or a dependency's error."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
