"""Views: what they hold is what a plain loop over the samples finds; bitmaps of bitmaps; exact counts; random access."""

import uuid

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane import Lake
from dataplane.catalog import Change
from dataplane.errors import AlreadyExists, CommitConflict, CorruptObject, InvalidArgument, NotFound
from dataplane.manifest import METADATA
from dataplane.parts import split_counts, store_part
from dataplane.refs import Digest
from dataplane.schema import Schema
from dataplane.shards import ShardRow
from dataplane.versions import append, clone, split, where
from tests import make

LABELS = ("ant", "bee", None)


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


def samples_of(dataset):
    return {name: list(dataset[name]) for name in dataset.splits}


def test_a_view_shares_shards_and_metadata(lake):
    make.dataset(lake)
    everything = samples_of(lake.dataset("numbers"))
    result = where(lake, "numbers", "label = 'one'", to="ones")
    assert (result.of, result.name, result.version, result.samples, result.committed, result.missing) == (
        "numbers@1",
        "ones",
        1,
        3,
        True,
        (),
    )
    view = lake.dataset("ones")
    assert samples_of(view) == {name: [s for s in found if s.key.startswith("one/")] for name, found in everything.items()}
    assert (
        {name: count.samples for name, count in result.splits.items()} == {"test": 1, "train": 2} == {n: len(view[n]) for n in view.splits}
    )
    assert view.version.parts[0].metadata == lake.dataset("numbers").version.parts[0].metadata
    assert view.schema == lake.dataset("numbers").schema
    assert view.version.lineage["parents"] == ["numbers@1"]
    assert view.version.lineage["operation"] == "where"
    told = view.version.lineage["parameters"]
    assert told == {"source": "numbers@1", "source_id": lake.catalog.version("numbers").id, "condition": "label = 'one'"}


def test_random_access_in_a_view_of_a_view(lake):
    make.dataset(lake, "numbers", train=(40, 33, 7), test=(9,))
    everything = {s.key: s for found in samples_of(lake.dataset("numbers")).values() for s in found}
    where(lake, "numbers", "label <> 'two'", to="one")
    where(lake, "one", "width % 2 = 0 and split = 'train'", to="two")
    train = lake.dataset("two")["train"]
    expected = [k for k, s in everything.items() if not k.startswith("two") and s.metadata["jpg.width"] % 2 == 0]
    widths = {row["key"]: row for row in lake.dataset("numbers").metadata(["key", "width", "split", "label"]).to_pylist()}
    expected = [k for k in widths if widths[k]["label"] != "two" and widths[k]["width"] % 2 == 0 and widths[k]["split"] == "train"]
    assert [s.key for s in train] == sorted(expected, key=list(everything).index)
    assert len(train) == len(expected) > 10
    order = np.random.default_rng(0).permutation(len(train)).tolist()
    assert train.read_many(order) == [everything[train[i].key] for i in order]
    assert train.key(expected[3]) == everything[expected[3]]
    with pytest.raises(NotFound):
        train.key("two/item 0002")


def test_without_a_name_it_only_counts(lake):
    make.dataset(lake)
    result = where(lake, "numbers@1", "label = 'one'")
    assert (result.name, result.version, result.samples, result.committed) == (None, None, 3, False)
    assert result.to_json()["splits"]["train"]["samples"] == 2
    assert where(lake, "numbers", "label = 'none of these'").samples == 0
    assert lake.datasets() == ["numbers"]


def test_a_part_that_is_wanted_whole_is_shared_and_an_empty_one_is_left_out(lake):
    shards = [make.finished(lake, "train", range(at, at + 3)) for at in (0, 3, 6)]
    parts = [make.part(lake, [shard]) for shard in shards]
    lake.catalog.commit("numbers", lambda _: make.change(parts, [shard.shard for shard in shards]))
    keys = [make.sample(n)[0] for n in (0, 1, 2, 4)]
    where(lake, "numbers", keys=keys, to="some")
    found = lake.catalog.version("some").parts
    assert [found[0], found[1].metadata, len(found)] == [parts[0], parts[1].metadata, 2]


def test_keys_from_a_list_or_a_file(lake, tmp_path):
    make.dataset(lake)
    keys = [make.sample(n)[0] for n in (8, 2, 2)]
    result = where(lake, "numbers", keys=iter([*keys, "nope", "neither"]), to="some")
    assert (result.samples, result.missing) == (2, ("nope", "neither"))
    (tmp_path / "keys").write_text("\r\n".join([*keys, "", "nope"]), encoding="utf-8")
    again = where(lake, "numbers", keys=tmp_path / "keys", condition="width > 0")
    assert (again.samples, again.missing) == (2, ("nope",))
    told = lake.catalog.version("some").lineage["parameters"]["keys"]
    assert told["count"] == 4
    with pytest.raises(InvalidArgument, match=r"the file of keys .*gone cannot be read"):
        where(lake, "numbers", keys=tmp_path / "gone")
    with pytest.raises(InvalidArgument, match="a list, or the path of a file"):
        where(lake, "numbers", keys="one/item 0000")
    with pytest.raises(InvalidArgument, match="keys are text"):
        where(lake, "numbers", keys=[1])


