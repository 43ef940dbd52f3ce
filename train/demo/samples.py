"""Was every sample delivered exactly once in every epoch? Counted from the sample log and the lake's keys, without asking the loader."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from train.demo.processes import DemoFailed

__all__ = ["Delivery", "EpochCheck", "SampleCheck", "check_samples", "ensure_exactly_once", "read_deliveries"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A line of the sample log: the samples of one step. Epochs count from 0, steps from 1."""

    epoch: int
    step: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EpochCheck:
    """An epoch's deliveries against the `expected` number of keys in the split. `foreign` ones are no keys of it."""

    epoch: int
    expected: int
    delivered: int
    missing: int
    repeated: int
    foreign: int

    @property
    def ok(self) -> bool:
        """Every sample once, and nothing else."""
        return self.missing == self.repeated == self.foreign == 0 and self.delivered == self.expected


@dataclass(frozen=True, slots=True)
class SampleCheck:
    """The epochs of a run."""

    epochs: tuple[EpochCheck, ...]

    @property
    def ok(self) -> bool:
        """Whether every epoch is as it should be."""
        return all(epoch.ok for epoch in self.epochs)


def read_deliveries(path: Path) -> tuple[Delivery, ...]:
    """The whole lines of a sample log; a last line that a kill has torn is left out."""
    lines = path.read_bytes().split(b"\n")[:-1]
    entries = (json.loads(line) for line in lines)
    return tuple(Delivery(entry["epoch"], entry["step"], tuple(entry["keys"])) for entry in entries)


def check_samples(deliveries: Iterable[Delivery], keys: Sequence[str], *, epochs: int) -> SampleCheck:
    """Hold epochs 0 … `epochs` - 1, and any others in the log, against the keys of the split. Pure."""
    counts: dict[int, Counter[str]] = {epoch: Counter() for epoch in range(epochs)}
    for delivery in deliveries:
        counts.setdefault(delivery.epoch, Counter()).update(delivery.keys)
    expected = Counter(keys)
    return SampleCheck(tuple(_check(epoch, count, expected) for epoch, count in sorted(counts.items())))


def ensure_exactly_once(check: SampleCheck) -> None:
    """Raises `DemoFailed` that says which epochs are wrong, and how."""
    wrong = [
        f"epoch {each.epoch + 1}: {each.missing:,} of {each.expected:,} missing, {each.repeated:,} repeated, {each.foreign:,} foreign"
        for each in check.epochs
        if not each.ok
    ]
    if wrong:
        raise DemoFailed(f"not every sample was delivered exactly once. {'; '.join(wrong)}")


def _check(epoch: int, count: Counter[str], expected: Counter[str]) -> EpochCheck:
    extra = count - expected
    return EpochCheck(
        epoch=epoch,
        expected=expected.total(),
        delivered=count.total(),
        missing=(expected - count).total(),
        repeated=sum(more for key, more in extra.items() if key in expected),
        foreign=sum(more for key, more in extra.items() if key not in expected),
    )
