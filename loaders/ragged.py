"""Values of different lengths in one batch: side by side in one buffer, with where each begins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from loaders.buffers import BufferPool

__all__ = ["Note", "Place", "Ragged", "RaggedPlaces"]

_STEPS: Final = 3  # capacities have so many leading bits: at most an eighth more than is needed


class Ragged:
    """The bytes of B samples side by side: sample i is `data[offsets[i] : offsets[i + 1]]`, with `data` uint8 [total] and `offsets` int64
    [B + 1], both NumPy arrays or tensors. Indexing gives views. The memory belongs to whoever holds it, as that of a batch.

    It is no `Sequence` of `collections.abc`: of those, torch's DataLoader makes lists.
    """

    __slots__ = ("data", "offsets")

    def __init__(self, data: Any, offsets: Any) -> None:
        self.data = data
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        """The bytes of a sample, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        i = range(len(self))[index]
        return self.data[int(self.offsets[i]) : int(self.offsets[i + 1])]

    def __iter__(self) -> Iterator[Any]:
        return (self.data[start:end] for start, end in pairwise(self.offsets.tolist()))

    def __repr__(self) -> str:
        return f"Ragged({len(self)} samples, {int(self.offsets[-1]):,} bytes)"

    @property
    def nbytes(self) -> int:
        """Of the samples, and of where they begin."""
        return int(self.data.nbytes + self.offsets.nbytes)

    def map(self, change: Callable[[Any], Any]) -> Ragged:
        """The same with both arrays changed: to tensors, or to another device."""
        return Ragged(change(self.data), change(self.offsets))


class Place:
    """Where one sample goes."""

    __slots__ = ("_i", "_places")

    def __init__(self, places: RaggedPlaces, i: int) -> None:
        self._places = places
        self._i = i

    def put(self, data: npt.NDArray[np.uint8]) -> None:
        """Copy the sample's bytes there."""
        self._places.put(self._i, data)


class Note(NamedTuple):
    """What a feed has told of its samples at `places` int64 [n], in their order, when it was asked for their sizes."""

    places: npt.NDArray[np.int64]
    told: Any


class RaggedPlaces:
    """A ragged field of a batch that is being filled, of `count` places. Each place is one thread's business; the rest is thread-safe.

    Room for each place is reserved from what its sample's index says (`lay_out`), so that samples are read straight to where they stay.
    What turns out otherwise, a substitute or a sample that is skipped, is set right at the end.
    """

    def __init__(self, count: int, pool: BufferPool) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._buffer: npt.NDArray[np.uint8] | None = None
        self._starts: list[int] = []
        self.reserved: npt.NDArray[np.int64] = np.zeros(count, np.int64)
        """How many bytes there is room for at each place."""
        self.addresses: npt.NDArray[np.int64] = np.zeros(count, np.int64)
        """Where that room is in memory; it lasts as long as this does."""
        self.notes: Mapping[int, Note] = {}
        """By the `id` of the feed."""
        self._lengths: npt.NDArray[np.int64] = np.zeros(count, np.int64)
        self._apart: dict[int, npt.NDArray[np.uint8]] = {}

    def lay_out(self, sizes: Callable[[], tuple[npt.NDArray[np.int64], Mapping[int, Note]]]) -> None:
        """Reserve room, once: whoever comes first asks for the sizes, int64 [count], and the notes; others wait for that."""
        if self._buffer is not None:
            return
        with self._lock:
            if self._buffer is None:
                self.reserved, self.notes = sizes()
                offsets = _offsets(self.reserved)
                self._starts = offsets.tolist()
                buffer = self._take(self._starts[-1])
                self.addresses = offsets[:-1] + buffer.ctypes.data
                self._buffer = buffer

    def room(self, i: int) -> npt.NDArray[np.uint8]:
        """What is reserved for a place."""
        assert self._buffer is not None
        return self._buffer[self._starts[i] : self._starts[i + 1]]

    def filled(self, places: npt.NDArray[np.int64]) -> None:
        """The rooms of these places hold their samples."""
        self._lengths[places] = self.reserved[places]

    def put(self, i: int, data: npt.NDArray[np.uint8]) -> None:
        """Copy a sample to a place, or keep it apart until the end where it has another size."""
        room = self.room(i)
        if len(room) == len(data):
            room[:] = data
            self._apart.pop(i, None)
        else:
            self._apart[i] = data.copy()
        self._lengths[i] = len(data)

    def __getitem__(self, places: slice) -> Place:
        """The first of `places`, for who fills one."""
        return Place(self, places.start)

    def __setitem__(self, places: int | list[int], value: int) -> None:
        """Empty these places; there is no other value for all of one."""
        self._lengths[places] = value

    @property
    def nbytes(self) -> int:
        return 0 if self._buffer is None else int(self._buffer.nbytes + self._lengths.nbytes)

    def ragged(self) -> Ragged:
        """What was filled, without gaps. To be called once, when all is."""
        offsets = _offsets(self._lengths)
        if self._buffer is not None and np.array_equal(self._lengths, self.reserved):
            return Ragged(self._buffer, offsets)
        whole = self._take(int(offsets[-1]))
        for i, (start, end) in enumerate(pairwise(offsets.tolist())):
            if start < end:
                whole[start:end] = self._apart[i] if i in self._apart else self.room(i)
        return Ragged(whole, offsets)

    def _take(self, size: int) -> npt.NDArray[np.uint8]:
        """Memory for so many bytes. Its size is rounded up, so that batches of about one size share theirs."""
        return self._pool.take((_rounded(size),), np.uint8)[:size]


def _offsets(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def _rounded(size: int) -> int:
    """The next number with few leading bits.

    >>> [_rounded(size) for size in (0, 1, 15, 17, 1000, 1025)]
    [16, 16, 16, 18, 1024, 1152]
    """
    size = max(16, size)
    step = 1 << (size.bit_length() - 1 - _STEPS)
    return -(-size // step) * step
