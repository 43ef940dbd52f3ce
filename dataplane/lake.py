"""`Lake`: the root object a user holds. A root URL that holds datasets, runs and models."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Literal

from dataplane.catalog import Catalog, check_name, folders
from dataplane.dataset import Dataset
from dataplane.errors import AlreadyExists, InvalidArgument, NotALake, NotFound, StoreError
from dataplane.log import Log
from dataplane.marker import MARKER, lake_id, new_marker
from dataplane.objects import Objects
from dataplane.store import Store, open_store

__all__ = ["Lake"]

LogKind = Literal["runs", "models"]


class Lake:
    """An existing lake. `Lake(url)` opens it, `Lake.init(url)` makes it where there is none. Thread-safe, and may be pickled."""

    def __init__(self, url: str | Store, *, options: Mapping[str, str] | None = None) -> None:
        self.store: Store = open_store(url, options) if isinstance(url, str) else url
        self.id = _lake_id(self.store)
        self.objects = Objects(self.store)
        self.catalog = Catalog(self.store, self.objects)

    @classmethod
    def init(cls, url: str | Store, *, options: Mapping[str, str] | None = None) -> Lake:
        """Make a lake at `url`, or open the one there. Raises `NotALake` where the store has no working put-if-absent: that is
        found out by really trying a second create, since some servers ignore the condition."""
        store = open_store(url, options) if isinstance(url, str) else url
        try:
            return cls(store)
        except NotALake:
            pass
        _try_create_twice(store)
        try:
            store.put(MARKER, new_marker(), mode="create")
        except AlreadyExists:  # another process made it meanwhile
            pass
        return cls(store)

    def __repr__(self) -> str:
        return f"Lake({self.url!r})"

    @property
    def url(self) -> str:
        """The root, without credentials."""
        return self.store.url

    def datasets(self) -> list[str]:
        """The names of the datasets, sorted."""
        return self.catalog.names()

    def dataset(self, spec: str) -> Dataset:
        """The version `NAME@7`, `NAME@TAG`, or the newest of `NAME`. Raises `NotFound`."""
        return Dataset(self.store, self.catalog.version(spec))

    def materialize(self, spec: str, *, size: int | None = None, max_side: int | None = None, to: str | None = None) -> Dataset:
        """A dataset of the pictures of a version as pixels, for runs that are bound by decoding: made, or brought up to date. See
        `dataplane.materialize`, which has more options; which samples could not be decoded is in its version's `bad`."""
        from dataplane.materialize import MaterializeOptions, materialize

        made = materialize(self, spec, options=MaterializeOptions(size=size, max_side=max_side), to=to)
        return self.dataset(f"{made.name}@{made.version}")

    def log(self, kind: LogKind, name: str) -> Log:
        """The commit log of a run or of a model. It may be empty."""
        return Log(self.store, f"{kind}/{check_name(name, kind[:-1])}/log")

    def names(self, kind: LogKind) -> list[str]:
        """The runs or models that have a commit, sorted."""
        return [name for name in folders(self.store, kind) if self.log(kind, name).newest()]


def _lake_id(store: Store) -> str:
    try:
        return lake_id(store)
    except NotFound:
        raise NotALake(f"{store.url} is not a lake; make one with: dataplane --lake {store.url} init") from None


def _try_create_twice(store: Store) -> None:
    probe = f"writers/.probe-{uuid.uuid4().hex}"
    advice = "it can be a source of data; keep the lake in a folder or in a store with conditional puts"
    try:
        store.put(probe, b"first", mode="create")
    except (InvalidArgument, StoreError) as error:
        raise NotALake(f"{store.url} cannot hold a lake: {error}; {advice}") from error
    try:
        store.put(probe, b"second", mode="create")
    except AlreadyExists:
        return
    finally:
        store.delete(probe)
    raise NotALake(f"{store.url} cannot hold a lake: it let a put-if-absent overwrite an object; {advice}")
