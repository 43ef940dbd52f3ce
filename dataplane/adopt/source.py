"""What a source names: the objects that a folder, a URL or a pattern stands for, in any store. Nothing is ever written there."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from dataplane.adopt.pattern import Pattern, expand, parse
from dataplane.errors import InvalidArgument, NotFound, PermissionDenied, StoreError, StoreUnavailable, redact
from dataplane.ingest.options import Bad
from dataplane.refs import Foreign
from dataplane.store import Store, open_store, split_url
from dataplane.store.local import LocalStore

if TYPE_CHECKING:
    from obspec import ObjectMeta

__all__ = ["Found", "Listing", "find"]

_ZARR: Final = frozenset({"zarr.json", ".zgroup", ".zarray", ".zmetadata"})
_HEADS: Final = 4  # more names than these in one folder are looked up by listing it, where that can be listed
_HEADS_AT_ONCE: Final = 32
_HEADS_A_ROUND: Final = 1024
_TELL_EVERY: Final = 1000
_MISSING: Final = "it does not exist"
_NAME_THEM: Final = "name the files, with braces where they are many, as in 'https://host/x-{000..127}.tar'"


@dataclass(frozen=True, slots=True)
class Found:
    """An object of a source, or a Zarr array or group: then `path` is its folder, and `size` and `etag` are of all its objects together.
    `name` is the part of the path that the source did not give as a plain folder."""

    store: Store
    path: str
    name: str
    size: int
    etag: str | None
    version_id: str | None = None
    zarr: bool = False

    @property
    def url(self) -> str:
        """Where it lies, without credentials."""
        return f"{self.store.url.rstrip('/')}/{self.path}" if self.path else self.store.url

    @property
    def ref(self) -> Foreign:
        """Its name in a version."""
        return Foreign(self.url, self.size, self.etag, self.version_id)


@dataclass(slots=True)
class Listing:
    """What a source stands for: objects in order, what was named and cannot be had, and how many were passed over: hidden files and the
    like."""

    found: list[Found] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    ignored: int = 0


def find(source: str, *, apart: str, told: Callable[[int], None] = lambda _: None) -> Listing:
    """The objects that `source` stands for: a file, a folder (all below it), a URL of either, or a pattern with `{…}`, `*`, `**`, `?` and
    `[…]`. Each comes once, in the order of the names that braces stand for, then by path.

    `apart` is the lake's URL: what lies in it is no source. Raises `NotFound` where a plain name does not exist or nothing matches.
    """
    listing, seen = Listing(), set[str]()
    for found in _all(source, listing):
        if found.url in seen:
            continue
        if f"{found.url}/".startswith(f"{apart.rstrip('/')}/"):
            listing.ignored += 1
            continue
        seen.add(found.url)
        listing.found.append(found)
        if len(listing.found) % _TELL_EVERY == 0:
            told(len(listing.found))
    told(len(listing.found))
    if not listing.found and not listing.bad:
        raise NotFound(
            f"{redact(source)}: nothing matches; give a file, a folder, a URL of one, or quote a pattern such as 's3://bucket/x-{{000..099}}.tar'"
        )
    return listing


def _is_local(source: str) -> bool:
    return "://" not in source or source.lower().startswith("file://")


def _is_web(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def _local(source: str) -> str:
    return unquote(urlsplit(source).path) if "://" in source else source


def _open(folder: str) -> tuple[Store, str]:
    """The store that holds a folder, and the folder's path in it: all of a bucket is one store."""
    if _is_local(folder):
        return LocalStore(os.path.abspath(_local(folder) or ".")), ""
    if not folder.split("://", 1)[1].strip("/"):
        raise InvalidArgument(f"{folder} names no bucket")
    url, path = split_url(f"{folder}/.")
    return open_store(url), path[:-1].strip("/")


def _all(source: str, listing: Listing) -> Iterator[Found]:
    if _is_local(source) and os.path.lexists(_local(source)):  # as it is written, wildcards and braces included
        path = os.path.abspath(_local(source))
        yield from _one(LocalStore(os.path.dirname(path)), "", os.path.basename(path), listing)
        return
    named: dict[str, list[Pattern]] = {}
    patterns = [parse(text) for text in expand(source)]
    if _is_web(source):
        patterns = [_web(pattern, source) for pattern in patterns]
    for pattern in patterns:
        named.setdefault(pattern.folder, []).append(pattern)
    for folder, wanted in named.items():
        plain = [pattern.name for pattern in wanted if pattern.regex is None]
        if folder.endswith(":/"):  # the source is a whole bucket
            store, base = _open(f"{folder}/{plain[0]}")
            yield from _below(store, base, [None], listing)
            continue
        store, base = _open(folder)
        if plain and len(patterns) == 1:
            yield from _one(store, base, plain[0], listing)
        elif plain:
            yield from _named(store, base, plain, listing)
        wild = [pattern.regex for pattern in wanted if pattern.regex is not None]
        if wild:
            yield from _below(store, base, wild, listing)


def _web(pattern: Pattern, source: str) -> Pattern:
    """A pattern whose path is decoded, as those of objects are. Raises `InvalidArgument` for what only a browser understands."""
    if "?" in source or "#" in source:
        raise InvalidArgument(
            f"{redact(source)}: an address with a query or a fragment; samples are read from it later too, so it has to be one that stays: "
            "leave out what follows ? or # (in a name they are %3F and %23)"
        )
    root, path = split_url(pattern.folder)
    if "@" in root:
        raise InvalidArgument(
            f"{redact(source)}: a name and a password in an address are not sent to web servers; use one that asks for none"
        )
    return replace(pattern, folder=f"{root}/{unquote(path)}" if path else pattern.folder, name=unquote(pattern.name))


