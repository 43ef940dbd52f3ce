"""How sequences are made of documents: the two ways, each with what a feed asks of it. `loaders.kernels.tokens` walks the documents."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from typing import Any, Final, Protocol, overload

import numpy as np
import numpy.typing as npt

from dataplane.dataset import Split
from dataplane.shards import starts
from loaders.kernels.tokens import plan_packs, plan_stream
from loaders.patience import patiently
from loaders.tokens.bestfit import pack
from loaders.tokens.documents import column_of, lengths_of, token_totals
from loaders.tokens.opened import Opened, Table
from loaders.tokens.packed import Packed
from loaders.tokens.stream import Laid, even_groups

__all__ = ["BestFit", "Concat", "Out", "PackSpot", "StreamSpot", "StreamSpots", "Way"]

Out = tuple[npt.NDArray[Any], npt.NDArray[np.int32], npt.NDArray[np.int32]]
"""Tokens [B, T], and positions and segments [B, T], or [0, T] where nobody wants them."""

_Stretch = tuple[Laid, npt.NDArray[np.int64]]
_EPOCHS: Final = 4  # that are laid out at a time: the running one, the next, and those of a resume
_AT_ONCE: Final = 8


class Way(Protocol):
    """One way of making sequences. Immutable and thread-safe."""

    counts: npt.NDArray[np.int64]
    opened: Opened

    def locate(self, groups: npt.NDArray[np.int64], items: npt.NDArray[np.int64], *, seed: int | None, epoch: int) -> Sequence[Any]:
        """As `Feed.locate`."""
        ...

    def chosen(self, spots: Sequence[Any], places: npt.NDArray[np.int64]) -> list[tuple[npt.NDArray[np.int64], Any]]:
        """The spots at `places` in columns, as the other methods take them: some of the places each, in their order."""
        ...

    def keys(self, chosen: Any) -> list[str]:
        """What `key` of each spot gives."""
        ...

    def shards(self, chosen: Any) -> npt.NDArray[np.int64]:
        """The shards that spots touch, each at least once."""
        ...

    def plan(self, chosen: Any, places: npt.NDArray[np.int64], table: Table, out: Out, runs: npt.NDArray[np.void]) -> int:
        """See `plan_stream`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class StreamSpot:
    """Sequence `number` of an epoch's stream, and `first`, its first place there."""

    laid: Laid
    number: int
    first: int
    split: Split

    @property
    def key(self) -> str:
        return f"sequence {self.number}"

    @property
    def where(self) -> str:
        """The object of the shard that it begins in."""
        return str(self.split.shards[int(self.laid.order[self._place])].row.ref)

    @property
    def row(self) -> int:
        """The place of the shard's part of the stream that it begins at."""
        return self.first - int(self.laid.starts[self._place])

    @property
    def _place(self) -> int:
        return int(np.searchsorted(self.laid.starts, self.first, "right")) - 1


class StreamSpots(Sequence[StreamSpot]):
    """Spots of one epoch as columns: an object for each would take as long as copying its tokens."""

    def __init__(self, laid: Laid, numbers: npt.NDArray[np.int64], length: int, split: Split) -> None:
        self.laid = laid
        self.numbers = numbers
        self._length = length
        self._split = split

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, i: int) -> StreamSpot: ...
    @overload
    def __getitem__(self, i: slice) -> StreamSpots: ...
    def __getitem__(self, i: int | slice) -> StreamSpot | StreamSpots:
        if isinstance(i, slice):
            return StreamSpots(self.laid, self.numbers[i], self._length, self._split)
        number = int(self.numbers[i])
        return StreamSpot(self.laid, number, number * self._length, self._split)