def test_a_predicate_sees_the_metadata(lake):
    make.dataset(lake)
    seen = []

    def wide(row):
        seen.append(row)
        return row["width"] > row["height"] - 4 and row["split"] == "train"

    result = where(lake, "numbers", "label <> 'two'", predicate=wide, to="wide")
    assert {row["key"] for row in seen} == {make.sample(n)[0] for n in range(9) if n % 3 != 2}
    assert set(seen[0]) == {*METADATA.names, "split"} - {"shard", "row"}
    assert result.samples == sum(wide(row) for row in list(seen))
    assert lake.catalog.version("wide").lineage["parameters"]["predicate"].endswith("test_a_predicate_sees_the_metadata.<locals>.wide")


def test_wrong_calls(lake):
    make.dataset(lake)
    with pytest.raises(InvalidArgument, match="needs a condition, keys or a predicate"):
        where(lake, "numbers")
    with pytest.raises(InvalidArgument, match=r"'wide > 3' does not work.*numbers@1 has the columns key, label, width"):
        where(lake, "numbers", "wide > 3")
    with pytest.raises(NotFound, match="no sample of numbers@1 matches, so nothing was committed"):
        where(lake, "numbers", "width < 0", to="none")
    with pytest.raises(NotFound, match="no dataset 'letters'"):
        where(lake, "letters", "true")
    with pytest.raises(InvalidArgument, match="Objects are shared within one lake only"):
        where(lake, "s3://other/lake/numbers", "true")
    with pytest.raises(InvalidArgument, match="cannot name a dataset"):
        where(lake, "numbers", "true", to="a b")
    assert lake.datasets() == ["numbers"]


def test_the_same_view_again_changes_nothing_and_a_grown_source_gives_its_next_version(lake):
    make.dataset(lake)
    assert where(lake, "numbers", "label = 'one'", to="ones").committed
    again = where(lake, "numbers", "label = 'one'", to="ones")
    assert (again.version, again.committed, again.samples) == (1, False, 3)
    make.dataset(lake, "numbers", train=(12,))
    grown = where(lake, "numbers", "label = 'one'", to="ones")
    assert (grown.version, grown.committed, grown.samples, grown.of) == (2, True, 4, "numbers@2")
    assert lake.catalog.version("ones").lineage["parents"] == ["ones@1", "numbers@2"]
    clone(lake, "numbers", "mine")
    for name, source in (("mine", "numbers"), ("ones", "mine")):
        with pytest.raises(AlreadyExists, match=f"'{name}' is there already"):
            where(lake, source, "label = 'one'", to=name)


def test_in_place(lake):
    make.dataset(lake)
    result = where(lake, "numbers", "label <> 'two'", to="numbers")
    assert (result.version, result.samples) == (2, 6)
    with pytest.raises(CommitConflict, match="numbers@1 is not the newest version of numbers, which is 2"):
        where(lake, "numbers@1", "label = 'two'", to="numbers")
    assert where(lake, "numbers@2", "label <> 'one'", to="numbers").samples == 3


def test_in_place_follows_a_commit_that_comes_first(lake):
    make.dataset(lake)
    other = Lake(lake.url)

    def interrupting(row):
        if other.catalog.log("numbers").newest() == 1:
            make.dataset(other, "numbers", train=(12,))
        return row["label"] == "one"

    result = where(lake, "numbers", predicate=interrupting, to="numbers")
    assert (result.version, result.samples, result.of) == (3, 4, "numbers@2")


def test_missing_keys_are_those_of_the_version_that_was_looked_through_last(lake):
    make.dataset(lake, "numbers", train=(4,))
    keys, other = [make.sample(n)[0] for n in (0, 1)], Lake(lake.url)

    def interrupting(_):
        if other.catalog.log("numbers").newest() == 1:
            where(other, "numbers", "label <> 'one'", to="numbers")
        return True

    result = where(lake, "numbers", keys=keys, predicate=interrupting, to="numbers")
    assert (result.of, result.samples, result.missing) == ("numbers@2", 1, (keys[0],))


def test_columns_that_not_every_part_has(lake):
    parts, rows = [], []
    for number, extra in enumerate(({}, {"score": pa.array([1, 5], pa.int32())}, {"score": pa.array([2.5, 7.5])})):
        row, table = plain(number, 2)
        for name, values in extra.items():
            table = table.append_column(name, values)
        part, shards = store_part(lake.objects, [row], table)
        parts.append((part, shards))
        rows.append(row)
    change = Change("make", {}, Schema(), tuple(part for part, _ in parts), split_counts(parts))
    lake.catalog.commit("scores", lambda _: change)
    where(lake, "scores", "score > 4", to="high")
    assert lake.dataset("high").metadata(["key"]).column("key").to_pylist() == ["001.1", "002.1"]
    assert where(lake, "scores", "score is null").samples == 2


