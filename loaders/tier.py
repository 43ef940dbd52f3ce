"""Splits read through a hot tier, or not."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from dataplane.dataset import Split
from dataplane.errors import InvalidArgument
from dataplane.stages import Stage
from dataplane.store import Store
from loaders.locks import lock_of
from loaders.patience import patiently
from tiering import Hot, HotStore

__all__ = ["Tier"]


class Tier:
    """Wraps the stores of the splits that a loader reads, each lake's once. It is the consumer's, though any thread may ask for `stats`."""

    def __init__(self, hot: Hot | None) -> None:
        self._hot = hot
        self._lock = lock_of(self)
        self._stores: dict[str, HotStore] = {}  # made here
        self._others: dict[str, HotStore] = {}  # that splits came with
        self._last: dict[str, Any] = {}  # what each of them said
        self.reading = Stage.COLD if hot is None else Stage.HOT  # what a thread that reads is at

    def through(self, split: Split) -> Split:
        """The same split, read through the tier."""
        store = split.dataset.store
        if isinstance(store, HotStore):  # it has a hot tier of its own
            self.reading = Stage.HOT
            with self._lock:
                self._others[store.url] = store
            return split
        if self._hot is None:
            return split
        if store.url not in self._stores:
            made = self._hot.wrap(store)
            with self._lock:
                self._stores[store.url] = made
        return patiently(partial(_through, split, self._stores[store.url]))

    def stats(self) -> dict[str, Any] | None:
        """The tier's counters, those it had last once it is closed: None without a tier, by lake where there are several."""
        with self._lock:
            self._look()
            found = dict(self._last)
        return found if len(found) > 1 else next(iter(found.values()), None)

    def close(self) -> None:
        """Let go of what was made here. Idempotent."""
        with self._lock:
            self._look()
            stores, self._stores = self._stores, {}
        for store in stores.values():
            store.close()

    def _look(self) -> None:
        """Under the lock."""
        for url, store in (*self._others.items(), *self._stores.items()):
            with suppress(InvalidArgument):  # its owner has closed it
                self._last[url] = store.stats().to_json()


def _through(split: Split, store: Store) -> Split:
    return split.dataset.through(store)[split.name]
