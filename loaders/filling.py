"""Batches under way: threads read and decode samples into their places, and put something else where one is bad."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dataplane.errors import DataplaneError
from dataplane.stages import Stage, entering
from loaders.batch import Batch
from loaders.buffers import Allocate, BufferPool
from loaders.course import Part, Places, component_seed
from loaders.feed import Feed, FieldShape, FillsMany, Hand, Sizes, Spot
from loaders.leaving import heed
from loaders.policy import ATTEMPTS, OnError, is_bad, substitutes
from loaders.ragged import Note, RaggedPlaces
from loaders.report import Bad
from loaders.schedule import Step
from loaders.stats import Spent, Stats

__all__ = ["BatchFiller", "Filling"]

_REASON: Final = 300  # characters of it in a report


class Filling:
    """A batch that is being filled: its step, its samples, and the arrays they go to. Every sample is one thread's business."""

    __slots__ = ("arrays", "bad", "epoch", "keys", "parts", "places", "step", "valid")

    def __init__(self, epoch: int, step: Step, places: Places, parts: Sequence[Part], arrays: dict[str, Any]) -> None:
        self.epoch = epoch
        self.step = step
        self.places = places
        self.parts = parts
        self.arrays = arrays
        self.keys = [""] * len(places.spots)
        self.valid = step.valid.copy()
        self.bad: list[Bad] = []  # of positions that are this step's own, not of those that only pad it

    def batch(self, to_output: Any) -> Batch:
        """What is delivered, once it is filled."""
        fields = {name: a.ragged().map(to_output) if isinstance(a, RaggedPlaces) else to_output(a) for name, a in self.arrays.items()}
        places = self.places
        return Batch(fields, self.epoch, self.step.positions, tuple(self.keys), self.valid, places.components, places.epochs)


