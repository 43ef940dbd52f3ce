"""The bad samples that one rank has met, and how many of them are too many."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from dataplane.errors import BadSamples

__all__ = ["Bad", "Report"]

_KEPT: Final = 1000  # samples that are listed: some hundred bytes each
_TOLD: Final = 3  # of them in an error's message
_logger = logging.getLogger("loaders")


@dataclass(frozen=True, slots=True)
class Bad:
    """A sample that could not be used: where it was due, which it is, why, and what was done.

    `key` is None where the shard's index, which has the keys, cannot be read. `substitute` is the key of the sample that was delivered in
    its place, None where it was skipped. `component` is what a mixture calls the dataset that it is of; without a mixture it is empty.
    """

    epoch: int
    position: int
    key: str | None
    shard: str
    reason: str
    substitute: str | None
    component: str = ""

    @property
    def done(self) -> str:
        """What was done, in a word."""
        return "skipped" if self.substitute is None else "substituted"

    def __str__(self) -> str:
        component = f" of component {self.component!r}," if self.component else ""
        return f"{'a sample' if self.key is None else f'sample {self.key!r}'}{component} of shard {self.shard}: {self.reason}"


class Report:
    """What was delivered in place of bad samples, in the order of delivery: the last thousand, and how many there were.

    `name` is what messages call the data, `samples` how many an epoch of it has, `allowed` how many of those may be bad. Not thread-safe:
    it is the consumer's.
    """

    def __init__(self, name: str, *, samples: int, allowed: int) -> None:
        self._name = name
        self._samples = samples
        self.allowed = allowed
        self._kept: deque[Bad] = deque(maxlen=_KEPT)
        self._count = 0
        self._epoch = 0
        self._first: list[Bad] = []  # of the epoch
        self._in_epoch = 0
        self._newest = -1  # position

    def begin(self, epoch: int, *, jump: bool = False) -> None:
        """What comes is of `epoch`. If that is another one than before, or the loader makes a `jump` to another place, what counts against
        the budget is counted anew from here."""
        if jump or epoch != self._epoch:
            self._epoch, self._first, self._in_epoch, self._newest = epoch, [], 0, -1

    def add(self, met: Iterable[Bad]) -> None:
        """Take note of a batch's bad samples, before it is delivered. Raises `BadSamples` where that makes too many, and notes none then.

        A batch that comes again, since its delivery was interrupted, adds nothing.
        """
        fresh = sorted((bad for bad in met if bad.position > self._newest), key=lambda bad: bad.position)
        if not fresh:
            return
        first = [*self._first, *fresh][:_TOLD]
        self.check(self._in_epoch + len(fresh), first)
        if not self._count:
            _logger.warning("%s: the first bad sample, which is %s: %s; report() lists them all", self._name, fresh[0].done, fresh[0])
        self._kept.extend(fresh)
        self._count += len(fresh)
        self._in_epoch += len(fresh)
        self._first, self._newest = first, fresh[-1].position

    def check(self, count: int, first: Iterable[Bad] = ()) -> None:
        """Raise `BadSamples` where `count` bad samples in one epoch are too many. `first` are told of."""
        if count > self.allowed:
            told = tuple(first) or tuple(self._first)
            raise BadSamples(
                f"{self._name}: {count} bad samples in this epoch, and max_bad allows {self.allowed} of {self._samples}. "
                f"The first: {'; '.join(map(str, told)) or 'met by other ranks'}. See what is damaged with dataplane verify, "
                "leave bad samples out with dataplane where, or allow more with max_bad",
                told,
            )

    def end(self, epoch: int) -> None:
        """An epoch is over: say how many samples of it were bad."""
        if self._in_epoch:
            what = self._kept[-1].done
            _logger.warning("%s: %d samples of epoch %d were bad and %s; report() lists them", self._name, self._in_epoch, epoch, what)

    def to_json(self, *, after: int) -> dict[str, Any]:
        """Plain JSON: `count` since the loader was made, `in_epoch` of them in the newest epoch, and the `samples` behind the first
        `after`, as far as they are kept."""
        listed = min(self._count - after, len(self._kept))
        samples = [asdict(bad) for bad in list(self._kept)[len(self._kept) - listed :]] if listed > 0 else []
        return {"count": self._count, "in_epoch": self._in_epoch, "samples": samples}
