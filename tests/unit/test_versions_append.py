"""Cloning, appending, comparing and tagging versions: what is shared, what is in conflict, and what is told."""

import random
from dataclasses import replace

import pyarrow as pa
import pytest

from dataplane import Lake
from dataplane.catalog import Change
from dataplane.errors import AlreadyExists, InvalidArgument, NotFound
from dataplane.parts import split_counts
from dataplane.schema import Field, Schema
from dataplane.testing import RecordingStore
from dataplane.upkeep import verify_lake
from dataplane.versions import SchemaDiff, append, clone, diff, lineage, split, tag, tags, where
from dataplane.versions.append import joined_schema
from tests import make


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


def commit(lake, name, *shards, schema=make.SCHEMA):
    """A version of shards given as split and numbers, one part a shard."""
    done = [make.finished(lake, split, numbers) for split, numbers in shards]
    parts = [make.part(lake, [shard]) for shard in done]
    return lake.catalog.commit(name, lambda _: make.change(parts, [shard.shard for shard in done], schema=schema))


def held(lake, spec):
    """Split and picture by key."""
    dataset = lake.dataset(spec)
    found = {s.key: (name, s.fields["jpg"]) for name in dataset.splits for s in dataset[name]}
    assert len(found) == dataset.version.samples == len(dataset.metadata(["key"]))
    return found


def expected(*shards):
    return {make.sample(n)[0]: (split, make.sample(n)[1]["jpg"]) for split, numbers in shards for n in numbers}


def objects(lake):
    return {meta["path"] for chunk in lake.store.list("objects") for meta in chunk}


def test_a_clone_writes_no_object_and_goes_its_own_way(lake):
    make.dataset(lake)
    before = objects(lake)
    result = clone(lake, "numbers", "mine")
    assert result.to_json() == {"name": "mine", "version": 1, "parent": "numbers@1", "samples": 9, "committed": True}
    assert objects(lake) == before
    mine, theirs = lake.catalog.version("mine"), lake.catalog.version("numbers")
    assert (mine.parts, mine.schema, mine.splits) == (theirs.parts, theirs.schema, theirs.splits)
    assert mine.lineage["parents"] == ["numbers@1"]
    assert mine.lineage["parameters"] == {"source": "numbers@1", "source_id": theirs.id}
    assert held(lake, "mine") == held(lake, "numbers")
    make.dataset(lake, "numbers", train=(1,))
    again = clone(lake, "numbers@1", "mine")
    assert (again.version, again.committed) == (1, False)
    assert clone(lake, "mine", "third").parent == "mine@1"
    with pytest.raises(AlreadyExists, match=r"'mine' is there already: it is mine@1 \(clone\), no clone of numbers@2"):
        clone(lake, "numbers", "mine")
    for spec in ("other/numbers", "s3://other/lake/numbers@7"):
        with pytest.raises(InvalidArgument, match="Objects are shared within one lake only"):
            clone(lake, spec, "fourth")
    with pytest.raises(NotFound):
        clone(lake, "numbers@7", "fourth")
    with pytest.raises(InvalidArgument, match="cannot name a dataset"):
        clone(lake, "numbers", "a/b")


def test_append_adds_what_is_new_and_shares_it(lake):
    commit(lake, "a", ("train", range(4)), ("test", range(4, 6)))
    commit(lake, "b", ("train", range(6, 9)))
    before = objects(lake)
    result = append(lake, "a", "b")
    assert result.to_json() == {"name": "a", "version": 2, "samples": 9, "added": 3, "skipped": 0, "replaced": 0, "committed": True}
    assert objects(lake) == before
    assert held(lake, "a") == expected(("train", range(4)), ("test", range(4, 6)), ("train", range(6, 9)))
    version = lake.catalog.version("a")
    assert version.lineage["parents"] == ["a@1", "b@1"]
    assert version.lineage["counts"] == {"samples": 9, "added": 3, "skipped": 0, "replaced": 0}
    again = append(lake, "a", "b")
    assert (again.version, again.added, again.skipped, again.committed) == (2, 0, 3, False)
    made = append(lake, "new", "a")
    assert (made.version, made.added, held(lake, "new")) == (1, 9, held(lake, "a"))


def test_samples_that_are_there_already_are_left_even_where_parts_differ(lake):
    commit(lake, "a", ("train", range(6)))
    commit(lake, "b", ("train", range(3, 9)))  # the same pictures in another shard
    result = append(lake, "a", "b")
    assert (result.added, result.skipped, result.samples) == (3, 3, 9)
    assert held(lake, "a") == expected(("train", range(9)))