class BatchFiller:
    """Fills batches. Thread-safe: each thread gets a hand of its own for each feed. What it puts where is a function of the feeds and the
    places alone.

    `fields`: of all feeds together. One that a sample's own feed does not fill is zeros there. `reading`: the tier that samples are read
    from, for who asks what a thread is doing.
    """

    def __init__(self, fields: Mapping[str, FieldShape], *, on_error: OnError, keep: int, stats: Stats, reading: Stage) -> None:
        self._fields = fields
        self._reading = reading
        self._on_error = on_error
        self._stats = stats
        self._pool = BufferPool(keep=keep, fields=len(fields))
        self._local = threading.local()

    def keep(self, batches: int) -> None:
        """From now on, have the memory of so many batches ready."""
        self._pool.keep = batches

    def allocate_with(self, allocate: Allocate, *, again: bool) -> None:
        """From now on, have batches in memory that `allocate` gives. See `BufferPool.allocate_with`."""
        self._pool.allocate_with(allocate, again=again)

    def begin(self, epoch: int, step: Step, places: Places, parts: Sequence[Part]) -> Filling:
        """A batch of the samples at `places`, which are of `parts`."""
        n = len(places.spots)
        arrays: dict[str, Any] = {
            name: RaggedPlaces(n, self._pool) if field.ragged else self._pool.take((n, *field.shape), field.dtype)
            for name, field in self._fields.items()
        }
        return Filling(epoch, step, places, parts, arrays)

    def fill(self, filling: Filling, start: int, stop: int) -> None:
        """Read and decode samples [start, stop) of a batch into their places."""
        spent = Spent()
        for name, array in filling.arrays.items():
            if isinstance(array, RaggedPlaces):
                array.lay_out(partial(_sizes, filling, name))
        for number, places in filling.places.by_part(start, stop):
            self._fill(filling, filling.parts[number], places, spent)
        self._stats.add(spent)

    def _fill(self, filling: Filling, part: Part, places: Sequence[int], spent: Spent) -> None:
        """The places of one part."""
        spots, draws = filling.places.spots, filling.places.draws
        self._blank(filling, part.feed, places)
        _, hand, many = self._own(part.feed)
        enter, decode = entering(), Stage.DECODE  # the look-up of a member is half of what a change costs
        enter(self._reading)
        if many is not None:
            self._fill_many(filling, part, many, places, spent)
            return
        for i, found in zip(places, hand.read([spots[i] for i in places]), strict=False):  # what is unavailable ends it
            heed()
            try:
                if isinstance(found, DataplaneError):
                    raise found
                enter(decode)
                spent.bytes += hand.place(found, draws[i], filling.arrays, i)
                filling.keys[i] = spots[i].key
            except DataplaneError as error:
                spent.bytes += self._replace(filling, i, error, part)
            spent.samples += 1
            enter(self._reading)

    def _fill_many(self, filling: Filling, part: Part, hand: FillsMany, places: Sequence[int], spent: Spent) -> None:
        """The places of one part, together."""
        heed()
        size, keys, errors = hand.fill(filling.places.spots, filling.places.draws, places, filling.arrays)
        spent.bytes += size
        spent.samples += len(places)
        if len(keys) == len(filling.keys):
            filling.keys[:] = keys
        else:
            for i, key in zip(places, keys, strict=True):
                filling.keys[i] = key
        for i, error in errors.items():
            spent.bytes += self._replace(filling, i, error, part)

    def _blank(self, filling: Filling, feed: Feed, places: Sequence[int]) -> None:
        """Zeros where this feed has no field: the memory may hold an older batch."""
        for name, array in filling.arrays.items():
            if name not in feed.fields:
                array[list(places)] = 0

    def _replace(self, filling: Filling, i: int, error: DataplaneError, part: Part) -> int:
        """Do with place `i`, whose own sample failed, what `on_error` says. How many bytes there are in it now."""
        spot = filling.places.spots[i]
        if self._on_error == "raise" or not is_bad(error):
            raise _blaming(part, spot, error) from error
        key, size = _key(spot), 0
        if self._on_error == "skip":
            for array in filling.arrays.values():
                array[i] = 0  # its memory may hold a part of this sample, or an older batch
            filling.keys[i], filling.valid[i] = key or "", False
        else:
            size = self._substitute(filling, i, error, part)
        if filling.step.valid[i]:
            substitute = None if self._on_error == "skip" else filling.keys[i]
            due, reason = int(filling.step.positions[i]), str(error)[:_REASON]
            filling.bad.append(Bad(filling.epoch, due, key, spot.where, reason, substitute, part.component))
        return size

    def _substitute(self, filling: Filling, i: int, error: DataplaneError, part: Part) -> int:
        """Put the first good one of the position's substitutes, samples of the same part, into place `i`. How many bytes it had."""
        feed, hand, draw = part.feed, self._hand(part.feed), filling.places.draws[i]
        seed = component_seed(draw.seed, draw.component)
        for index in substitutes(seed, draw.epoch, draw.position, part.samples):
            spot = feed.at(index, seed=seed if part.shuffle else None, epoch=draw.epoch)
            (found,) = hand.read([spot])
            try:
                if isinstance(found, DataplaneError):
                    raise found
                size = hand.place(found, draw, filling.arrays, i)
                filling.keys[i] = spot.key
                return size
            except DataplaneError as other:
                if not is_bad(other):
                    raise _blaming(part, spot, other) from other
        tried = f"{error}; and none of the {ATTEMPTS} samples that were tried in its place can be used"
        raise _blaming(part, filling.places.spots[i], type(error)(tried)) from error

    def _hand(self, feed: Feed) -> Hand:
        """This thread's."""
        return self._own(feed)[1]

    def _own(self, feed: Feed) -> tuple[Feed, Hand, FillsMany | None]:
        """This thread's hand, and the same where it fills many at once: asking a protocol takes longer than some samples do."""
        hands: dict[int, tuple[Feed, Hand, FillsMany | None]] | None = getattr(self._local, "hands", None)
        if hands is None:
            hands = self._local.hands = {}
        if id(feed) not in hands:
            hand = feed.hand()
            hands[id(feed)] = feed, hand, hand if isinstance(hand, FillsMany) else None  # the feed too: while it lives, its id is its own
        return hands[id(feed)]


def _sizes(filling: Filling, field: str) -> tuple[npt.NDArray[np.int64], dict[int, Note]]:
    """The bytes of a field of each sample of a batch, as far as its index says, and what feeds noted, by `id`."""
    spots = filling.places.spots
    sizes, notes = np.zeros(len(spots), np.int64), dict[int, Note]()
    of_part: dict[int, list[int]] = {}
    for number, run in filling.places.by_part(0, len(spots)):
        of_part.setdefault(number, []).extend(run)  # of each of its epochs
    for number, unsorted in of_part.items():
        feed, places = filling.parts[number].feed, sorted(unsorted)
        if field in feed.fields and isinstance(feed, Sizes):
            sizes[places], told = feed.sizes(field, [spots[i] for i in places])
            notes[id(feed)] = Note(np.array(places, np.int64), told)
    return sizes, notes


def _blaming(part: Part, spot: Spot, error: DataplaneError) -> DataplaneError:
    """The same error, naming the version, the sample and the shard."""
    key = _key(spot)
    which = f"the sample in row {spot.row}" if key is None else f"sample {key!r}"
    return type(error)(f"{part.name}: {which} of shard {spot.where}: {error}")


def _key(spot: Spot) -> str | None:
    """The sample's key, or None where the index that has it cannot be read."""
    try:
        return spot.key
    except DataplaneError:
        return None
