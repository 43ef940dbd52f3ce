"""Announcements of collections long over: which of them nobody needs any more."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from dataplane import sweeps
from dataplane.log import Log

__all__ = ["needed", "trim"]

_FILE: Final = re.compile(r".*/(\d{20})\.json")


def needed(newest: int) -> set[int]:
    """The entries, of those up to `newest`, by which `Log.newest` finds the newest one from the start: now, and when there are more.

    It doubles its steps, through 1, 3, 7, …, and then halves them: it comes by m where the bits of m + 1 are the first ones of those of
    newest + 1, and zeros. Of later entries it comes by no other ones up to here: where their first bits say no more than these, they
    are the same.
    """
    end = newest + 1
    halving = {(end >> zeros << zeros) - 1 for zeros in range(end.bit_length())}
    return halving | {(1 << bits) - 1 for bits in range(1, end.bit_length())}


def trim(log: Log, now: datetime) -> None:
    """Delete the announcements that are older than `sweeps.KEPT_SECONDS` and not `needed`: neither by the newest one of now nor by one that
    was it within that time, since a search that began then may still be under way. The newest is found all the same: whoever has looked
    within that time goes on from what is young, and everybody else searches from the start. May be killed anywhere."""
    found = {int(match[1]): meta for chunk in log.store.list(log.prefix) for meta in chunk if (match := _FILE.fullmatch(meta["path"]))}
    oldest = now - timedelta(seconds=sweeps.KEPT_SECONDS)
    old = sorted(number for number, meta in found.items() if meta["last_modified"] < oldest)
    keep = {number for newest in range(max(old, default=0), max(found, default=0) + 1) for number in needed(newest)}
    gone = [log.path(number) for number in old if number not in keep]
    if gone:
        log.store.delete(gone)
