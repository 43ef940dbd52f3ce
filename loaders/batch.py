"""A batch as the consumer gets it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Batch"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch(Mapping[str, Any]):
    """The fields of B samples, by the names the transform has: arrays whose first axis is the sample.

    The arrays belong to whoever holds them: their memory is used again only when the last view of it is gone.

    `epoch`, `positions` int64 [B]: where in the order the samples stand. `sample_keys`: the keys of what is in the arrays; a substitute
    has its own. `valid` bool [B]: False for samples that only fill up a padded last batch, and where a bad one was skipped, which leaves
    zeros, and its key or "". `components` int16 [B]: which dataset of a mixture each is of, by its number, zeros without one; and
    `component_epochs` int64 [B]: which epoch of that dataset.
    """

    fields: Mapping[str, Any]
    epoch: int
    positions: npt.NDArray[np.int64]
    sample_keys: tuple[str, ...]
    valid: npt.NDArray[np.bool_]
    components: npt.NDArray[np.int16]
    component_epochs: npt.NDArray[np.int64]

    __eq__ = object.__eq__  # a Mapping would compare arrays
    __hash__ = object.__hash__

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        """The number of fields; `len(batch.positions)` is the number of samples."""
        return len(self.fields)
