"""The markers of JPEG that this package tells apart (ITU-T T.81, table B.1), and the segments of the header that they begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = [
    "APP0",
    "APP1",
    "APP2",
    "APP14",
    "APP15",
    "COM",
    "DHT",
    "DQT",
    "DRI",
    "EOI",
    "RST0",
    "SOF0",
    "SOF1",
    "SOF2",
    "SOI",
    "SOS",
    "MarkerSegment",
]

SOF0: Final = 0xC0
SOF1: Final = 0xC1
SOF2: Final = 0xC2
DHT: Final = 0xC4
RST0: Final = 0xD0
SOI: Final = 0xD8
EOI: Final = 0xD9
SOS: Final = 0xDA
DQT: Final = 0xDB
DRI: Final = 0xDD
APP0: Final = 0xE0
APP1: Final = 0xE1
APP2: Final = 0xE2
APP14: Final = 0xEE
APP15: Final = 0xEF
COM: Final = 0xFE


@dataclass(frozen=True, slots=True)
class MarkerSegment:
    """A marker, and what follows its length."""

    marker: int
    payload: bytes

    @property
    def data(self) -> bytes:
        """As it stands in a file."""
        return bytes((0xFF, self.marker)) + (2 + len(self.payload)).to_bytes(2, "big") + self.payload
