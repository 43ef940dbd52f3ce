"""`Mixture`: several datasets to be loaded as one, each with its share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from dataplane.dataset import Split
from dataplane.errors import InvalidArgument
from loaders.blend import MAX_WEIGHT
from loaders.feed import FeedDescription

__all__ = ["Mixture", "whole_weights"]

_MAX_COMPONENTS: Final = 1024
_SHARES: Final = 2**20  # of the whole, where weights are not exact


@dataclass(frozen=True, slots=True)
class Mixture:
    """Datasets under names of their own, mixed by weight: of 4 samples, `{"photos": 3, "text": 1}` takes 3 from "photos".

    Arguments:
        components: splits, or descriptions of what is made of one, by the names that states and batches know them by.
        weights: of each, integers or floats that are not negative. Without any, each weighs as many samples as it has.
        samples: how many make an epoch, which is where evaluation and schedules look. A mixture has no end of its own: it is their sum,
            if nothing else is said.

    A component whose samples have all been delivered begins its next epoch, in another order, whatever the others do. Raises
    `InvalidArgument`.
    """

    components: Mapping[str, Split | FeedDescription]
    weights: Mapping[str, int | float] | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "components", dict(self.components))
        if not self.components or len(self.components) > _MAX_COMPONENTS:
            raise InvalidArgument(f"a mixture has {len(self.components)} components; it must have 1 to {_MAX_COMPONENTS}")
        for name, component in self.components.items():
            if not isinstance(name, str) or not name:
                raise InvalidArgument(f"a component is named {name!r}; a name is a string, and not empty")
            if not isinstance(component, Split) and not callable(getattr(component, "feed", None)):
                raise InvalidArgument(f"component {name!r} is {component!r:.200}; it must be a split, or a description as Packed(split, …)")
        if self.weights is not None:
            object.__setattr__(self, "weights", dict(self.weights))
            check_names(self.weights, self.components)
            whole_weights(self.weights)
        if self.samples is not None and (isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 1):
            raise InvalidArgument(f"samples is {self.samples!r}; an epoch has a number of them (int), at least 1")


def check_names(weights: Mapping[str, int | float], components: Mapping[str, object]) -> None:
    """Raise `InvalidArgument` unless every component has a weight, and nothing else."""
    if weights.keys() != components.keys():
        raise InvalidArgument(f"weights are of {', '.join(sorted(weights)) or 'nothing'}; give one for each of {', '.join(components)}")


def whole_weights(weights: Mapping[str, int | float]) -> dict[str, int]:
    """Integers in the same proportions, as small as they can be.

    A float is the decimal number it is shown as, so 0.7 and 0.3 are 7 and 3. Where that makes integers that sum to 2^31 or more, as 1/3
    beside 1/2 does, they are rounded to 2^20ths of the whole, and nothing that has a weight to less than one of these. Raises
    `InvalidArgument`.
    """
    exact = {name: _exact(name, weight) for name, weight in weights.items()}
    total = sum(exact.values(), Fraction(0))
    if not total:
        raise InvalidArgument("all weights are 0; one component at least must have a weight above that")
    scale = math.lcm(*(weight.denominator for weight in exact.values()))
    whole = {name: int(weight * scale) for name, weight in exact.items()}
    divisor = math.gcd(*whole.values())
    if sum(whole.values()) // divisor > MAX_WEIGHT:
        whole = {name: max(1, round(weight / total * _SHARES)) if weight else 0 for name, weight in exact.items()}
        divisor = math.gcd(*whole.values())
    return {name: weight // divisor for name, weight in whole.items()}


def _exact(name: str, weight: int | float) -> Fraction:
    number: object = weight
    if isinstance(number, np.integer):
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
        raise InvalidArgument(f"the weight of {name!r} is {weight!r}; it must be a number, and at least 0")
    return Fraction(float.__repr__(number)) if isinstance(number, float) else Fraction(number)
