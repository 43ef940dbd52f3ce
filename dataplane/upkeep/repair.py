"""Putting back what is damaged or missing, from a copy of the lake or from a folder of objects."""

from __future__ import annotations

import json
import tempfile
from typing import IO

from blake3 import blake3

from dataplane.errors import AlreadyExists, CorruptObject, DataplaneError, NotFound, StoreError
from dataplane.lake import Lake
from dataplane.log import Log
from dataplane.refs import Digest
from dataplane.store import Reject, Store, open_store

__all__ = ["Repairer"]

_CHUNK_BYTES = 8 << 20


class Repairer:
    """Fetches from `source` what `lake` lacks. A `source` that is a lake with the same id is a copy; one with another id, and what is no
    lake at all, may hold equal objects: those are named by their bytes, wherever they come from.

    Raises `NotFound` where there is nothing at `source`, and `StoreError` where it cannot be read.
    """

    def __init__(self, lake: Lake, source: str | Store) -> None:
        self.lake = lake
        self.store: Store = open_store(source) if isinstance(source, str) else source
        self.id = _lake_id(self.store)
        if self.id is None and next(iter(self.store.list()), None) is None:
            raise NotFound(f"{self.store.url} holds nothing to repair from; give a copy of the lake, or a folder of objects")

    def object(self, ref: Digest) -> str | None:
        """Put an object back. None when it is whole again; else why not, to be added to what is wrong with it."""
        damaged = False
        for path in (ref.path, ref.path.removeprefix("objects/"), ref.path.rsplit("/", 1)[-1]):
            with tempfile.TemporaryFile() as copy:
                try:
                    if not _fetch(self.store, path, ref, copy):
                        damaged = True
                        continue
                    copy.seek(0)
                    self.lake.store.put(ref.path, copy)
                    self._forget(ref)
                    self.lake.objects.verify(ref)
                    return None
                except NotFound:
                    continue
                except CorruptObject as error:
                    return f" (it was put back from {self.store.url}, and is damaged again: {error})"
        return f" ({self.store.url} has {'only a damaged one' if damaged else 'none'} either)"

    def commit(self, log: Log, number: int) -> str | None:
        """Put a commit back. None when it is whole again; else why not."""
        if self.id != self.lake.id:
            which = "is no lake" if self.id is None else f"is another lake ({self.id})"
            return f" ({self.store.url} {which}, so no commit can come from it)"
        theirs = Log(self.store, log.prefix)
        try:
            entry = theirs.read(number)
            if not self._same_history(log, theirs, number):
                return f" (the history of {self.store.url} is another: the commits round this one differ, so it was not put back)"
            raw = bytes(memoryview(self.store.get(log.path(number)).buffer()))
            self.lake.store.put(log.path(number), raw)
            if log.read(number).id != entry.id:
                return f" (it was put back from {self.store.url}, and reads as another commit)"
        except (NotFound, AlreadyExists):
            return f" ({self.store.url} has none either)"
        except CorruptObject:
            return f" ({self.store.url} has only a damaged one)"
        return None

    def _same_history(self, ours: Log, theirs: Log, number: int) -> bool:
        """The commits next to this one are the same ones here and there, as far as there are any: a copy may have been written on."""
        for beside in (number - 1, number + 1):
            if beside < 1:
                continue
            try:
                mine = ours.read(beside)
            except DataplaneError:
                continue
            try:
                if theirs.read(beside).id != mine.id:
                    return False
            except NotFound:  # a copy of an earlier state
                continue
            except CorruptObject:
                continue
        return True

    def _forget(self, ref: Digest) -> None:
        """A hot tier's copy of the damaged bytes goes."""
        if isinstance(self.lake.store, Reject):
            self.lake.store.reject(ref)


def _fetch(store: Store, path: str, ref: Digest, copy: IO[bytes]) -> bool:
    """Copy an object; whether it is what `ref` names. Raises `NotFound`."""
    if store.head(path)["size"] != ref.size:
        return False
    hasher = blake3()
    for start in range(0, ref.size, _CHUNK_BYTES):
        piece = memoryview(store.get_range(path, start=start, end=min(ref.size, start + _CHUNK_BYTES)))
        hasher.update(piece)
        copy.write(piece)
    return bool(hasher.hexdigest() == ref.hex)


def _lake_id(store: Store) -> str | None:
    try:
        return str(json.loads(bytes(memoryview(store.get("lake.json").buffer())))["id"])
    except NotFound:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store.url}/lake.json is damaged, so it cannot be told which lake this is a copy of; give another copy"
        ) from error
