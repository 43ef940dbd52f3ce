"""RandAugment: a few operations, drawn from fourteen, of one magnitude (Cubuk and others, arXiv:1909.13719)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from dataplane.errors import InvalidArgument
from loaders.kernels.draws import draw
from loaders.transforms.checks import Fill, check_choice, check_fill, colour, is_int
from loaders.transforms.plan import Colour, Step, Warp
from loaders.transforms.warps import Matrix, Sampling, affine, rotation

__all__ = ["RandAugment"]

_OPERATIONS: Final = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
)
_FACTORS: Final = {"Brightness": "brightness", "Color": "saturation", "Contrast": "contrast", "Sharpness": "sharpness"}


@dataclass(frozen=True, slots=True)
class RandAugment:
    """`num_ops` operations, each drawn from all fourteen of torchvision's RandAugment, at `magnitude` of `num_magnitude_bins`."""

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    interpolation: Sampling = "nearest"
    fill: Fill = 0

    def __post_init__(self) -> None:
        check_choice(self, "interpolation", Sampling)
        check_fill(self, self.fill)
        if not is_int(self.num_ops) or not 0 <= self.num_ops < 1 << 16:
            raise InvalidArgument(f"{self}: num_ops must be an int from 0 on")
        if not is_int(self.num_magnitude_bins) or self.num_magnitude_bins < 2:
            raise InvalidArgument(f"{self}: num_magnitude_bins must be an int of at least 2")
        if not is_int(self.magnitude) or not 0 <= self.magnitude < self.num_magnitude_bins:
            raise InvalidArgument(f"{self}: magnitude must be an int with 0 ≤ magnitude < num_magnitude_bins")

    def steps(self, stream: int, size: tuple[int, int]) -> tuple[Step, ...]:
        """Operation n reads the uniforms 2n and 2n + 1: which it is, and negative if at most a half."""
        u = draw(stream, 2 * self.num_ops)
        steps: list[Step] = []
        for which, sign in zip(u[::2], u[1::2], strict=True):
            steps += self._operation(_OPERATIONS[int(which * len(_OPERATIONS))], sign <= 0.5, size)
        return tuple(steps)

    def _operation(self, name: str, negative: bool, size: tuple[int, int]) -> list[Step]:
        share = self.magnitude / (self.num_magnitude_bins - 1)
        sign = -1.0 if negative else 1.0
        if name in _FACTORS:
            return [Colour(_FACTORS[name], 1.0 + sign * 0.9 * share)]  # type: ignore[arg-type]
        match name:
            case "Posterize":
                return [Colour("posterize", round(8 - 4 * share))]
            case "Solarize":
                bins = self.num_magnitude_bins - 1
                return [Colour("solarize", 255.0 * (bins - self.magnitude) / bins)]  # whole where that is exact: it is a threshold
            case "AutoContrast":
                return [Colour("autocontrast")]
            case "Equalize":
                return [Colour("equalize")]
            case "Identity":
                return []
        return [Warp(_matrix(name, sign * share, size), self.interpolation == "bilinear", colour(self.fill))]


def _matrix(name: str, share: float, size: tuple[int, int]) -> Matrix:
    """torchvision's largest magnitudes, times `share`."""
    height, width = size
    match name:
        case "ShearX":
            return affine(size, shear=(math.degrees(math.atan(0.3 * share)), 0.0), center=(0.0, 0.0))
        case "ShearY":
            return affine(size, shear=(0.0, math.degrees(math.atan(0.3 * share))), center=(0.0, 0.0))
        case "TranslateX":
            return affine(size, translate=(int(150.0 / 331.0 * width * share), 0))
        case "TranslateY":
            return affine(size, translate=(0, int(150.0 / 331.0 * height * share)))
    return rotation(30.0 * share, size)
