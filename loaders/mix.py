"""MixUp and CutMix: every sample of a batch mixed with the valid one before it, images and labels alike.

`Mix` is called on the batches of a `Loader`, before they go to a device. What it does is a pure function of (seed, epoch, position of the
batch's first sample), so a resumed run mixes as the uninterrupted one did. It is a matter of batches, though: with another batch size or
world size other samples meet, by other shares.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dataplane.errors import InvalidArgument
from dataplane.philox import Domain, derive
from loaders.batch import Batch
from loaders.kernels.draws import draw, draw_beta
from loaders.transforms import Box
from loaders.transforms.checks import is_int, is_number
from loaders.transforms.values import LayoutName

__all__ = ["CutMix", "Mix", "MixPlan", "MixUp"]


@dataclass(frozen=True, slots=True)
class MixUp:
    """Weighted means of two images; the weight is from Beta(alpha, alpha) (Zhang and others, arXiv:1710.09412). Images must be floats."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check_alpha(self)


@dataclass(frozen=True, slots=True)
class CutMix:
    """A box of one image in another; the other's share of the area is from Beta(alpha, alpha), before the box is cut at the edges (Yun
    and others, arXiv:1905.04899)."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check_alpha(self)


Mixture: TypeAlias = MixUp | CutMix


class MixPlan(NamedTuple):
    """What is done to one batch: a sample keeps the share `kept`, the sample before it has the rest, in `box` if there is one."""

    kept: float
    box: Box | None


@dataclass(frozen=True, slots=True)
class Mix:
    """Mixes batches, each by one of `choices`, drawn with equal chances.

    `num_classes`: of the labels, int64 [B], which become float32 [B, num_classes] that sum to 1, as cross entropy takes them. `image` and
    `label`: the names of the fields. `layout`: that of the images, as `ToLayout` has it. `seed`: the loader's, or one of its own.
    """

    choices: tuple[Mixture, ...]
    num_classes: int
    image: str = "jpg"
    label: str = "cls"
    seed: int = 0
    layout: LayoutName = "CHW"

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        if not self.choices or not all(isinstance(choice, MixUp | CutMix) for choice in self.choices):
            raise InvalidArgument(f"choices are {self.choices}; they must be one or more of MixUp(alpha) and CutMix(alpha)")
        if not is_int(self.num_classes) or self.num_classes < 1:
            raise InvalidArgument(f"num_classes is {self.num_classes!r}; it must be an int of at least 1")
        if self.layout not in ("CHW", "HWC"):
            raise InvalidArgument(f"layout is {self.layout!r}; it must be 'CHW' or 'HWC'")

    def plan(self, epoch: int, position: int, size: tuple[int, int]) -> MixPlan:
        """For images (height, width) of the batch whose first sample stands at `position`. Pure.

        Reads the uniforms 0 … 2, which choice, and y and x of the box's center, and from 3 on those of `draw_beta`.
        """
        stream = derive(self.seed, Domain.BATCH, epoch, 0, position)
        u = draw(stream, 3)
        choice = self.choices[int(u[0] * len(self.choices))]
        kept = draw_beta(stream, choice.alpha, 3)
        if isinstance(choice, MixUp):
            return MixPlan(kept, None)
        box = _cut_box((int(u[1] * size[0]), int(u[2] * size[1])), 1.0 - kept, size)
        return MixPlan(1.0 - box.height * box.width / (size[0] * size[1]), box)

    def __call__(self, batch: Batch) -> Batch:
        """The batch mixed, its other fields as they are. The images are changed in place; the first sample meets the last one.

        Samples that are not `valid` meet nobody; their labels are zeros, which add nothing to a cross entropy.
        Fields may be arrays or tensors in the memory of the CPU; labels come back as what they were. Raises `InvalidArgument` for fields
        that cannot be mixed.
        """
        images, labels = _array(batch, self.image), _array(batch, self.label)
        self._check(images, labels)
        kept, rows = 1.0, np.flatnonzero(batch.valid)
        if len(rows):
            y, x = (1, 2) if self.layout == "HWC" else (2, 3)
            plan = self.plan(batch.epoch, int(batch.positions[0]), (images.shape[y], images.shape[x]))
            kept = plan.kept
            if plan.box is None:
                _mean(images, rows, kept)
            else:
                _paste(images if self.layout == "HWC" else images.transpose(0, 2, 3, 1), rows, plan.box)
        soft = self._soft(labels, rows, kept)
        like = batch[self.label]
        return replace(
            batch, fields={**batch.fields, self.label: soft if isinstance(like, np.ndarray) else sys.modules["torch"].from_numpy(soft)}
        )

    def _soft(self, labels: NDArray[np.int64], rows: NDArray[np.int64], kept: float) -> NDArray[np.float32]:
        soft = np.zeros((len(labels), self.num_classes), np.float32)
        soft[rows, labels[rows]] = kept
        soft[rows, labels[np.roll(rows, 1)]] += np.float32(1.0 - kept)
        return soft

    def _check(self, images: NDArray[Any], labels: NDArray[Any]) -> None:
        if images.ndim != 4:
            raise InvalidArgument(f"batch[{self.image!r}] has the shape {images.shape}; images have four axes")
        if images.dtype.kind != "f" and any(isinstance(choice, MixUp) for choice in self.choices):
            raise InvalidArgument(f"batch[{self.image!r}] is {images.dtype}; MixUp needs floats: transform them ToFloat or Normalize")
        if labels.ndim != 1 or labels.dtype.kind != "i":
            raise InvalidArgument(f"batch[{self.label!r}] is {labels.dtype} {labels.shape}; labels are one int each, and mixed only once")
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise InvalidArgument(f"labels are from {labels.min()} to {labels.max()}; num_classes={self.num_classes} has them below that")


def _array(batch: Batch, name: str) -> NDArray[Any]:
    """A field as an array of the same memory."""
    if name not in batch:
        raise InvalidArgument(f"the batch has no field {name!r}; it has {', '.join(map(repr, batch))}")
    try:
        return np.asarray(batch[name])
    except TypeError as error:
        raise InvalidArgument(f"batch[{name!r}] is not in the memory of the CPU: mix batches before they go to a device") from error


def _mean(images: NDArray[Any], rows: NDArray[np.int64], kept: float) -> None:
    """Of `rows`, each image becomes kept · itself + (1 - kept) · the one before, in place."""
    rest = images.dtype.type(1.0 - kept)
    last = images[rows[-1]].copy()
    for i in range(len(rows) - 1, -1, -1):
        image = images[rows[i]]
        image *= kept
        image += (images[rows[i - 1]] if i else last) * rest


def _paste(images_BHWC: NDArray[Any], rows: NDArray[np.int64], box: Box) -> None:
    """Of `rows`, the box of each image becomes that of the one before, in place."""
    part = images_BHWC[:, box.y : box.y + box.height, box.x : box.x + box.width]
    part[rows] = part[np.roll(rows, 1)]


def _cut_box(center: tuple[int, int], share: float, size: tuple[int, int]) -> Box:
    """torchvision's: a `share` of the area around `center`, as long as it does not hang over the edge."""
    half = 0.5 * math.sqrt(share)
    (top, bottom), (left, right) = (
        (max(at - int(half * length), 0), min(at + int(half * length), length)) for at, length in zip(center, size, strict=True)
    )
    return Box(top, left, bottom - top, right - left)


def _check_alpha(mixture: Mixture) -> None:
    if not is_number(mixture.alpha) or not 0 < mixture.alpha < math.inf:
        raise InvalidArgument(f"{mixture}: alpha must be a finite number above 0")
