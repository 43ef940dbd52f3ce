"""Deep verification, and putting back what is damaged from a copy."""

import shutil
import uuid
from dataclasses import replace

import pyarrow as pa
import pytest

from dataplane import Lake
from dataplane.catalog import Part
from dataplane.errors import NotFound
from dataplane.manifest import METADATA, write_metadata, write_shards
from dataplane.refs import Foreign
from dataplane.shards import ShardRow
from dataplane.store import open_store
from dataplane.upkeep import expire, gc, verify_lake
from tests import make


@pytest.fixture
def lake(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    for count in (2, 3, 4):
        make.dataset(lake, "numbers", train=(count,), test=(1,))
    lake.catalog.tag("numbers", "prod", 1)
    return lake


@pytest.fixture
def copy(lake, tmp_path):
    shutil.copytree(lake.url, tmp_path / "copy")
    return Lake(str(tmp_path / "copy"))


def paths(lake, prefix=""):
    return sorted(meta["path"] for chunk in lake.store.list() for meta in chunk if meta["path"].startswith(prefix))


def flip(lake, path):
    data = bytearray(memoryview(lake.store.get(path).buffer()))
    data[len(data) // 2] ^= 1
    lake.store.put(path, bytes(data))


def contents(lake):
    return {path: bytes(memoryview(lake.store.get(path).buffer())) for path in paths(lake)}


# ------------------------------------------------------------------ repair


@pytest.mark.parametrize("damage", ["flip", "delete", "truncate"])
def test_everything_is_put_back_from_a_copy(lake, copy, damage):
    before = contents(lake)
    last = {lake.catalog.log("numbers").path(3), lake.catalog.tag_log("numbers", "prod").path(1)}  # nobody misses a log's last entry
    hurt = [path for path in paths(lake) if path != "lake.json" and not (damage == "delete" and path in last)]
    for path in hurt:
        if damage == "flip":
            flip(lake, path)
        elif damage == "delete":
            lake.store.delete(path)
        else:
            lake.store.put(path, b"")
    report = verify_lake(lake, repair=copy.url)
    assert report.problems == []
    assert sorted(report.repaired) == sorted(hurt)
    assert report.ok
    assert contents(lake) == before
    again = verify_lake(lake, repair=copy.url, deep=True)
    assert (again.ok, again.repaired) == (True, [])


def test_without_a_copy_everything_is_listed(lake):
    for path in paths(lake, "objects/"):
        flip(lake, path)
    report = verify_lake(lake)
    assert report.repaired is None
    assert "repaired" not in report.to_json()
    assert len(report.problems) > 3


def test_what_cannot_be_repaired_stays_listed(lake, copy):
    one, two = paths(lake, "objects/")[:2]
    for path in (one, two):
        flip(lake, path)
    flip(copy, one)
    copy.store.delete(two)
    report = verify_lake(lake, repair=copy.url)
    reasons = {problem.object: problem.reason for problem in report.problems}
    assert reasons.keys() == {one, two}
    assert "has only a damaged one either" in reasons[one]
    assert "has none either" in reasons[two]
    assert (report.ok, report.to_json()["repaired"]) == (False, [])


@pytest.mark.parametrize("layout", ["objects/{hex:.2}/{hex}{suffix}", "{hex:.2}/{hex}{suffix}", "{hex}{suffix}"])
def test_from_a_folder_or_bucket_of_objects(lake, layout):
    folder = open_store(f"memory://{uuid.uuid4().hex}")
    for path in paths(lake, "objects/"):
        name = path.rsplit("/", 1)[1]
        digest, dot, suffix = name.partition(".")
        folder.put(layout.format(hex=digest, suffix=dot + suffix), lake.store.get(path).buffer())
        flip(lake, path)
    commit = lake.catalog.log("numbers").path(2)
    flip(lake, commit)
    report = verify_lake(lake, repair=folder)
    assert [problem.object for problem in report.problems] == [commit]
    assert "is no lake, so no commit can come from it" in report.problems[0].reason


def test_another_lake_gives_objects_but_no_commits(lake, tmp_path):
    other = Lake.init(str(tmp_path / "other"))
    for count in (2, 3, 4):
        make.dataset(other, "numbers", train=(count,), test=(1,))
    commit, shard = lake.catalog.log("numbers").path(2), lake.dataset("numbers")["train"].shards[0].row.ref.path
    for path in (commit, shard):
        flip(lake, path)
    report = verify_lake(lake, repair=other.url)
    assert report.repaired == [shard]
    assert [problem.object for problem in report.problems] == [commit]
    assert f"is another lake ({other.id})" in report.problems[0].reason


def test_a_copy_that_was_written_on_gives_no_commits_of_its_own(lake, copy):
    make.dataset(lake, "numbers", train=(7,))
    make.dataset(lake, "numbers", train=(8,))
    for count in (9, 10):
        make.dataset(copy, "numbers", train=(count,))
    path = lake.catalog.log("numbers").path(4)
    flip(lake, path)
    report = verify_lake(lake, repair=copy.url)
    assert [problem.object for problem in report.problems] == [path]
    assert "the history of" in report.problems[0].reason


def test_nothing_to_repair_from(lake, tmp_path):
    with pytest.raises(NotFound, match="holds nothing to repair from"):
        verify_lake(lake, repair=str(tmp_path / "nothing"))


def test_only_one_dataset(lake, copy):
    make.dataset(lake, "others", train=(9,))
    hurt = lake.dataset("others")["train"].shards[0].row.ref.path
    flip(lake, hurt)
    assert verify_lake(lake, "numbers", repair=copy.url).ok
    assert not verify_lake(lake, "others", repair=copy.url).ok


def test_what_was_expired_is_not_missed(lake):
    expire(lake, "numbers", keep_last=1, keep_tagged=False)
    lake.catalog.tag("numbers", "prod", 4)
    assert gc(lake, grace_seconds=0).objects > 0
    assert verify_lake(lake, deep=True).problems == []
    assert verify_lake(lake, "numbers").problems == []


# ------------------------------------------------------------------ deep


def commit(lake, rows, tables, *, samples=None):
    """A version of the dataset "odd" with these shards and their metadata."""
    table = pa.concat_tables(
        each.add_column(0, METADATA.field("shard"), pa.array([number] * len(each), pa.int32())) for number, each in enumerate(tables)
    )
    part = Part(
        lake.objects.put(write_shards(rows), suffix=".parquet"),
        lake.objects.put(write_metadata(table), suffix=".parquet"),
        sum(row.live for row in rows) if samples is None else samples,
    )
    lake.catalog.commit("odd", lambda _: make.change([part], rows))
    return part


def told(lake, spec="odd", **options):
    return {problem.object: problem.reason for problem in verify_lake(lake, spec, deep=True, **options).problems}


def test_a_sound_lake_is_sound_to_the_bottom(lake):
    report = verify_lake(lake, deep=True)
    assert report.problems == []
    assert report.objects == verify_lake(lake).objects


def test_a_shard_that_does_not_hold_what_its_index_says(lake):
    one, two = make.finished(lake, "train", range(4)), make.finished(lake, "train", range(20, 24))
    mixed = replace(one.shard, index=two.shard.index)
    commit(lake, [mixed], [one.metadata])
    found = told(lake)
    assert one.shard.ref.path in found
    assert verify_lake(lake, "odd").ok  # only reading the samples tells


def test_metadata_of_other_samples(lake):
    one, two = make.finished(lake, "train", range(4)), make.finished(lake, "train", range(20, 24))
    part = commit(lake, [one.shard], [two.metadata])
    assert told(lake) == {part.metadata.path: f"4 of its keys of shard 0 are not those in the index {one.shard.index.path}"}


def test_metadata_that_lack_samples(lake):
    one = make.finished(lake, "train", range(4))
    part = commit(lake, [one.shard], [one.metadata.slice(0, 3)])
    assert told(lake) == {part.metadata.path: f"it has 3 rows of the 4 samples that {part.shards.path} selects"}


def test_metadata_with_a_sample_twice(lake):
    one = make.finished(lake, "train", range(4))
    part = commit(lake, [one.shard], [pa.concat_tables([one.metadata.slice(0, 3), one.metadata.slice(0, 1)])])
    assert "it has 4 rows of the 4 samples" in told(lake)[part.metadata.path]


def test_metadata_of_rows_that_are_not_there(lake):
    one, two = make.finished(lake, "train", range(2)), make.finished(lake, "train", range(4))
    part = commit(lake, [one.shard], [two.metadata])
    assert told(lake) == {part.metadata.path: f"2 of its rows are of samples that no shard of {part.shards.path} has"}


def test_a_part_that_counts_wrongly(lake):
    one = make.finished(lake, "train", range(4))
    part = commit(lake, [one.shard], [one.metadata], samples=5)
    assert told(lake) == {part.shards.path: "it selects 4 samples; its commit says 5"}


def test_a_view(lake):
    one = make.finished(lake, "train", range(4))
    commit(lake, [one.shard.without([1])], [one.metadata])
    assert told(lake) == {}


# ------------------------------------------------------------------ adopted objects


@pytest.fixture
def adopted(lake, tmp_path):
    """The file of a shard that was adopted."""
    one = make.finished(lake, "train", range(4))
    file = tmp_path / "elsewhere" / "shard.tar"
    file.parent.mkdir()
    file.write_bytes(lake.objects.get(one.shard.ref))
    ref = Foreign(str(file), file.stat().st_size, open_store(str(file.parent)).head("shard.tar")["e_tag"])
    row = ShardRow("train", "tar", ref, one.shard.index, 4, one.shard.bytes)
    commit(lake, [row], [one.metadata])
    return file


def test_an_adopted_object_is_looked_at(lake, adopted):
    report = verify_lake(lake, "odd")
    assert (report.ok, report.adopted) == (True, 1)
    assert told(lake) == {}
    data = adopted.read_bytes()
    adopted.write_bytes(data[:-1] + b"x")
    (problem,) = verify_lake(lake, "odd").problems
    assert problem.object == str(adopted)
    assert "adopt it again" in problem.reason
    adopted.unlink()
    (problem,) = verify_lake(lake, "odd").problems
    assert "gone" in problem.reason


def test_adopted_bytes_that_were_wrong_from_the_start(lake, adopted, tmp_path):
    data = bytearray(adopted.read_bytes())
    at = data.find(b"\xff\xd8")
    data[at + 30] ^= 1
    adopted.write_bytes(data)
    one = make.finished(lake, "train", range(4))
    ref = Foreign(str(adopted), len(data), open_store(str(adopted.parent)).head("shard.tar")["e_tag"])
    commit(lake, [ShardRow("train", "tar", ref, one.shard.index, 4, one.shard.bytes)], [one.metadata])
    assert verify_lake(lake, "odd@2").ok
    assert list(told(lake, "odd@2")) == [str(adopted)]
