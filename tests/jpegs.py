"""JPEG files from coefficients up: what the format allows, and no common encoder writes. And how the usual decoders read files."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import simplejpeg
from PIL import Image

SAMPLINGS = {
    "grey": ((1, 1),),
    "grey 2x2": ((2, 2),),
    "4:4:4": ((1, 1), (1, 1), (1, 1)),
    "4:2:2": ((2, 1), (1, 1), (1, 1)),
    "4:2:0": ((2, 2), (1, 1), (1, 1)),
    "4:4:0": ((1, 2), (1, 1), (1, 1)),
    "4:1:1": ((4, 1), (1, 1), (1, 1)),
    "4:1:0": ((4, 2), (1, 1), (1, 1)),
    "mixed": ((2, 2), (2, 1), (1, 2)),
    "coarse grey": ((1, 1), (2, 2), (1, 1)),
}
"""Sampling factors across and down, by component. simplejpeg refuses the last three; Pillow and OpenCV read all."""
ODD_SAMPLINGS = ("4:1:0", "mixed", "coarse grey")


def segment(marker: int, payload: bytes) -> bytes:
    """A marker segment."""
    return bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload


@dataclass(frozen=True)
class Codes:
    """A Huffman table: its symbols with the lengths of their codes, shortest first."""

    lengths: tuple[tuple[int, int], ...]

    @property
    def counts(self) -> bytes:
        return bytes(sum(length == n for _, length in self.lengths) for n in range(1, 17))

    @property
    def values(self) -> bytes:
        return bytes(symbol for symbol, _ in self.lengths)

    def by_symbol(self) -> dict[int, str]:
        """The code of each symbol, as a text of zeros and ones."""
        codes, code, before = {}, 0, 0
        for symbol, length in self.lengths:
            code <<= length - before
            codes[symbol] = f"{code:0{length}b}"
            code, before = code + 1, length
        return codes


def random_codes(rng: random.Random, symbols: list[int], longest: int) -> Codes:
    """Codes for all of `symbols`, of any lengths up to `longest` that are allowed."""
    symbols = rng.sample(symbols, len(symbols))
    even = len(symbols).bit_length()  # of this length there are enough codes, and one to spare
    room = 2**longest - 1 - len(symbols) * 2 ** (longest - even)
    lengths = []
    for _ in symbols:
        shorter = rng.randint(1, even)
        cost = 2 ** (longest - shorter) - 2 ** (longest - even)
        if cost <= room:
            room -= cost
            lengths.append(shorter)
        else:
            length = rng.randint(even, longest)
            room += 2 ** (longest - even) - 2 ** (longest - length)
            lengths.append(length)
    return Codes(tuple(sorted(zip(symbols, lengths, strict=True), key=lambda pair: pair[1])))


@dataclass(frozen=True)
class Picture:
    """What a file is made of. The same picture is always the same file."""

    width: int
    height: int
    sampling: tuple[tuple[int, int], ...] = SAMPLINGS["4:2:0"]
    seed: int = 0
    interval: int = 0
    """MCUs between restart markers; 0: none."""
    longest: int = 12
    """Of codes: with 16 there may be no room for more."""
    density: float = 0.1
    """How many AC coefficients there are, of the busiest block."""
    frame: int = 0xC0
    wide_quantisation: bool = False
    one_dht: bool = False
    ids: tuple[int, int, int] = (1, 2, 3)
    fill: int = 0
    """Fill bytes before each marker."""
    before: bytes = b""
    """Segments behind the start of image."""
    behind: bytes = b""
    """Bytes behind the end of image."""

    @property
    def factors(self) -> tuple[tuple[int, int], ...]:
        """Blocks of an MCU, across and down, by component."""
        return self.sampling if len(self.sampling) > 1 else ((1, 1),)

    @property
    def grid(self) -> tuple[int, int]:
        """Columns and rows of MCUs."""
        across, down = max(a for a, _ in self.factors), max(d for _, d in self.factors)
        return -(-self.width // (8 * across)), -(-self.height // (8 * down))


def write(picture: Picture) -> bytes:
    """A file of random coefficients, coded with random tables: one pair for the first component, one for the others."""
    rng = random.Random(picture.seed)
    coded = list(_coded(picture, np.random.default_rng(picture.seed)))
    tables = {}
    for number in range(min(2, len(picture.sampling))):
        mine = [symbols for _, component, symbols in coded if min(component, 1) == number]
        tables[number] = random_codes(rng, sorted({symbols[0][0] for symbols in mine}), picture.longest)
        ac = sorted({symbol for symbols in mine for symbol, _ in symbols[1:]} | {0, 0xF0, 0x11})
        tables[number | 16] = random_codes(rng, ac, picture.longest)
    size = picture.height.to_bytes(2, "big") + picture.width.to_bytes(2, "big")
    factors = [(picture.ids[n], across << 4 | down, min(n, 1)) for n, (across, down) in enumerate(picture.sampling)]
    selected = [(picture.ids[n], min(n, 1) << 4 | min(n, 1)) for n in range(len(factors))]
    huffman = [bytes((number,)) + table.counts + table.values for number, table in tables.items()]
    segments = [
        segment(0xDB, b"".join(_quantisation(rng, number, wide=picture.wide_quantisation) for number in range(2))),
        segment(picture.frame, b"\x08" + size + bytes((len(factors),)) + b"".join(map(bytes, factors))),
        *(segment(0xC4, each) for each in ([b"".join(huffman)] if picture.one_dht else huffman)),
        *([segment(0xDD, picture.interval.to_bytes(2, "big"))] if picture.interval else []),
        segment(0xDA, bytes((len(factors),)) + b"".join(map(bytes, selected)) + b"\x00\x3f\x00"),
    ]
    fill = b"\xff" * picture.fill
    codes = {number: table.by_symbol() for number, table in tables.items()}
    header = b"".join(fill + each for each in segments)
    return b"\xff\xd8" + picture.before + header + _scan(picture, coded, codes) + fill + b"\xff\xd9" + picture.behind


def _quantisation(rng: random.Random, number: int, *, wide: bool) -> bytes:
    values = [rng.randint(1, 24) for _ in range(64)]
    if wide:
        values[rng.randrange(20, 64)] = 300
    return bytes((wide << 4 | number,)) + b"".join(value.to_bytes(1 + wide, "big") for value in values)


def _coded(picture: Picture, rng: np.random.Generator) -> Iterator[tuple[int, int, list[tuple[int, str]]]]:
    """By block, in the order of the scan: its MCU, its component, and its symbols, each with its extra bits."""
    columns, rows = picture.grid
    before = [0] * len(picture.factors)
    for mcu in range(columns * rows):
        if picture.interval and mcu % picture.interval == 0:
            before = [0] * len(picture.factors)
        for component, (across, down) in enumerate(picture.factors):
            for _ in range(across * down):
                dc = int(rng.integers(-60, 61)) * int(rng.choice([0, 1, 1, 16]))
                values = rng.integers(-40, 41, 63) * rng.choice([1, 1, 1, 20], 63) * (rng.random(63) < picture.density * rng.random())
                yield mcu, component, [_symbol(0, dc - before[component]), *_ac_symbols(values.tolist())]
                before[component] = dc


def _symbol(zeros: int, value: int) -> tuple[int, str]:
    size = abs(value).bit_length()
    extra = value if value >= 0 else value + (1 << size) - 1
    return zeros << 4 | size, f"{extra:0{size}b}" if size else ""


def _ac_symbols(values: list[int]) -> Iterator[tuple[int, str]]:
    zeros = 0
    for value in values:
        if value == 0:
            zeros += 1
            continue
        yield from [(0xF0, "")] * (zeros // 16)
        yield _symbol(zeros % 16, value)
        zeros = 0
    if zeros:
        yield 0, ""


def _scan(picture: Picture, coded: list[tuple[int, int, list[tuple[int, str]]]], codes: dict[int, dict[int, str]]) -> bytes:
    interval = picture.interval or coded[-1][0] + 1
    bits: list[list[str]] = [[] for _ in range(coded[-1][0] // interval + 1)]
    for mcu, component, symbols in coded:
        table = min(component, 1)
        for place, (symbol, extra) in enumerate(symbols):
            bits[mcu // interval].append(codes[table | (16 if place else 0)][symbol] + extra)
    out = b""
    for number, each in enumerate(bits):
        text = "".join(each)
        text += "1" * (-len(text) % 8)
        out += b"\xff" * picture.fill + bytes((0xFF, 0xD0 + (number - 1) % 8)) if number else b""
        out += int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    return out


def by_pillow(data: bytes) -> np.ndarray:
    """The stored pixels, as libjpeg-turbo's defaults have them."""
    return np.asarray(Image.open(io.BytesIO(data)))


def by_opencv(data: bytes, scale: int = 1) -> np.ndarray:
    """The same, in three channels, at 1/`scale` of the size."""
    flag = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}[scale]
    return cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)


by_simplejpeg = partial(simplejpeg.decode_jpeg, strict=True)
"""The same; warnings are errors."""

roughly = partial(simplejpeg.decode_jpeg, strict=True, fastupsample=True)
"""With every colour sample for all pixels that it stands for."""