def test_damaged_metadata_is_an_error(lake):
    make.dataset(lake, "numbers", train=(60,))
    (part,) = lake.catalog.version("numbers").parts
    path = lake.store.local_path(part.metadata)
    data = bytearray(path.read_bytes())
    for at in range(20, 400, 7):
        data[at] ^= 255
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(CorruptObject, match=r"damaged|is not a manifest part"):
        where(lake, "numbers", "label = 'one' and width > 0 and key <> ''")


def plain(number, samples, split="train"):
    """A shard of which only the metadata can be read."""
    ref, index = Digest(f"{number:064x}", ".tar", 1000), Digest(f"{number:064x}", ".idx", 10)
    columns = {
        "shard": [0] * samples,
        "row": range(samples),
        "key": [f"{number:03d}.{i}" for i in range(samples)],
        "label": [LABELS[(number + i) % 3] for i in range(samples)],
        "width": [(number * 7 + i * 5) % 11 for i in range(samples)],
        "height": [1] * samples,
        "bytes": [100] * samples,
        "source": [f"{number % 4}/{i}" for i in range(samples)],
        "source_etag": ["e"] * samples,
        "source_blake3": [bytes(32)] * samples,
    }
    table = pa.table({name: pa.array(list(values), METADATA.field(name).type) for name, values in columns.items()}, schema=METADATA)
    return ShardRow(split, "tar", ref, index, samples, 100 * samples), table


CONDITIONS = {
    "width > 4": lambda s: s["width"] > 4,
    "label = 'ant'": lambda s: s["label"] == "ant",
    "label is null or width % 2 = 1": lambda s: s["label"] is None or s["width"] % 2 == 1,
    "split = 'train' or key like '%.1'": lambda s: s["split"] == "train" or s["key"].endswith(".1"),
    "split <> 'a'": lambda s: s["split"] != "a",
}
RESPLITS = {"hash": {}, "stratified": {}, "group": {"group_by": r"^(\d)/"}, "time": {"column": "width"}}


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.lists(st.tuples(st.integers(1, 12), st.sampled_from(["train", "test"])), min_size=1, max_size=3), min_size=1, max_size=3),
    st.lists(st.one_of(st.sampled_from(sorted(CONDITIONS)), st.sampled_from(sorted(RESPLITS)), st.just("append")), max_size=5),
)
def test_views_of_views_of_splits_are_what_a_plain_loop_finds(shape, steps):
    lake, number, parts, model = Lake.init(f"memory://{uuid.uuid4().hex}"), 0, [], {}
    for of_part in shape:
        rows, tables = [], []
        for samples, name in of_part:
            row, table = plain(number, samples, name)
            number += 1
            tables.append(table.set_column(0, METADATA.field("shard"), pa.array([len(rows)] * samples, pa.int32())))
            rows.append(row)
            model |= {s["key"]: {**s, "split": name} for s in table.to_pylist()}
        parts.append(store_part(lake.objects, rows, pa.concat_tables(tables)))
    change = Change("make", {}, Schema(), tuple(part for part, _ in parts), split_counts(parts))
    lake.catalog.commit("v0", lambda _: change)
    first = dict(model)
    for at, step in enumerate(steps):
        if step in CONDITIONS:
            left = {key: s for key, s in model.items() if CONDITIONS[step](s)}
            if left:
                model = left
                where(lake, f"v{at}", step, to=f"v{at + 1}")
            else:
                clone(lake, f"v{at}", f"v{at + 1}")
        elif step in RESPLITS:
            split(lake, f"v{at}", "a=0.5,b=0.5", by=step, to=f"v{at + 1}", **RESPLITS[step])
            found = lake.dataset(f"v{at + 1}").metadata(["key", "split"]).to_pylist()
            assert {row["split"] for row in found} <= {"a", "b"}
            assert {row["key"] for row in found} == set(model)
            model = {row["key"]: {**model[row["key"]], "split": row["split"]} for row in found}
        else:
            clone(lake, f"v{at}", f"v{at + 1}")
            append(lake, f"v{at + 1}", "v0", on_conflict="skip")
            model = {**first, **model}
        check(lake.dataset(f"v{at + 1}"), model)


def check(dataset, model):
    rows = dataset.metadata(["key", "split", "label", "width"]).to_pylist()
    assert sorted(row["key"] for row in rows) == sorted(model)
    assert all(model[row["key"]] | row == model[row["key"]] for row in rows)
    counts = {name: sum(s["split"] == name for s in model.values()) for name in {s["split"] for s in model.values()}}
    assert {name: count.samples for name, count in dataset.version.splits.items()} == counts
    assert {name: len(dataset[name]) for name in dataset.splits} == counts
    assert sum(part.samples for part in dataset.version.parts) == len(model)
