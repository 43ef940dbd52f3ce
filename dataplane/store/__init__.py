"""Stores: where bytes lie. `open_store(url)` gives one; `Store` says what it can do."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from dataplane.errors import InvalidArgument
from dataplane.store.protocol import (
    Draft,
    Drafts,
    LocalPath,
    Offer,
    ReadInto,
    ReadMatching,
    Reject,
    Store,
    Upload,
    Uploads,
    WrapperStore,
)

__all__ = [
    "Draft",
    "Drafts",
    "LocalPath",
    "Offer",
    "ReadInto",
    "ReadMatching",
    "Reject",
    "Store",
    "Upload",
    "Uploads",
    "WrapperStore",
    "open_store",
    "split_url",
]

_S3 = {"s3", "s3a"}
_OBSTORE = _S3 | {"gs", "az", "azure", "abfs", "abfss", "adl", "memory", "http", "https"}


def open_store(url: str, options: Mapping[str, str] | None = None) -> Store:
    """The store at `url`.

    A plain path or `file://` is a folder with durable writes; `s3://`, `gs://`, `az://`, `http(s)://` and `memory://NAME` go
    through obstore, with `options` as its configuration keys and credentials from the environment; every other URL, and
    `SCHEME+fsspec://`, goes through fsspec, with `options` as the file system's. Nothing is read or written here.
    """
    if not url:
        raise InvalidArgument("an empty store URL; give a folder or a URL such as s3://bucket/prefix")
    scheme = url.split("://", 1)[0].lower() if "://" in url else "file"
    if scheme == "file":
        from dataplane.store.local import LocalStore

        return LocalStore(_folder(url) if "://" in url else url)
    if scheme in _S3:
        from dataplane.store.s3 import S3Store

        return S3Store(url, options)
    if scheme in _OBSTORE:
        from dataplane.store.obs import ObstoreStore

        return ObstoreStore(url, options)
    from dataplane.store.fsspec import FsspecStore

    return FsspecStore(url, options)


def split_url(url: str) -> tuple[str, str]:
    """The URL of an object → the URL of a store that holds it, and its path there. All objects of a bucket have one store."""
    scheme, sign, rest = url.partition("://")
    if sign and scheme.lower() in _OBSTORE:
        root, _, path = rest.partition("/")
        return f"{scheme}://{root}", path
    folder, _, name = url.rpartition("/")
    return folder or "/", name


def _folder(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"}:
        raise InvalidArgument(f"{url}: a file URL has no host; write file:///{parts.netloc}{parts.path} or a plain path")
    return unquote(parts.path)
