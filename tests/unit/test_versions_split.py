"""Splitting anew: the same as at ingest, exact, together, in time; shards are shared and each sample is in one split."""

import numpy as np
import pyarrow as pa
import pytest

from dataplane import Lake
from dataplane.errors import CommitConflict, InvalidArgument
from dataplane.ingest.splits import Splits
from dataplane.manifest import METADATA
from dataplane.parts import split_counts, store_part
from dataplane.upkeep import verify_lake
from dataplane.versions import split, where
from tests import make

THREE = "train=0.6,val=0.2,test=0.2"


@pytest.fixture
def lake(tmp_path):
    made = Lake.init(str(tmp_path / "lake"))
    make.dataset(made, "numbers", train=(30, 20), test=(10,))
    return made


def held(lake, spec):
    """The split of each key, as reading gives it."""
    dataset = lake.dataset(spec)
    found = {s.key: name for name in dataset.splits for s in dataset[name]}
    assert len(found) == dataset.version.samples == sum(len(dataset[name]) for name in dataset.splits)
    assert found == {row["key"]: row["split"] for row in dataset.metadata(["key", "split"]).to_pylist()}
    return found


def test_by_hash_as_ingest_does_it(lake):
    before = {s.key: s for name in ("train", "test") for s in lake.dataset("numbers")[name]}
    result = split(lake, "numbers", THREE)
    assert (result.name, result.version, result.committed) == ("numbers", 2, True)
    found, rule = held(lake, "numbers"), Splits.parse(THREE, None)
    assert found == {key: rule.of("", key) for key in before}
    dataset = lake.dataset("numbers")
    assert {s.key: s for name in dataset.splits for s in dataset[name]} == before
    for name in dataset.splits:
        picked = [len(dataset[name]) - 1, 0, len(dataset[name]) // 2]
        assert [s.key for s in dataset[name].read_many(picked)] == [list(dataset[name])[i].key for i in picked]
    assert dataset.version.lineage["parents"] == ["numbers@1"]
    old, new = ({row.ref for _, rows in lake.dataset(spec).parts for row in rows} for spec in ("numbers@1", "numbers@2"))
    assert old == new
    assert not split(lake, "numbers", THREE).committed
    assert held(lake, "numbers@1") != found
    assert verify_lake(lake).problems == []


def test_a_seed_gives_others(lake):
    found = [held(lake, split(lake, "numbers", THREE, seed=seed, to=f"s{seed}").name) for seed in (0, 1, 2)]
    assert found[0] != found[1] != found[2] != found[0]


def test_whole_shards_only_move(lake):
    before = lake.catalog.version("numbers").parts
    split(lake, "numbers", "all=1")
    assert set(held(lake, "numbers").values()) == {"all"}
    (old,), (new,) = before, lake.catalog.version("numbers").parts
    assert (new.metadata, new.samples) == (old.metadata, 60)
    assert new.shards != old.shards


def test_stratified_is_exact_in_each_label(lake):
    split(lake, "numbers", THREE, by="stratified", to="even")
    labels = {row["key"]: row["label"] for row in lake.dataset("numbers").metadata(["key", "label"]).to_pylist()}
    found = held(lake, "even")
    for label in make.CLASSES:
        mine = [found[key] for key in found if labels[key] == label]
        assert [mine.count(name) for name in ("train", "val", "test")] == [12, 4, 4]
    split(lake, "numbers", "a=0.5,b=0.5", by="stratified", column="width", to="wide")
    widths = {row["key"]: row["width"] for row in lake.dataset("wide").metadata(["key", "width"]).to_pylist()}
    found = held(lake, "wide")
    assert all(abs(sum(1 if found[k] == "a" else -1 for k in found if widths[k] == w)) <= 1 for w in set(widths.values()))


def test_groups_stay_together(lake):
    split(lake, "numbers", "a=0.5,b=0.5", by="group", group_by=r"item (\d\d\d)", to="tens")
    found = held(lake, "tens")
    rule = Splits.parse("a=0.5,b=0.5", r"item (\d\d\d)")
    assert found == {key: rule.of(f"{key}.jpg", key) for key in found}
    assert set(found.values()) == {"a", "b"}
    split(lake, "numbers", "a=0.5,b=0.5", by="group", column="width", to="widths")
    widths = {row["key"]: row["width"] for row in lake.dataset("widths").metadata(["key", "width"]).to_pylist()}
    of = {}
    for key, name in held(lake, "widths").items():
        of.setdefault(widths[key], set()).add(name)
    assert all(len(names) == 1 for names in of.values())


def test_by_time(lake):
    with_time(lake, [1000 - 7 * i for i in range(20)])
    split(lake, "times", "train=0.5,val=0.25,test=0.25", by="time", column="taken")
    found = held(lake, "times")
    keys = [make.sample(n)[0] for n in range(20)]
    assert [found[key] for key in keys] == ["test"] * 5 + ["val"] * 5 + ["train"] * 10


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_sample_without_a_time_is_an_error(lake, missing):
    with_time(lake, [1.0, missing, *range(18)])
    with pytest.raises(
        InvalidArgument, match=r"1 samples have no taken, so nothing says when they were: 'three/item 0001'; leave them out"
    ):
        split(lake, "times", "a=0.5,b=0.5", by="time", column="taken")
    where(lake, "times", "taken is not null and not isnan(taken)", to="known")
    assert split(lake, "known", "a=0.5,b=0.5", by="time", column="taken").splits["a"].samples == 10


def with_time(lake, times):
    """A dataset `times` of 20 samples with a column `taken`."""
    done = make.finished(lake, "train", range(len(times)))
    table = done.metadata.add_column(0, METADATA.field("shard"), pa.array([0] * len(times), pa.int32())).append_column(
        "taken", pa.array(times)
    )
    part, shards = store_part(lake.objects, [done.shard], table)
    change = make.change([part], [done.shard])
    lake.catalog.commit("times", lambda _: change)
    assert split_counts([(part, shards)]) == dict(change.splits)


def test_of_a_view_and_to_another_dataset(lake):
    where(lake, "numbers", "label <> 'two' and width <> 14", to="some")
    keys = set(held(lake, "some"))
    result = split(lake, "some", THREE, to="parts")
    assert (result.name, result.version) == ("parts", 1)
    assert set(held(lake, "parts")) == keys
    where(lake, "parts", "split = 'val'", to="val")
    assert set(held(lake, "val")) == {key for key, name in held(lake, "parts").items() if name == "val"}
    again = split(lake, "val", "x=0.5,y=0.5")
    assert (again.version, set(held(lake, "val"))) == (2, {key for key, name in held(lake, "parts").items() if name == "val"})
    (_, shards), *_ = lake.dataset("parts").parts
    assert len(shards) > len({row.ref for row in shards})  # a shard stands there once for each split
    assert (np.array([row.live for row in shards]) == shards.live).all()
    places = [(row["shard"], row["row"]) for row in lake.dataset("parts").metadata(["shard", "row"]).to_pylist()]
    assert places == sorted(places)  # the metadata stand in the order of the samples
    assert verify_lake(lake).problems == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"splits": "a=0.5"}, "the split is 'a=0.5': the fractions add up to 0.5"),
        ({"splits": "a"}, "the split is 'a'; write it as train=0.8"),
        ({"by": "magic"}, "by is 'magic'; it may be hash, stratified, group, time"),
        ({"by": "group"}, "needs group_by"),
        ({"by": "group", "group_by": "(.)", "column": "width"}, "one of the two"),
        ({"by": "group", "group_by": "."}, "has no group"),
        (
            {"by": "group", "group_by": "nowhere(.)"},
            "60 samples have no group, so nothing says what they belong to: 'one/item 0000', .* …; leave",
        ),
        ({"by": "time"}, "needs the column that holds the time"),
        ({"by": "time", "column": "taken"}, "numbers@1 has no metadata column 'taken'; it has key, label"),
        ({"column": "width"}, "a column goes with"),
        ({"group_by": "(.)"}, 'group_by goes with by="group"'),
    ],
)
def test_wrong_calls(lake, call, message):
    with pytest.raises(InvalidArgument, match=message):
        split(lake, "numbers", **{"splits": "a=0.5,b=0.5", **call})
    assert lake.catalog.version("numbers").number == 1


def test_an_old_version_is_not_split_in_place(lake):
    make.dataset(lake, "numbers", train=(3,))
    with pytest.raises(CommitConflict, match="numbers@1 is not the newest version of numbers, which is 2"):
        split(lake, "numbers@1", THREE)
    assert split(lake, "numbers@1", THREE, to="old").version == 1
