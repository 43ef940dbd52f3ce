"""Datasets, versions and tags in a lake."""

import pytest

from dataplane import Lake
from dataplane.catalog import Part, check_name, parse_spec
from dataplane.errors import CommitConflict, CorruptObject, InvalidArgument, NotFound
from dataplane.refs import Digest
from dataplane.schema import Schema
from tests import make


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


@pytest.mark.parametrize("name", ["a", "photos", "A.b-c_9", "9", "x" * 128])
def test_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-dash", "a/b", "a b", "ü", "a@1", "x" * 129, "a\n"])
def test_what_cannot_be_a_name(name):
    with pytest.raises(InvalidArgument, match="cannot name a dataset: letters, digits"):
        check_name(name)


@pytest.mark.parametrize(
    ("spec", "parsed"), [("photos", ("photos", None)), ("photos@7", ("photos", "7")), ("photos@prod", ("photos", "prod"))]
)
def test_specs(spec, parsed):
    assert parse_spec(spec) == parsed


def test_a_spec_names_a_version():
    with pytest.raises(InvalidArgument, match="write photos, photos@7 or photos@TAG"):
        parse_spec("photos@")


def test_versions_and_their_history(lake):
    first = make.dataset(lake, "numbers", train=(4,))
    second = make.dataset(lake, "numbers", train=(4, 2), test=(1,))
    catalog = lake.catalog
    assert (str(first), str(second)) == ("numbers@1", "numbers@2")
    assert catalog.version("numbers") == catalog.version("numbers@2") == second
    assert catalog.version("numbers@1") == first
    assert first.lineage["parents"] == []
    assert second.lineage["parents"] == ["numbers@1"]
    assert second.lineage["tool"].startswith("dataplane ")
    assert (second.samples, second.splits["train"].shards) == (7, 2)
    assert second.bytes == sum(count.bytes for count in second.splits.values()) > first.bytes
    assert second.schema == make.SCHEMA


def test_names_are_those_with_a_version(lake, tmp_path):
    make.dataset(lake, "numbers")
    make.dataset(lake, "another")
    lake.store.put("datasets/empty/notes.txt", b"")
    lake.store.put("datasets/.ipynb_checkpoints/x", b"")
    assert lake.catalog.names() == lake.datasets() == ["another", "numbers"]


def test_what_is_not_there_is_answered_with_what_is(lake):
    with pytest.raises(NotFound, match="no dataset 'photos'; it has: none yet"):
        lake.catalog.version("photos")
    make.dataset(lake, "numbers")
    with pytest.raises(NotFound, match="no dataset 'photos'; it has: numbers"):
        lake.catalog.version("photos")
    for spec in ("numbers@2", "numbers@0", "numbers@99999999999999999999"):
        with pytest.raises(NotFound, match=r"numbers has no version \d+; it has 1$"):
            lake.catalog.version(spec)
    with pytest.raises(NotFound, match="numbers has no tag 'prod'; it has: none"):
        lake.catalog.version("numbers@prod")
    with pytest.raises(InvalidArgument):
        lake.catalog.version("numbers@²")


def test_a_tag_moves(lake):
    make.dataset(lake, "numbers")
    make.dataset(lake, "numbers")
    lake.catalog.tag("numbers", "prod", 2)
    assert lake.catalog.version("numbers@prod").number == 2
    lake.catalog.tag("numbers", "prod", 1)
    assert lake.catalog.version("numbers@prod").number == lake.catalog.number("numbers@prod") == 1
    assert lake.catalog.tags("numbers") == ["prod"]
    with pytest.raises(NotFound, match="it has: prod"):
        lake.catalog.version("numbers@dev")


def test_a_tag_names_what_is_there(lake):
    make.dataset(lake, "numbers")
    with pytest.raises(NotFound):
        lake.catalog.tag("numbers", "prod", 2)
    with pytest.raises(InvalidArgument, match="would read as a version number"):
        lake.catalog.tag("numbers", "7", 1)
    with pytest.raises(InvalidArgument, match="cannot name a tag"):
        lake.catalog.tag("numbers", "a b", 1)


def test_a_commit_sees_the_newest_version_and_may_decline(lake):
    make.dataset(lake, "numbers")
    seen = []
    assert lake.catalog.commit("numbers", seen.append) is None
    assert [str(version) for version in seen] == ["numbers@1"]
    assert lake.catalog.version("numbers").number == 1


def test_a_commit_may_refuse_what_came_first(lake):
    def refuse(newest):
        raise CommitConflict(f"{newest} came first")

    make.dataset(lake, "numbers")
    with pytest.raises(CommitConflict, match="numbers@1 came first"):
        lake.catalog.commit("numbers", refuse)


def test_bad_samples_are_part_of_the_version(lake):
    bad = {"count": 1, "samples": [{"source": "x.jpg", "reason": "empty"}]}
    version = lake.catalog.commit("numbers", lambda _: make.change([], [], schema=Schema(), bad=bad))
    assert version.bad == lake.catalog.version("numbers").bad == bad
    assert version.samples == version.bytes == 0


@pytest.mark.parametrize("body", [{}, {"schema": {}}, {"splits": 5}, {"schema": {"fields": {}, "classes": []}, "parts": None}])
def test_a_commit_of_something_else_is_named(lake, body):
    lake.catalog.log("numbers").append(lambda _: body)
    with pytest.raises(CorruptObject, match=r"numbers@1 is no commit of a dataset|not a schema"):
        lake.catalog.version("numbers")


def test_a_part_in_a_commit_and_back():
    part = Part(Digest("ab" * 32, ".parquet", 5000), Digest("cd" * 32, ".parquet", 300), 10)
    assert Part.from_json(part.to_json()) == part
    foreign = {"url": "x", "size": 1}
    with pytest.raises(CorruptObject, match="not a manifest part"):
        Part.from_json({"shards": foreign, "metadata": foreign})
