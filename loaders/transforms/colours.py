"""Transforms of colours, by random amounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dataplane.errors import InvalidArgument
from loaders.kernels.draws import draw
from loaders.transforms.checks import Range, check_p, check_spread, spread
from loaders.transforms.plan import Colour
from loaders.transforms.warps import between

__all__ = ["ColorJitter", "Grayscale", "RandomGrayscale"]


@dataclass(frozen=True, slots=True)
class ColorJitter:
    """Change brightness, contrast, saturation and hue, in random order.

    The first three are factors: (low, high), or a number for (1 - number, 1 + number), though not below 0. `hue` is a turn of the colour
    circle: (low, high) within -0.5 … 0.5, or a number for (-number, number). What is not given stays as it is.
    """

    brightness: float | Range | None = None
    contrast: float | Range | None = None
    saturation: float | Range | None = None
    hue: float | Range | None = None

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if (value := getattr(self, name)) is not None:
                check_spread(self, name, value, least=0)
        if self.hue is not None:
            check_spread(self, "hue", self.hue, least=-0.5, most=0.5)
            if not spread(self.hue)[0] >= -0.5:
                raise InvalidArgument(f"{self}: hue must be at most 0.5, half the colour circle")

    def steps(self, stream: int, size: tuple[int, int]) -> tuple[Colour, ...]:
        """Reads the uniforms 0 … 6: the four amounts, and three that shuffle them."""
        u = draw(stream, 7)
        steps = [
            None if self.brightness is None else Colour("brightness", between(u[0], _factors(self.brightness))),
            None if self.contrast is None else Colour("contrast", between(u[1], _factors(self.contrast))),
            None if self.saturation is None else Colour("saturation", between(u[2], _factors(self.saturation))),
            None if self.hue is None else Colour("hue", between(u[3], spread(self.hue))),
        ]
        for i in range(3):
            j = i + int(u[4 + i] * (4 - i))
            steps[i], steps[j] = steps[j], steps[i]
        return tuple(step for step in steps if step is not None)


@dataclass(frozen=True, slots=True)
class Grayscale:
    """Luma instead of colours, in one channel or three equal ones."""

    num_output_channels: Literal[1, 3] = 1

    def __post_init__(self) -> None:
        if self.num_output_channels not in (1, 3):
            raise InvalidArgument(f"{self}: num_output_channels must be 1 or 3")

    def steps(self, stream: int, size: tuple[int, int]) -> tuple[Colour]:
        """Reads nothing."""
        return (Colour("grey"),)


@dataclass(frozen=True, slots=True)
class RandomGrayscale:
    """Luma instead of colours with probability `p`, in three equal channels."""

    p: float = 0.1

    def __post_init__(self) -> None:
        check_p(self, self.p)

    def steps(self, stream: int, size: tuple[int, int]) -> tuple[Colour, ...]:
        """Reads uniform 0: grey if it is below p."""
        return (Colour("grey"),) if draw(stream, 1)[0] < self.p else ()


def _factors(value: float | Range) -> Range:
    low, high = spread(value, center=1.0)
    return max(low, 0.0), high
