"""How a demo trains: choices that follow from how many pictures there are and how large, and the configuration that says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dataplane.errors import InvalidArgument

__all__ = ["Recipe", "choose", "configuration"]

_FEWEST = 16
_SAMPLES = 12_000  # over all epochs, where that is between 3 and 20 of them: about a quarter of a minute on two cores
_WRITTEN_BY = """\
# What `dataplane demo` trained, and how. Change it and train again:
#
#     dataplane --lake {lake} train {config}
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training run: pictures of `side` × `side` pixels, `samples` of them an epoch. `mirror`: may left and right be exchanged?"""

    samples: int
    side: int
    mirror: bool
    epochs: int
    batch_size: int

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-self.samples // self.batch_size)

    @property
    def checkpoint_every(self) -> int:
        """Three checkpoints within an epoch, besides the one at its end."""
        return max(1, self.steps // 4)

    @property
    def log_every(self) -> int:
        """About 80 records in all, and often enough in an epoch to catch its middle."""
        return max(1, min(self.steps // 6, self.steps * self.epochs // 80))

    def kill_steps(self) -> Iterator[int]:
        """For epochs from the first third to the last but one: a step in the middle that training reports, some steps after a
        checkpoint."""
        for epoch in range(max(1, self.epochs // 3), self.epochs - 1):
            middle = epoch * self.steps + self.steps * 2 // 5
            checkpoint = -(-middle // self.checkpoint_every) * self.checkpoint_every
            yield (checkpoint + self.checkpoint_every * 3 // 4) // self.log_every * self.log_every


def choose(samples: int, side: float, *, mirror: bool) -> Recipe:
    """The recipe for `samples` training pictures whose shorter side has about `side` pixels.

    Raises `InvalidArgument` for too few pictures to be killed in the middle of an epoch.
    """
    if samples < _FEWEST:
        raise InvalidArgument(f"only {samples} pictures are for training; the demo needs at least {_FEWEST}: give it a folder with more")
    return Recipe(
        samples,
        side=min(48, max(8, int(side) // 8 * 8)),
        mirror=mirror,
        epochs=min(20, max(3, _SAMPLES // samples)),
        batch_size=min(32, max(2, samples // 12)),
    )


def configuration(recipe: Recipe, *, dataset: str, lake: Path, config: Path, hot: Path) -> str:
    """The TOML file for `dataplane train`."""
    side = recipe.side
    normalize = '{ op = "Normalize", mean = [0.5, 0.5, 0.5], std = [0.5, 0.5, 0.5] }'
    mirror = '  { op = "HorizontalFlip" },\n' if recipe.mirror else ""
    return f"""\
{_WRITTEN_BY.format(lake=lake, config=config)}
epochs = {recipe.epochs}
batch_size = {recipe.batch_size}
log_every = {recipe.log_every}
checkpoint_every = {recipe.checkpoint_every}

[data]
dataset = {_text(dataset)}
train = "train"
validate = "val"
transform = [
  {{ op = "RandomResizedCrop", size = {side}, scale = [0.75, 1.0] }},
{mirror}  {normalize},
]
validate_transform = [
  {{ op = "Resize", size = {side} }},
  {{ op = "CenterCrop", size = {side} }},
  {normalize},
]

[model]
kind = "cnn"
width = 32

[optimizer]
kind = "adamw"
lr = 0.003
weight_decay = 0.01
warmup = 0.1

[hot]
directory = {_text(hot)}
limit = "1 GiB"
"""


def _text(value: object) -> str:
    """A TOML string; what JSON escapes, TOML reads."""
    return json.dumps(str(value))
