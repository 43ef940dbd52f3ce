"""What the header of a JPEG says, as far as decoding only its upper part needs it (ITU-T T.81, annex B)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataplane.jit import compiled

__all__ = ["frame"]

_SOF0, _SOF1 = 0xC0, 0xC1  # baseline and extended sequential, Huffman
_DHT, _JPG, _DAC = 0xC4, 0xC8, 0xCC  # in the range of the frame headers, but none
_RST0, _SOI, _EOI, _SOS, _DRI, _TEM = 0xD0, 0xD8, 0xD9, 0xDA, 0xDD, 0x01


@compiled
def _u8(data: NDArray[np.uint8], at: int) -> int:
    return int(np.int64(data[at]))  # int() alone stays unsigned in compiled code, and unsigned + signed is a float there


@compiled
def _u16(data: NDArray[np.uint8], at: int) -> int:
    return _u8(data, at) << 8 | _u8(data, at + 1)


@compiled
def frame(data: NDArray[np.uint8]) -> tuple[int, int, int, int, bool]:
    """(height, width, components, offset of the height, cuttable) of a JPEG file; zeros if it has no readable header.

    The height is two big-endian bytes. Lowering it makes a decoder stop early if the file is `cuttable`: Huffman-coded sequential with
    8 bits, one scan that interleaves all components, and no restart markers (whose damage the surplus bytes would hide).
    """
    height = width = components = at_height = 0
    sequential = restarts = False
    at = 2
    while at + 4 <= data.size:
        if _u8(data, at) != 0xFF:
            break
        marker = _u8(data, at + 1)
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == _TEM or _RST0 <= marker <= _SOI:
            at += 2
            continue
        end = at + 2 + _u16(data, at + 2)
        if marker == _EOI or end > data.size or end < at + 4:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (_DHT, _JPG, _DAC):
            if end < at + 10:
                break
            at_height = at + 5
            height, width, components = _u16(data, at_height), _u16(data, at_height + 2), _u8(data, at_height + 4)
            sequential = marker in (_SOF0, _SOF1) and _u8(data, at + 4) == 8
        elif marker == _DRI and end >= at + 6:
            restarts = _u16(data, at + 4) != 0
        elif marker == _SOS:
            whole = end > at + 4 and _u8(data, at + 4) == components
            return height, width, components, at_height, sequential and whole and not restarts and height > 0
        at = end
    return 0, 0, 0, 0, False
