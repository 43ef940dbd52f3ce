"""What a field's value is, in words: a picture, a sound, text, an array, a number, or bytes. Pure, apart from decoding.

Formats give what they hold (`formats.protocol.Value`): bytes in a tar, Python values and arrays in Parquet, arrays in Zarr. So kinds are
told by the value, and bytes by how they begin.
"""

from __future__ import annotations

import io
import json
import warnings
import wave
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Kind", "Look", "Sound", "look", "one_line", "sound_of"]

Kind = Literal["picture", "sound", "text", "array", "value", "bytes"]

_TEXT_KEPT: Final = 2000  # characters of a text
_PREVIEW: Final = 80  # characters of a preview
_FEW: Final = 6  # numbers of a preview
_SNIFF: Final = 32


@dataclass(frozen=True, slots=True)
class Look:
    """A field of a sample: what it is, how large, its first few words or numbers; and the value, for what draws it.

    `bytes` is known of bytes, `shape` and `dtype` of arrays.
    """

    name: str
    kind: Kind
    preview: str
    bytes: int | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    value: Any = field(default=None, repr=False, compare=False)

    @property
    def size(self) -> str:
        """How large it is, in words."""
        if self.shape is not None:
            return f"{' × '.join(map(str, self.shape)) or 'one'} {self.dtype}"
        return "" if self.bytes is None else f"{self.bytes:,} {'byte' if self.bytes == 1 else 'bytes'}"

    def to_json(self) -> dict[str, Any]:
        """As the document of `head` has it."""
        found: dict[str, Any] = {"kind": self.kind, "preview": self.preview}
        more = {"bytes": self.bytes, "shape": None if self.shape is None else list(self.shape), "dtype": self.dtype}
        return found | {name: value for name, value in more.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Sound:
    """A sound as it was sampled: float32 [time, channel] from -1 to 1."""

    samples: npt.NDArray[np.float32]
    rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate


def look(name: str, value: Any) -> Look:
    """What a field is. Never raises over what a value holds: bytes that are damaged are bytes."""
    if isinstance(value, bytes | bytearray | memoryview):
        return _look_at_bytes(name, bytes(value))
    if isinstance(value, np.ndarray):
        return _look_at_array(name, value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return Look(name, "text", _cut(value), bytes=len(value.encode("utf-8", "replace")), value=value[:_TEXT_KEPT])
    return Look(name, "value", _cut(_plain(value)), value=value)


def sound_of(data: bytes) -> Sound | None:
    """The sound in a WAV file of 8, 16, 24 or 32 bits; None for what the standard library cannot read."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            raw = file.readframes(file.getnframes())
    except (wave.Error, EOFError, OSError, ValueError, RuntimeError):
        return None
    if rate <= 0 or width not in {1, 2, 3, 4}:
        return None
    raw = raw[: len(raw) // (width * channels) * width * channels]
    return Sound(_levels(raw, width).reshape(-1, channels), rate)


def _levels(raw: bytes, width: int) -> npt.NDArray[np.float32]:
    """Samples of so many bytes each, from -1 to 1. Those of one byte are unsigned, as WAV has it."""
    wide = np.zeros((len(raw) // width, 4), np.uint8)  # as the upper bytes of 32 bits
    wide[:, 4 - width :] = np.frombuffer(raw, np.uint8).reshape(-1, width)
    if width == 1:
        wide[:, 3] ^= 0x80
    levels: npt.NDArray[np.float32] = wide.view("<i4")[:, 0].astype(np.float32)
    levels /= 2**31
    return levels


def one_line(text: str) -> str:
    """`text` without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _look_at_bytes(name: str, data: bytes) -> Look:
    from dataplane.prep.image import sniff

    picture = sniff(data[:_SNIFF])
    if picture is not None:
        return Look(name, "picture", picture, bytes=len(data), value=data)
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        sound = sound_of(data)
        if sound is None:
            return Look(name, "bytes", "a WAV file in a coding that is not drawn", bytes=len(data), value=data)
        channels = sound.samples.shape[1]
        said = f"{sound.seconds:.2f} s, {sound.rate:,} Hz, {'mono' if channels == 1 else f'{channels} channels'}"
        return Look(name, "sound", said, bytes=len(data), value=data)
    for start, codec in ((b"fLaC", "FLAC"), (b"OggS", "Ogg"), (b"ID3", "MP3")):
        if data.startswith(start):
            return Look(name, "bytes", f"{codec} sound", bytes=len(data), value=data)
    if data.startswith(b"\x93NUMPY"):
        array = _array_of(data)
        if array is None:
            return Look(name, "bytes", "a NumPy file that cannot be read", bytes=len(data), value=data)
        return _look_at_array(name, array)
    text = _text_of(data)
    if text is not None:
        return Look(name, "text", _cut(text), bytes=len(data), value=text)
    return Look(name, "bytes", data[:16].hex(" ") + (" …" if len(data) > 16 else ""), bytes=len(data), value=data)


def _array_of(data: bytes) -> npt.NDArray[Any] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array: npt.NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
            return array
    except Exception:  # NumPy reads the header as Python: it raises whatever parsing that runs into
        return None


def _text_of(data: bytes) -> str | None:
    """The beginning of bytes that are text in UTF-8."""
    start = data[: 4 * _TEXT_KEPT]
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3 or len(start) == len(data):  # not merely cut within a character
            return None
        text = start[: error.start].decode("utf-8")
    if any(not c.isprintable() and c not in "\t\n\r\f" for c in text):
        return None
    return text[:_TEXT_KEPT]


def _look_at_array(name: str, value: npt.NDArray[Any]) -> Look:
    first = value.reshape(-1)[:_FEW].tolist() if value.size else []
    said = ", ".join(f"{each:.4g}" if isinstance(each, float) else str(each) for each in first)
    preview = _cut(said + (", …" if value.size > _FEW else "")) or "empty"
    return Look(name, "array", preview, shape=tuple(value.shape), dtype=str(value.dtype), value=value)


def _plain(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return repr(value)


def _cut(text: str) -> str:
    line = one_line(" ".join(text[: 4 * _PREVIEW].split()))
    return line if len(line) <= _PREVIEW else line[: _PREVIEW - 1] + "…"
