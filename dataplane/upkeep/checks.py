"""Which objects are sound: each is looked at once, whoever asks first."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass

from dataplane.errors import CorruptObject, NotFound, StoreError
from dataplane.lake import Lake
from dataplane.objects import Objects
from dataplane.refs import Digest, Foreign, ObjectRef
from dataplane.store import open_store, split_url
from dataplane.upkeep.repair import Repairer

__all__ = ["Checked", "Checks"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of looking at an object: what is wrong with it, or that it was put back."""

    wrong: str | None = None
    repaired: bool = False

    @property
    def sound(self) -> bool:
        """Nothing is wrong with it (any more)."""
        return self.wrong is None


_SOUND = Checked()


class Checks:
    """Looks at objects, and has `repairer` put back what is damaged or missing. Thread-safe.

    `objects` reads those of the lake.
    """

    def __init__(self, lake: Lake, objects: Objects, repairer: Repairer | None) -> None:
        self._lake = lake
        self._objects = objects
        self._repairer = repairer
        self._known: dict[str, Checked | Future[Checked] | None] = {}
        self._lock = threading.Lock()

    def claim(self, ref: ObjectRef) -> bool:
        """Whether this is the first time that anybody speaks of the object: then it is the caller who is to report on it."""
        key = _key(ref)
        with self._lock:
            first = key not in self._known
            if first:
                self._known[key] = None
        return first

    def look(self, ref: ObjectRef, *, folder: bool = False) -> Checked:
        """Look at an object that was claimed; or wait for who does. `folder`: it is an adopted array of many files."""
        key, mine = _key(ref), Future[Checked]()
        with self._lock:
            known = self._known[key]
            if known is None:
                self._known[key] = mine
        if known is not None:
            return known if isinstance(known, Checked) else known.result()
        try:
            found = self._whole(ref) if isinstance(ref, Digest) else self._same(ref, folder)
        except BaseException as error:
            mine.set_exception(error)
            raise
        mine.set_result(found)
        self._known[key] = found
        return found

    def _whole(self, ref: Digest) -> Checked:
        try:
            self._objects.verify(ref)
        except (CorruptObject, NotFound) as error:
            why = self._repairer.object(ref) if self._repairer else ""
            return Checked(repaired=True) if why is None else Checked(f"{error}{why}")
        return _SOUND

    def _same(self, ref: Foreign, folder: bool) -> Checked:
        """Whether an adopted object is still there and the same, as far as its server tells. Of an array in a folder, only the first."""
        try:
            if not folder:
                self._lake.objects.ranges(ref, starts=[0], lengths=[min(1, ref.size)])
                return _SOUND
            root, path = split_url(ref.url.rstrip("/"))
            if next(iter(open_store(root).list(path)), None) is None:
                raise NotFound(f"{ref}: this adopted array is gone; put it back, or leave its samples out with `where`")
        except (StoreError, NotFound) as error:
            return Checked(str(error))
        return _SOUND


def _key(ref: ObjectRef) -> str:
    return ref.path if isinstance(ref, Digest) else ref.url