def test_conflicts(lake):
    commit(lake, "a", ("train", range(6)), ("test", range(6, 8)))
    commit(lake, "b", ("test", [0, 1]), ("train", [5, 6, 20]))  # 0, 1 and 6 lie in the other split, 5 is the same
    with pytest.raises(
        AlreadyExists, match=r"3 keys of b@1 are in a@1 already, with other content.*'one/item 0000', 'one/item 0006', 'three/item 0001';"
    ):
        append(lake, "a", "b")
    assert lake.catalog.version("a").number == 1
    clone(lake, "a", "c")
    skipped = append(lake, "a", "b", on_conflict="skip")
    assert (skipped.added, skipped.skipped, skipped.replaced, skipped.samples) == (1, 4, 0, 9)
    assert held(lake, "a") == expected(("train", range(6)), ("test", range(6, 8)), ("train", [20]))
    replaced = append(lake, "c", "b", on_conflict="replace")
    assert (replaced.added, replaced.skipped, replaced.replaced, replaced.samples) == (1, 1, 3, 9)
    assert held(lake, "c") == expected(("train", range(2, 6)), ("test", [7, 0, 1]), ("train", [6, 20]))
    assert not append(lake, "c", "b", on_conflict="replace").committed
    with pytest.raises(InvalidArgument, match="on_conflict is 'merge'; it may be error, skip, replace"):
        append(lake, "a", "b", on_conflict="merge")
    assert verify_lake(lake).problems == []


def test_a_part_of_which_all_is_replaced_is_left_out(lake):
    commit(lake, "a", ("train", range(3)), ("train", range(3, 6)))
    split(lake, "a", "test=1", to="b")
    where(lake, "b", keys=[make.sample(n)[0] for n in range(3)], to="c")
    append(lake, "a", "c", on_conflict="replace")
    assert len(lake.catalog.version("a").parts) == 2
    assert held(lake, "a") == expected(("train", range(3, 6)), ("test", range(3)))


def test_appends_pile_up_into_few_parts(lake):
    for number in range(20):
        commit(lake, f"d{number}", ("train", [number]))
        append(lake, "all", f"d{number}")
    version = lake.catalog.version("all")
    assert (version.number, len(version.parts)) == (20, 6)
    assert held(lake, "all") == expected(("train", range(20)))


def test_an_append_follows_a_commit_that_comes_first(lake):
    commit(lake, "a", ("train", range(3)))
    commit(lake, "b", ("train", range(2, 6)))
    other, calls = Lake(lake.url), []
    inner = lake.catalog.commit

    def late(name, make_):
        def first(newest):
            if not calls:
                calls.append(append(other, "a", "b").version)
            return make_(newest)

        return inner(name, first)

    commit(lake, "c", ("train", range(4, 8)))
    lake.catalog.commit = late
    result = append(lake, "a", "c")
    assert (calls, result.version, result.added, result.skipped) == ([2], 3, 2, 2)
    assert held(lake, "a") == expected(("train", range(8)))


@pytest.mark.parametrize(
    ("mine", "theirs", "together"),
    [
        ((), (), ()),
        (("cat",), (), ("cat",)),
        (("cat",), ("cat", "dog"), ("cat", "dog")),
        (("cat", "dog"), ("cat",), ("cat", "dog")),
    ],
)
def test_class_lists_of_which_one_begins_with_the_other_fit(mine, theirs, together):
    fields = (Field("cls", "class"), Field("jpg", "image"))
    assert joined_schema(Schema(fields[:1], mine), Schema(fields[1:], theirs), "a", "b@1") == Schema(fields, together)


def test_other_class_ids_cannot_be_shared(lake):
    commit(lake, "a", ("train", [0]))
    commit(lake, "b", ("train", [1]), schema=Schema(make.SCHEMA.fields, ("one", "two", "three")))
    with pytest.raises(
        InvalidArgument,
        match=r"id 1 is 'three' in a \(one, three, two\) but 'two' in b@1 \(one, two, three\)\. Ingest the sources of b@1 into a",
    ):
        append(lake, "a", "b")
    commit(lake, "c", ("train", [1]), schema=Schema((Field("jpg", "bytes"),), ()))
    with pytest.raises(InvalidArgument, match="field 'jpg' holds image in this dataset, not bytes"):
        append(lake, "a", "c")


