"""`split`: the samples of a version in other splits, as a view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dataplane.catalog import Part, SplitCount
from dataplane.dataset import Dataset
from dataplane.errors import InvalidArgument
from dataplane.ingest.splits import Splits
from dataplane.lake import Lake
from dataplane.manifest import METADATA, read_metadata
from dataplane.objects import Objects
from dataplane.parts import PartShards, reselected, store_part
from dataplane.shards import Shards
from dataplane.versions.assign import ascending, dense_ranks, fractions_of, hashes, in_strata, within
from dataplane.versions.columns import columns_of, metadata_parts
from dataplane.versions.view import commit_view

__all__ = ["By", "SplitResult", "resplit", "split"]

By = Literal["hash", "stratified", "group", "time"]

_NAMED: Final = 5  # keys in a message


@dataclass(frozen=True, slots=True)
class SplitResult:
    """What `split` made. `committed` is False where the newest version of `name` had these splits already."""

    name: str
    version: int
    splits: Mapping[str, SplitCount]
    committed: bool

    def to_json(self) -> dict[str, Any]:
        """What `dataplane split --json` prints."""
        splits = {name: count.to_json() for name, count in self.splits.items()}
        return {"name": self.name, "version": self.version, "splits": splits, "committed": self.committed}


def split(
    lake: Lake,
    spec: str,
    splits: str,
    *,
    by: By = "hash",
    group_by: str | None = None,
    column: str | None = None,
    seed: int = 0,
    to: str | None = None,
) -> SplitResult:
    """Put the samples of the version `spec` into other splits, such as "train=0.8,val=0.1,test=0.1".

    It becomes the next version of the dataset, or the dataset `to`.

    `by` says what decides, and nothing else does, so the same call gives the same splits:

    * "hash": the hash of the key, as with `ingest`. Samples that come or go move no other one.
    * "stratified": exact proportions in each label, or in each value of `column`, in the order of the hash.
    * "group": the hash of what the group of the regular expression `group_by` matches in the source's path, or of the value of `column`:
      what belongs together stays together.
    * "time": ascending by the values of `column`, so that each split is later than the one before it; equal values stay together.

    `seed` other than 0 gives other hashes. Shards are shared. Raises `InvalidArgument`, `NotFound`, `AlreadyExists`, `CommitConflict`.
    """
    rule = _Rule.of(splits, by, group_by, column, seed)

    def build(dataset: Dataset) -> Sequence[PartShards]:
        return _build(lake.objects, dataset, rule)

    parameters = {"split": splits, "by": by, "group_by": group_by, "column": rule.column, "seed": seed}
    done = commit_view(lake, spec, to, operation="split", parameters=parameters, build=build)
    return SplitResult(done.version.name, done.version.number, done.version.splits, done.committed)


@dataclass(frozen=True, slots=True)
class _Rule:
    """How samples are split. `column` is the one that decides, `group_by` a pattern over it."""

    splits: Splits
    by: By
    column: str
    seed: int

    @classmethod
    def of(cls, splits: str, by: By, group_by: str | None, column: str | None, seed: int) -> _Rule:
        if by not in get_args(By):
            raise InvalidArgument(f"by is {by!r}; it may be {', '.join(get_args(By))}")
        if group_by is not None and by != "group":
            raise InvalidArgument(f'group_by goes with by="group", not {by!r}')
        if column is not None and by == "hash":
            raise InvalidArgument('a column goes with by="stratified", "group" or "time"; by="hash" looks at the key')
        if by == "group" and (group_by is None) == (column is None):
            raise InvalidArgument('by="group" needs group_by, a regular expression for the source\'s path, or a column: one of the two')
        if by == "time" and column is None:
            raise InvalidArgument('by="time" needs the column that holds the time')
        default = {"hash": "key", "stratified": "label", "group": "source", "time": ""}[by]
        return cls(Splits.parse(splits, group_by, option="the split"), by, column or default, seed)

    def codes(self, keys: Any, values: Any) -> npt.NDArray[np.int32]:
        """The number of the split of each sample, by its key and its value of the column."""
        if self.by == "hash":
            return within(hashes(keys.to_pylist(), seed=self.seed), self.splits)
        if self.by == "time":
            _check_there(keys, pc.is_null(values, nan_is_null=True), f"no {self.column}, so nothing says when they were")
            return ascending(_ranked(values, self.column), fractions_of(self.splits))
        coded = pc.dictionary_encode(_simple(values), null_encoding="encode").combine_chunks()
        of_each = coded.indices.to_numpy()
        distinct = coded.dictionary.to_pylist()
        if self.by == "stratified":
            turns = (hashes(map(str, distinct), seed=self.seed) >> np.uint64(1)).astype(np.int64)
            return in_strata(hashes(keys.to_pylist(), seed=self.seed), of_each, fractions_of(self.splits), turns=turns)
        groups = [None if value is None else self.splits.group(str(value)) if self.splits.group else str(value) for value in distinct]
        missing = np.array([group is None for group in groups], bool)
        _check_there(keys, pa.array(missing[of_each]), "no group, so nothing says what they belong to")
        of_group = within(hashes([group or "" for group in groups], seed=self.seed), self.splits)
        return np.asarray(of_group[of_each], np.int32)


def _build(objects: Objects, dataset: Dataset, rule: _Rule) -> list[PartShards]:
    parts = metadata_parts(objects, dataset)
    columns = columns_of(parts, str(dataset))
    if not parts:
        raise InvalidArgument(f"{dataset} has no samples to split")
    if rule.column not in columns.names:
        raise InvalidArgument(f"{dataset} has no metadata column {rule.column!r}; it has {', '.join(columns.names)}")
    schema = pa.schema([columns.field(name) for name in dict.fromkeys(("key", rule.column))])
    read = [list(part.batches(schema)) for part in parts]
    together = pa.concat_tables([table.select(schema.names).cast(schema) for tables in read for table in tables])
    codes = rule.codes(together.column("key"), together.column(rule.column))
    places = [[_numbers(tables, name) for name in ("shard", "row")] for tables in read]
    ends = np.cumsum([len(shard) for shard, _ in places])[:-1]
    names = rule.splits.names
    return [
        resplit(objects, part.part, part.shards, shard=shard, row=row, codes=mine, names=names)
        for part, (shard, row), mine in zip(parts, places, np.split(codes, ends), strict=True)
    ]


def resplit(
    objects: Objects,
    part: Part,
    shards: Shards,
    *,
    shard: npt.NDArray[np.int32],
    row: npt.NDArray[np.int32],
    codes: npt.NDArray[np.int32],
    names: Sequence[str],
) -> PartShards:
    """The part with the sample in row `row[n]` of shard `shard[n]` in the split `names[codes[n]]`; all live samples are given.

    Where all samples of each shard go to one split, metadata are shared. Else a shard stands in the table once for each split that has some
    of it, with a bitmap of its own, and the part's metadata are written anew with these numbers.
    """
    pairs = shard.astype(np.int64) * len(names) + codes
    present = np.unique(pairs)
    of_shard, split_code = present // len(names), present % len(names)
    if len(np.unique(of_shard)) == len(present):
        before = shards.split_of(np.arange(len(shards))).to_pylist()
        after = list(before)
        for number, code in zip(of_shard.tolist(), split_code.tolist(), strict=True):
            after[number] = names[code]
        return (part, shards) if after == before else reselected(objects, part, shards.move(after))
    number = np.searchsorted(present, pairs).astype(np.int32)
    spread = shards.take(of_shard).choose(number, row).move([names[code] for code in split_code.tolist()])
    return store_part(objects, spread, _renumbered(objects, part, shards, number, row))


def _renumbered(objects: Objects, part: Part, shards: Shards, number: npt.NDArray[np.int32], row: npt.NDArray[np.int32]) -> Any:
    """The metadata of the part's live samples with new shard numbers, in the order of these."""
    table = read_metadata(objects.get(part.metadata), where=objects.where(part.metadata))
    old, at = (table.column(name).to_numpy() for name in ("shard", "row"))
    table = table.filter(pa.array(shards.wants(old, at)))
    if len(table) != len(number):
        raise InvalidArgument(f"{len(number)} samples were given; the part has {len(table)}")
    table = table.set_column(table.column_names.index("shard"), METADATA.field("shard"), pa.array(number))
    return table.take(pa.array(np.lexsort((row, number))))


def _numbers(tables: Sequence[Any], name: str) -> npt.NDArray[np.int32]:
    return np.concatenate([np.zeros(0, np.int32), *(table.column(name).to_numpy() for table in tables)])


def _simple(values: Any) -> Any:
    """A column whose values are one by one comparable: not coded already, not nested."""
    if pa.types.is_nested(values.type):
        raise InvalidArgument(f"a column of {values.type} cannot decide on splits; one of text or numbers can")
    return values


def _ranked(values: Any, column: str) -> npt.NDArray[np.int64]:
    try:
        return dense_ranks(values)
    except (pa.ArrowException, TypeError) as error:
        raise InvalidArgument(f"the column {column!r} has no order: {error}") from None


def _check_there(keys: Any, missing: Any, what: str) -> None:
    few = keys.filter(missing)
    if len(few):
        named = ", ".join(repr(key) for key in few.slice(0, _NAMED).to_pylist()) + (" …" if len(few) > _NAMED else "")
        raise InvalidArgument(f"{len(few):,} samples have {what}: {named}; leave them out with where, or choose another column or pattern")
