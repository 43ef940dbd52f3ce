"""The colours of a version's pictures: mean and deviation of each channel, over a random sample that is the same each time, or over all.

Levels are counted, not summed: 256 integers a channel, which add up exactly in any order, and give the histogram too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from dataplane.dataset import Dataset, Sample, Split
from dataplane.errors import BadSample, InvalidArgument
from dataplane.ingest.options import IngestOptions
from dataplane.prep.image import FORMATS, decode
from dataplane.stats.reading import Unreadable, read_or_list

__all__ = ["CHANNELS", "Limit", "Pixels", "choose", "measure_pixels"]

CHANNELS: Final = ("red", "green", "blue")
_LEVELS: Final = 256
_SEED: Final = 20_240_229  # any number, as long as it stays
_GROUP: Final = 16  # pictures that are read together
_AT_ONCE: Final = 8
_SAME: Final = np.arange(_LEVELS, dtype=np.float64)

Limit = int | Literal["all"]


@dataclass(frozen=True, slots=True)
class Pixels:
    """How often each level 0 … 255 occurs in each channel of `images` pictures, every pixel counting the same. The pixels of two sets of
    pictures, added, are those of both. `bad` are pictures that could not be decoded."""

    images: int = 0
    levels: tuple[tuple[int, ...], ...] = ((0,) * _LEVELS,) * len(CHANNELS)
    bad: tuple[Unreadable, ...] = ()

    @classmethod
    def of(cls, image: npt.NDArray[np.uint8]) -> Pixels:
        """The pixels of one picture: uint8 [height, width, channel]."""
        counted = (np.bincount(image[:, :, channel].ravel(), minlength=_LEVELS) for channel in range(len(CHANNELS)))
        return cls(1, tuple(tuple(counts.tolist()) for counts in counted))

    def __add__(self, other: Pixels) -> Pixels:
        levels = tuple(tuple(a + b for a, b in zip(x, y, strict=True)) for x, y in zip(self.levels, other.levels, strict=True))
        return Pixels(self.images + other.images, levels, self.bad + other.bad)

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean of each channel, from 0 to 1."""
        return tuple(_mean(counts) / 255 for counts in self.levels)

    @property
    def deviation(self) -> tuple[float, ...]:
        """The standard deviation of each channel, where levels go from 0 to 1."""
        return tuple(_deviation(counts) / 255 for counts in self.levels)

    def to_json(self) -> dict[str, Any]:
        """As the document of `show --stats` has it; without a picture there are no channels."""
        both = zip(CHANNELS, self.mean, self.deviation, strict=True)
        channels = {name: {"mean": mean, "deviation": deviation} for name, mean, deviation in both} if self.images else {}
        return {"count": self.images, "channels": channels, "bad": [{"key": bad.key, "reason": bad.reason} for bad in self.bad]}


def choose(total: int, limit: Limit) -> npt.NDArray[np.int64]:
    """Which of `total` pictures to look at: at most `limit`, the same ones each time, ascending."""
    if limit != "all" and limit < 1:
        raise InvalidArgument(f"{limit} pictures are none; give a number above 0, or all")
    if limit == "all" or limit >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(_SEED).choice(total, limit, replace=False))


def measure_pixels(dataset: Dataset, limit: Limit, *, watch: Callable[[int, int], None] = lambda *_: None) -> Pixels:
    """Decode some of the pictures of a version, or all. `watch` hears how many of how many samples have been looked at.

    They are read a few at a time, side by side, and decoded one after another; memory does not grow with their number.
    """
    fields = dataset.schema.names("image")
    chosen = choose(dataset.version.samples, limit)
    counts, images, bad = np.zeros((len(CHANNELS), _LEVELS), np.int64), 0, list[Unreadable]()
    done = 0
    for samples, unreadable, looked_at in _read_ahead(_groups(dataset, chosen), fields):
        bad += unreadable
        for sample in samples:
            for name, data in sample.fields.items():
                try:
                    found = _pixels_of(data)
                except BadSample as error:
                    bad.append(Unreadable(sample.key, f"{name}: {error}"))
                    continue
                for channel in range(len(CHANNELS)):
                    counts[channel] += np.bincount(found[:, :, channel].ravel(), minlength=_LEVELS)
                images += 1
        done += looked_at
        watch(done, len(chosen))
    return Pixels(images, tuple(tuple(row) for row in counts.tolist()), tuple(bad))


def _pixels_of(value: Any) -> npt.NDArray[np.uint8]:
    """The pixels of a field that the schema calls an image. Raises `BadSample`."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise BadSample(f"a picture is a file in one of the formats {', '.join(FORMATS)}; this is a {type(value).__name__}")
    return decode(bytes(value), max_pixels=IngestOptions().max_pixels)


Group = tuple[Split, int, list[int]]
"""A split, the number of a shard in it, and which samples of it to read."""

Read = tuple[list[Sample], list[Unreadable], int]


def _groups(dataset: Dataset, chosen: npt.NDArray[np.int64]) -> Iterator[Group]:
    """The chosen samples of all splits end to end, some of one shard at a time."""
    first = 0
    for name in dataset.splits:
        split = dataset[name]
        mine = chosen[(chosen >= first) & (chosen < first + len(split))] - first
        first += len(split)
        shards = np.searchsorted(np.cumsum(split.counts), mine, "right")
        for run in np.split(np.arange(len(mine)), np.flatnonzero(np.diff(shards)) + 1):
            for start in range(0, len(run), _GROUP):
                yield split, int(shards[run[0]]), mine[run[start : start + _GROUP]].tolist()


def _read_ahead(groups: Iterator[Group], fields: Sequence[str]) -> Iterator[Read]:
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dataplane-read") as pool:
        waiting: deque[Future[Read]] = deque()
        try:
            for group in groups:
                waiting.append(pool.submit(_read, *group, fields))
                if len(waiting) > _AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read(split: Split, number: int, indices: list[int], fields: Sequence[str]) -> Read:
    """Samples of one shard, with those of their fields that are pictures."""
    mine = sorted(set(fields) & set(split.shards[number].fields))
    return *(read_or_list(split, indices, mine) if mine else ([], [])), len(indices)


def _mean(counts: Sequence[int]) -> float:
    return float(np.average(_SAME, weights=counts)) if any(counts) else 0.0


def _deviation(counts: Sequence[int]) -> float:
    return float(np.sqrt(np.average(np.square(_SAME - _mean(counts)), weights=counts))) if any(counts) else 0.0