def test_diff(lake):
    commit(lake, "a", ("train", range(6)), ("test", range(6, 8)))
    commit(
        lake,
        "b",
        ("train", range(6)),
        ("train", [6]),
        ("test", [9, 10]),
        schema=Schema((Field("jpg", "image"),), ("one", "three", "two", "four")),
    )
    found = diff(lake, "a", "b")
    assert (found.a, found.b, found.added, found.removed, found.changed, found.samples, found.same) == (
        "a@1",
        "b@1",
        2,
        1,
        1,
        (8, 9),
        False,
    )
    assert found.keys == {"added": ("one/item 0009", "three/item 0010"), "removed": ("three/item 0007",), "changed": ("one/item 0006",)}
    assert found.changes == {"content": 0, "bytes": 0, "label": 0, "split": 1}
    assert found.schema == SchemaDiff(fields_removed=("cls",), classes_added=("four",))
    back = diff(lake, "b", "a", limit=1)
    assert (back.added, back.removed, back.changed) == (1, 2, 1)
    assert back.keys == {"added": ("three/item 0007",), "removed": ("one/item 0009",), "changed": ("one/item 0006",)}
    assert diff(lake, "a", "a").same
    assert diff(lake, "a", "a").to_json()["keys"] == {"added": [], "removed": [], "changed": []}
    with pytest.raises(InvalidArgument, match="limit is -1"):
        diff(lake, "a", "b", limit=-1)


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("label", "four", ("label",)),
        ("label", None, ("label",)),
        ("bytes", 7, ("bytes",)),
        ("source_blake3", bytes(32), ("content",)),
        ("source_blake3", None, ()),  # nobody has read it yet: what the source's etag says counts
        ("source_etag", "other", ()),  # touched, with the same bytes
        (("source_blake3", "source_etag"), (None, "other"), ("content",)),
        ("width", 7, ()),
    ],
)
def test_what_makes_a_sample_another(lake, column, value, what):
    done = make.finished(lake, "train", range(3))
    commit(lake, "a", ("train", range(3)))
    rows = done.metadata.to_pylist()
    rows[1] |= dict(zip(column, value, strict=True)) if isinstance(column, tuple) else {column: value}
    changed = replace(done, metadata=pa.Table.from_pylist(rows, schema=done.metadata.schema))
    parts = [make.part(lake, [changed])]
    lake.catalog.commit("b", lambda _: make.change(parts, [done.shard]))
    found = diff(lake, "a", "b")
    assert (found.added, found.removed, found.changed) == (0, 0, int(bool(what)))
    assert tuple(name for name, count in found.changes.items() if count) == what
    if what:
        with pytest.raises(AlreadyExists, match="1 keys of b@1"):
            append(lake, "a", "b")
    else:
        assert append(lake, "a", "b").skipped == 3


def test_what_was_bad_stays_told(lake):
    bad = {"count": 1, "samples": [{"source": "x.jpg", "reason": "empty", "etag": "e"}]}
    done = make.finished(lake, "train", range(3))
    parts = [make.part(lake, [done])]
    lake.catalog.commit("a", lambda _: make.change(parts, [done.shard], bad=bad))
    commit(lake, "b", ("train", range(3, 5)))
    append(lake, "a", "b")
    clone(lake, "a", "c")
    split(lake, "c", "x=1")
    where(lake, "a", "true", to="d")
    assert [lake.catalog.version(name).bad for name in "acd"] == [bad, bad, {}]


def test_diff_reads_only_parts_that_differ(lake):
    commit(lake, "a", ("train", range(6)))
    commit(lake, "b", ("train", [6]))
    clone(lake, "a", "c")
    append(lake, "c", "b")
    (part,) = lake.catalog.version("a").parts
    lake.store.delete(part.metadata.path)
    found = diff(lake, "a", "c")
    assert (found.added, found.removed, found.changed) == (1, 0, 0)


def test_diff_against_sets(lake):
    rng = random.Random(1)
    everything = [(number, rng.choice(["train", "test"])) for number in range(30)]
    versions = []
    for name in ("a", "b"):
        mine = [(n, s if rng.random() < 0.8 else "train") for n, s in everything if rng.random() < 0.7]
        commit(lake, name, *((s, [n for n, of in mine if of == s]) for s in ("train", "test")))
        versions.append({make.sample(n)[0]: s for n, s in mine})
    a, b = versions
    found = diff(lake, "a", "b")
    assert set(found.keys["added"]) == b.keys() - a.keys()
    assert set(found.keys["removed"]) == a.keys() - b.keys()
    assert set(found.keys["changed"]) == {key for key in a.keys() & b.keys() if a[key] != b[key]} != set()
    assert [found.added, found.removed, found.changed] == [len(keys) for keys in found.keys.values()]


