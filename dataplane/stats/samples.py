"""A few samples of a version, as people look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dataplane.dataset import Dataset, Sample
from dataplane.errors import InvalidArgument
from dataplane.lake import Lake
from dataplane.stats.reading import read_or_list
from dataplane.stats.values import Look, look

__all__ = ["Glimpse", "head"]


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A sample: its key, its split, the name of its class where it has one, what its fields are, and what its index says about them.

    `problem` says why it could not be read; there is then nothing else to say about it.
    """

    key: str
    split: str
    label: str | None
    fields: tuple[Look, ...]
    metadata: Mapping[str, Any]
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As the document of `head` has it."""
        return {
            "key": self.key,
            "split": self.split,
            "label": self.label,
            "fields": {found.name: found.to_json() for found in self.fields},
            "metadata": dict(self.metadata),
            **({"problem": self.problem} if self.problem else {}),
        }


def head(lake: Lake, spec: str, *, count: int = 8, seed: int | None = None) -> tuple[Glimpse, ...]:
    """The first samples of `NAME[@VERSION][/SPLIT]`, at most `count`; with a `seed`, as many at random, the same ones for the same seed.

    Without a split they come from all splits end to end. Damaged ones are told of in place. Raises `NotFound` and `InvalidArgument`.
    """
    if count < 1:
        raise InvalidArgument(f"{count} samples are none; give a number above 0")
    name, _, only = spec.partition("/")
    dataset = lake.dataset(name)
    splits = [dataset[only]] if only else [dataset[each] for each in dataset.splits]
    found, first = [], 0
    wanted = _places(sum(map(len, splits)), count, seed)
    for split in splits:
        mine = [place - first for place in wanted if first <= place < first + len(split)]
        first += len(split)
        samples, bad = read_or_list(split, mine)
        found += [_glimpse(dataset, split.name, sample) for sample in samples]
        found += [Glimpse(each.key, split.name, None, (), {}, each.reason) for each in bad]
    return tuple(found)


def _places(total: int, count: int, seed: int | None) -> Sequence[int]:
    """Which of `total` samples, ascending."""
    if seed is None or count >= total:
        return range(min(count, total))
    if seed < 0:
        raise InvalidArgument(f"{seed} cannot be a seed: it is a number from 0 on")
    return sorted(np.random.default_rng(seed).choice(total, count, replace=False).tolist())


def _glimpse(dataset: Dataset, split: str, sample: Sample) -> Glimpse:
    looks = tuple(look(name, value) for name, value in sorted(sample.fields.items()))
    return Glimpse(sample.key, split, _label(dataset, sample), looks, sample.metadata)


def _label(dataset: Dataset, sample: Sample) -> str | None:
    """The name of the class whose id the sample has in a field of the kind `class`."""
    classes = dataset.schema.classes
    for name in dataset.schema.names("class"):
        value = sample.fields.get(name)
        try:
            number = int(value) if value is not None else -1
        except (TypeError, ValueError):
            continue
        if 0 <= number < len(classes):
            return classes[number]
    return None
