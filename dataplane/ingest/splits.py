"""Splits by a stable hash: which split a sample is in depends on its key (or group) and the fractions, and on nothing else."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from blake3 import blake3

from dataplane.catalog import check_name
from dataplane.errors import BadSample, InvalidArgument
from dataplane.ingest.labels import one_group

__all__ = ["Splits", "key_hash"]

_RANGE = 1 << 64
_SLACK = 1e-9


def key_hash(key: str) -> int:
    """The first 64 bits of the BLAKE3 of a key: what orders samples and decides their split."""
    return int.from_bytes(blake3(key.encode()).digest(8), "big")


@dataclass(frozen=True, slots=True)
class Splits:
    """Splits by name. A sample is in split i when the hash of its key, as a fraction of 2^64, lies in [ends[i - 1], ends[i]).

    So files that are added or removed move no other sample. With `group`, the hash is that of the group, and a group stays together.
    """

    names: tuple[str, ...]
    ends: tuple[int, ...]
    group: Callable[[str], str | None] | None = None

    @classmethod
    def parse(cls, spec: str, group_by: str | None, *, option: str = "--split") -> Splits:
        """From `train=0.8,val=0.1,test=0.1`: fractions above 0 that add up to 1. Raises `InvalidArgument`, which names `option`."""
        pairs = [item.partition("=") for item in spec.split(",")]
        names = tuple(check_name(name.strip(), "split") for name, _, _ in pairs)
        try:
            fractions = [float(value) for _, _, value in pairs]
        except ValueError:
            raise InvalidArgument(f"{option} is {spec!r}; write it as train=0.8,val=0.1,test=0.1") from None
        if len(set(names)) < len(names):
            raise InvalidArgument(f"{option} is {spec!r}: it names a split twice")
        if not all(0 < fraction <= 1 for fraction in fractions) or abs(sum(fractions) - 1) > _SLACK:
            raise InvalidArgument(
                f"{option} is {spec!r}: the fractions add up to {sum(fractions):.10g}; they must be above 0 and add up to 1"
            )
        ends = (*(round(end * _RANGE) for end in list(accumulate(fractions))[:-1]), _RANGE)
        group = None if group_by is None else one_group(group_by, name="group", option="--group-by ")
        return cls(names, ends, group)

    def of(self, path: str, key: str) -> str:
        """The split of a sample. Raises `BadSample` where groups are asked for and it has none."""
        decides = key
        if self.group is not None:
            found = self.group(path)
            if found is None:
                raise BadSample("no group: its path does not match the pattern of --group-by")
            decides = found
        return self.names[bisect.bisect_right(self.ends, key_hash(decides))]