def _one(store: Store, base: str, name: str, listing: Listing) -> Iterator[Found]:
    """A plain name: an object, or a folder with all that lies below it."""
    path = _joined(base, name)
    if isinstance(store, LocalStore) and (not name or (store.root / name).is_dir()):
        yield from _below(LocalStore(store.root / name), "", [None], listing)
        return
    try:
        meta = store.head(path)
    except NotFound:
        if _is_web(store.url):
            raise NotFound(f"{store.url}/{path} does not exist; a web server's folders cannot be looked into: {_NAME_THEM}") from None
        inside, below = _open(f"{store.url}/{path}")
        ignored = listing.ignored
        found = list(_below(inside, below, [None], listing))
        if not found and ignored == listing.ignored:
            raise NotFound(f"{store.url}/{path} does not exist, as an object or as a folder of objects") from None
        yield from found
        return
    yield from _file(store, meta, name, listing)


def _named(store: Store, base: str, names: Sequence[str], listing: Listing) -> Iterator[Found]:
    """Many plain names of one folder."""
    paths = [_joined(base, name) for name in names]
    if len(names) <= _HEADS or _is_web(store.url):
        answers = _heads(store, paths)
    else:
        there = {meta["path"]: meta for meta in store.list_with_delimiter(base or None)["objects"]}
        answers = (there.get(path, _MISSING) for path in paths)
    for name, path, answer in zip(names, paths, answers, strict=True):
        if isinstance(answer, str):
            listing.bad.append(Bad(f"{store.url}/{path}", answer))
        else:
            yield from _file(store, answer, name, listing)


def _heads(store: Store, paths: Sequence[str]) -> Iterator[ObjectMeta | str]:
    """What each object is, or why it cannot be had, in order; many are asked for at once."""

    def head(path: str) -> ObjectMeta | str:
        try:
            return store.head(path)
        except NotFound:
            return _MISSING
        except PermissionDenied as error:
            return str(error).removeprefix(f"{store.url}/{path}: ")

    pool = ThreadPoolExecutor(min(_HEADS_AT_ONCE, len(paths)), thread_name_prefix="dataplane-adopt-heads")
    try:
        for start in range(0, len(paths), _HEADS_A_ROUND):
            yield from pool.map(head, paths[start : start + _HEADS_A_ROUND])
    finally:
        pool.shutdown(cancel_futures=True)


def _listed(store: Store, base: str) -> list[ObjectMeta]:
    """Everything below a folder, by path. Raises `InvalidArgument` for a web server that does not list."""
    try:
        return sorted((meta for chunk in store.list(base or None) for meta in chunk), key=lambda meta: meta["path"])
    except (NotFound, StoreError) as error:
        if isinstance(error, StoreUnavailable) or not _is_web(store.url):
            raise
        raise InvalidArgument(f"{store.url}/{base}: this web server does not list what it holds; {_NAME_THEM}") from error


def _below(store: Store, base: str, patterns: Sequence[re.Pattern[str] | None], listing: Listing) -> Iterator[Found]:
    """Everything below a folder that matches the patterns, one after the other, Zarr groups as one. Without a pattern: all but hidden
    files. One listing serves them all."""
    metas = _listed(store, base)
    groups = _groups([meta["path"] for meta in metas], base)
    inside: dict[str, list[ObjectMeta]] = {}
    order: list[tuple[str, ObjectMeta | None]] = []
    for meta in metas:
        path = meta["path"]
        root = next((folder for folder in _above(path) if folder in groups), None)
        if root is None:
            order.append((path, meta))
        else:
            if root not in inside:
                inside[root] = []
                order.append((root, None))
            inside[root].append(meta)
    for pattern in patterns:
        for path, one in order:
            relative = path[len(base) :].lstrip("/")
            if pattern is not None and not pattern.match(relative):
                continue
            if one is None:
                yield _zarr(store, path, relative or path.rpartition("/")[2], inside[path])
            elif pattern is None and _hidden(relative):
                listing.ignored += 1
            else:
                yield from _file(store, one, relative, listing)


def _groups(paths: Sequence[str], base: str) -> set[str]:
    """The topmost folders that hold the metadata of Zarr, sorted paths given."""
    groups: set[str] = set()
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name in _ZARR:
            groups.add(folder)
    return {folder for folder in groups if not any(above in groups for above in _above(folder) if above != folder)}


def _above(path: str) -> Iterator[str]:
    """The folders that hold a path, the topmost first; "" is the store itself."""
    yield ""
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)


def _zarr(store: Store, path: str, name: str, metas: Sequence[ObjectMeta]) -> Found:
    from blake3 import blake3

    cut = len(path) + 1 if path else 0
    lines = "\n".join(f"{meta['path'][cut:]} {meta['size']} {meta['e_tag']}" for meta in metas)
    told = blake3(lines.encode("utf-8", "surrogateescape"))
    return Found(store, path, name, sum(meta["size"] for meta in metas), told.hexdigest(16), zarr=True)


def _file(store: Store, meta: ObjectMeta, name: str, listing: Listing) -> Iterator[Found]:
    path = meta["path"]
    if isinstance(store, LocalStore) and not _regular(store, path):
        listing.bad.append(Bad(f"{store.url}/{path}", "not a file that could be read: a FIFO, a socket or a device"))
    elif not path.isprintable():
        listing.bad.append(Bad(f"{store.url}/{path!r}", "a name with control characters or bytes that are not UTF-8"))
    elif not path.endswith("/"):
        yield Found(store, path, name, meta["size"], meta["e_tag"], meta["version"])


def _regular(store: LocalStore, path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(store.root / path).st_mode)
    except OSError:
        return False


def _hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in path.split("/"))


def _joined(base: str, name: str) -> str:
    return f"{base}/{name}" if base else name
