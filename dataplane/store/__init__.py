"""Stores: where bytes lie. `open_store(url)` gives one; `Store` says what it can do."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from dataplane.errors import InvalidArgument
from dataplane.store.protocol import LocalPath, Offer, ReadInto, Reject, Store, WrapperStore

__all__ = ["LocalPath", "Offer", "ReadInto", "Reject", "Store", "WrapperStore", "open_store"]

_OBSTORE = {"s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl", "memory", "http", "https"}


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
    if scheme in _OBSTORE:
        from dataplane.store.obs import ObstoreStore

        return ObstoreStore(url, options)
    from dataplane.store.fsspec import FsspecStore

    return FsspecStore(url, options)


def _folder(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"}:
        raise InvalidArgument(f"{url}: a file URL has no host; write file:///{parts.netloc}{parts.path} or a plain path")
    return unquote(parts.path)