class Concat:
    """Concatenate and split: see `loaders.tokens.stream`."""

    def __init__(self, packed: Packed, split: Split) -> None:
        behind = 0 if packed.separator is None else 1
        totals = token_totals(split, packed.field)
        self.opened = Opened(split, packed.field, totals=totals, behind=behind, pack=None)
        places = totals + behind * split.counts
        self.counts = even_groups(int(places.sum()) // packed.length, len(split.shards))
        self._length = packed.length
        self._separator = -1 if packed.separator is None else packed.separator
        self._split = split
        self._starts = starts(self.counts)
        self._laid = lru_cache(_EPOCHS)(partial(Laid.of, places))

    def locate(self, groups: npt.NDArray[np.int64], items: npt.NDArray[np.int64], *, seed: int | None, epoch: int) -> StreamSpots:
        laid = self._laid(seed=seed, epoch=0 if seed is None else epoch)
        return StreamSpots(laid, self._starts[groups] + items, self._length, self._split)

    def chosen(self, spots: Sequence[StreamSpot], places: npt.NDArray[np.int64]) -> list[tuple[npt.NDArray[np.int64], _Stretch]]:
        """By epoch, of which a batch of a mixture may have several: how it lies, and the numbers of the sequences."""
        if isinstance(spots, StreamSpots):
            return [(places, (spots.laid, spots.numbers[places]))]
        found = []
        for _, mine in groupby(places.tolist(), key=lambda i: id(spots[i].laid)):
            at = list(mine)
            found.append((np.array(at), (spots[at[0]].laid, np.array([spots[i].number for i in at], np.int64))))
        return found

    def keys(self, chosen: _Stretch) -> list[str]:
        return [f"sequence {number}" for number in chosen[1].tolist()]

    def shards(self, chosen: _Stretch) -> npt.NDArray[np.int64]:
        laid, numbers = chosen
        return laid.shards(numbers * self._length, self._length)

    def plan(
        self,
        chosen: _Stretch,
        places: npt.NDArray[np.int64],
        table: Table,
        out: Out,
        runs: npt.NDArray[np.void],
    ) -> int:
        laid, numbers = chosen
        sequences = numbers * self._length, places
        return plan_stream(sequences, (self._length, self._separator), (laid.order, laid.starts, table.rows), out, runs)


@dataclass(frozen=True, slots=True, eq=False)
class PackSpot:
    """A pack of a shard."""

    shard: int
    row: int
    split: Split

    @property
    def key(self) -> str:
        return f"shard {self.shard} pack {self.row}"

    @property
    def where(self) -> str:
        """The object of the shard."""
        return str(self.split.shards[self.shard].row.ref)


class BestFit:
    """Best fit: see `loaders.tokens.bestfit`. Making one packs the documents of all shards once, to know how many packs there are."""

    def __init__(self, packed: Packed, split: Split) -> None:
        make = partial(pack, length=packed.length)

        def count(number: int) -> tuple[int, int]:
            shard = split.shards[number]
            if not len(shard):
                return 0, 0
            lengths = patiently(lambda: lengths_of(column_of(shard, packed.field)))
            mine = lengths if shard.row.rows is None else lengths[shard.row.rows]
            return len(make(mine)), int(mine.sum())

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dataplane-tokens") as threads:
            counted = np.array(list(threads.map(count, range(len(split.shards)))), np.int64).reshape(-1, 2)
        self.counts: npt.NDArray[np.int64] = np.ascontiguousarray(counted[:, 0])
        self.opened = Opened(split, packed.field, totals=np.ascontiguousarray(counted[:, 1]), behind=0, pack=make)
        self._length = packed.length
        self._pad = packed.pad
        self._split = split

    def locate(self, groups: npt.NDArray[np.int64], items: npt.NDArray[np.int64], *, seed: int | None, epoch: int) -> list[PackSpot]:
        return [PackSpot(shard, row, self._split) for shard, row in zip(groups.tolist(), items.tolist(), strict=True)]

    def chosen(self, spots: Sequence[PackSpot], places: npt.NDArray[np.int64]) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """The shard of each, and its number there."""
        return [(places, np.array([(spots[i].shard, spots[i].row) for i in places.tolist()], np.int64).reshape(-1, 2).T.copy())]

    def keys(self, chosen: npt.NDArray[np.int64]) -> list[str]:
        return [f"shard {shard} pack {row}" for shard, row in chosen.T.tolist()]

    def shards(self, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.asarray(chosen[0])

    def plan(self, chosen: npt.NDArray[np.int64], places: npt.NDArray[np.int64], table: Table, out: Out, runs: npt.NDArray[np.void]) -> int:
        return plan_packs((chosen[0], chosen[1], places), (self._length, self._pad), table.rows, out, runs)