def test_lineage(lake):
    commit(lake, "a", ("train", range(6)))
    commit(lake, "b", ("train", range(6, 9)))
    clone(lake, "a", "mine")
    append(lake, "mine", "b")
    where(lake, "mine", "label = 'one'", to="ones")
    found = lineage(lake, "ones")
    assert [(each.version, each.operation, each.parents, each.source, each.samples, each.gone) for each in found] == [
        ("ones@1", "where", ("mine@2",), "mine@2", 3, False),
        ("mine@2", "append", ("mine@1", "b@1"), "b@1", 9, False),
        ("mine@1", "clone", ("a@1",), "a@1", 6, False),
        ("b@1", "make", (), "tests", 3, False),
        ("a@1", "make", (), "tests", 6, False),
    ]
    assert found[0].to_json()["parameters"]["condition"] == "label = 'one'"
    assert found[0].tool.startswith("dataplane ")
    assert [each.version for each in lineage(lake, "ones", limit=2)] == ["ones@1", "mine@2"]
    with pytest.raises(NotFound):
        lineage(lake, "nobody")
    with pytest.raises(InvalidArgument, match="limit is 0"):
        lineage(lake, "ones", limit=0)


def test_ancestors_that_are_gone_are_told_of(lake):
    commit(lake, "a", ("train", range(3)))
    clone(lake, "a", "mine")
    parts, schema, splits = (getattr(lake.catalog.version("mine"), name) for name in ("parts", "schema", "splits"))
    lake.catalog.commit("a", lambda _: Change("rm", {}, Schema(), (), {}, removed=True))
    assert [(each.version, each.operation, each.gone) for each in lineage(lake, "mine")] == [
        ("mine@1", "clone", False),
        ("a@1", "make", True),
    ]
    assert (len(parts), splits["train"].samples, schema) == (1, 3, make.SCHEMA)
    lake.store.delete(lake.catalog.log("a").path(1))
    assert lineage(lake, "mine")[1].operation is None


def test_tags(lake):
    make.dataset(lake)
    make.dataset(lake)
    assert tags(lake, "numbers") == {}
    assert tag(lake, "numbers@1", "prod").to_json() == {"name": "numbers", "tag": "prod", "version": 1}
    assert tag(lake, "numbers", "next").version == 2
    assert tag(lake, "numbers@next", "prod").version == 2
    assert tags(lake, "numbers") == {"next": 2, "prod": 2}
    assert str(lake.catalog.version("numbers@prod")) == "numbers@2"
    with pytest.raises(NotFound):
        tag(lake, "numbers@7", "prod")
    with pytest.raises(InvalidArgument, match="would read as a version number"):
        tag(lake, "numbers", "7")
    with pytest.raises(NotFound):
        tags(lake, "letters")


def test_append_that_reads_no_key_costs_one_commit(lake):
    commit(lake, "a", ("train", range(4)), ("test", range(4, 6)))
    commit(lake, "b", ("train", range(6, 9)), ("val", range(9, 11)))
    recorded = RecordingStore(lake.store)
    result = append(Lake(recorded), "a", "b", new_keys=True)
    assert [call for call in recorded.calls if call.path.startswith("objects/")] == []
    assert (result.version, result.added, result.skipped, result.samples) == (2, 5, 0, 11)
    assert held(lake, "a") == expected(("train", range(4)), ("test", range(4, 6)), ("train", range(6, 9)), ("val", range(9, 11)))
    assert lake.catalog.version("a").splits == split_counts(lake.dataset("a").parts)
    again = append(lake, "a", "b", new_keys=True)
    assert (again.version, again.added, again.skipped, again.committed) == (2, 0, 5, False)
    commit(lake, "c", ("train", range(20, 22)))
    append(lake, "b", "c")
    more = append(lake, "a", "b", new_keys=True)  # parts that both have are not doubled
    assert (more.version, more.added, more.skipped, more.samples) == (3, 2, 5, 13)
    assert lake.catalog.version("a").splits == split_counts(lake.dataset("a").parts)
    assert verify_lake(lake, deep=True).ok
    with pytest.raises(InvalidArgument, match="none are looked for"):
        append(lake, "a", "b", new_keys=True, on_conflict="skip")


def test_repeated_appends_without_keys_double_nothing_even_when_parts_have_been_merged(lake):
    for n in range(8):
        commit(lake, f"b{n}", ("train", [n]))
        append(lake, "a", f"b{n}", new_keys=True)
    assert len(lake.catalog.version("a").parts) == 1
    assert append(lake, "a", "b7", new_keys=True).committed is False
    assert held(lake, "a") == expected(("train", range(8)))
