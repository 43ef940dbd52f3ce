"""Verification finds every kind of damage and names it."""

import pytest

from dataplane import Lake
from dataplane.catalog import Part
from dataplane.errors import NotFound
from dataplane.manifest import write_shards
from dataplane.refs import Digest, ref_to_json, referenced
from dataplane.shards import ShardRow
from dataplane.upkeep import Problem, Report, verify_lake
from tests import make


@pytest.fixture
def lake(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    make.dataset(lake, "numbers", train=(4, 3), test=(2,))
    make.dataset(lake, "others", train=(5,))
    lake.catalog.tag("numbers", "prod", 1)
    weights = lake.objects.put(b"weights", suffix=".bin")
    lake.log("runs", "first").append(lambda _: {"step": 1, "state": [{"weights": ref_to_json(weights)}]})
    lake.log("models", "digits").append(lambda _: {"weights": ref_to_json(weights)})
    return lake


def flip(lake, path, at=None):
    file = lake.store.root / path
    data = bytearray(file.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    file.write_bytes(data)


def first_shard(lake, name="numbers"):
    return lake.dataset(name)["train"].shards[0].row


def problems(lake, spec=None):
    return [problem.object for problem in verify_lake(lake, spec).problems]


def test_a_sound_lake(lake):
    seen = []
    report = verify_lake(lake, progress=seen.append)
    stored = [meta for chunk in lake.store.list("objects") for meta in chunk]
    assert report.ok
    assert report.to_json() == {"ok": True, "objects": len(stored), "bytes": sum(meta["size"] for meta in stored), "problems": []}
    assert seen == list(range(1, len(stored) + 1))


def test_what_nobody_names_is_not_read(lake):
    before = verify_lake(lake).objects
    lake.objects.put(b"left over", suffix=".bin")
    assert verify_lake(lake).objects == before


@pytest.mark.parametrize("which", ["ref", "index"])
def test_a_flipped_byte_in_an_object(lake, which):
    path = getattr(first_shard(lake), which).path
    flip(lake, path)
    report = verify_lake(lake)
    assert [problem.object for problem in report.problems] == [path]
    assert "is damaged" in report.problems[0].reason
    assert "put it back from a copy" in report.problems[0].reason
    assert not report.ok


def test_everything_damaged_is_listed(lake):
    row = first_shard(lake)
    part = lake.catalog.version("others").parts[0]
    for path in (row.ref.path, row.index.path, part.shards.path, part.metadata.path):
        flip(lake, path)
    assert sorted(problems(lake)) == sorted([row.ref.path, row.index.path, part.shards.path, part.metadata.path])


def test_a_missing_object(lake):
    row = first_shard(lake)
    lake.store.delete(row.ref.path)
    report = verify_lake(lake)
    assert [problem.object for problem in report.problems] == [row.ref.path]
    assert "no such object" in report.problems[0].reason


def test_a_truncated_object(lake):
    row = first_shard(lake)
    (lake.store.root / row.ref.path).write_bytes(b"")
    assert problems(lake) == [row.ref.path]


def test_weights_of_runs_and_models(lake):
    path = lake.objects.put(b"weights", suffix=".bin").path
    flip(lake, path)
    assert problems(lake) == [path]


@pytest.mark.parametrize("path", ["datasets/numbers/log", "datasets/numbers/tags/prod", "runs/first/log", "models/digits/log"])
def test_a_flipped_byte_in_a_commit(lake, path):
    path = f"{path}/{1:020d}.json"
    flip(lake, path)
    report = verify_lake(lake)
    assert [problem.object for problem in report.problems] == [path]
    assert "is damaged" in report.problems[0].reason


def test_a_part_of_the_lake(lake):
    make.dataset(lake, "numbers", train=(6,))
    flip(lake, first_shard(lake, "others").ref.path)
    assert problems(lake, "numbers") == problems(lake, "numbers@1") == problems(lake, "numbers@prod") == []
    assert problems(lake, "others") == problems(lake, "others@1") == problems(lake)
    assert verify_lake(lake, "numbers").objects > verify_lake(lake, "numbers@1").objects


def test_a_damaged_newest_commit_is_a_finding_too(lake):
    path = lake.catalog.log("numbers").path(1)
    flip(lake, path)
    assert problems(lake, "numbers") == problems(lake, "numbers@1") == [path]


def test_what_is_not_there(lake):
    for spec in ("nothing", "numbers@9", "numbers@dev"):
        with pytest.raises(NotFound):
            verify_lake(lake, spec)


def test_an_index_of_something_else(lake):
    one, two = make.finished(lake, "train", range(4)), make.finished(lake, "train", range(20, 23))
    row = ShardRow("train", "tar", one.shard.ref, two.shard.index, 4, one.shard.bytes)
    part = Part(lake.objects.put(write_shards([row]), suffix=".parquet"), make.part(lake, [one]).metadata, 4)
    lake.catalog.commit("mixed", lambda _: make.change([part], [row]))
    assert verify_lake(lake, "mixed").problems == [Problem(two.shard.index.path, "it indexes 3 samples; its shard has 4")]


def test_an_object_is_read_once(lake):
    make.dataset(lake, "again", train=(4, 3), test=(2,))
    report = verify_lake(lake)
    stored = [meta for chunk in lake.store.list("objects") for meta in chunk]
    assert report.objects == len(stored)


def test_the_advice_repairs(lake):
    path = first_shard(lake).ref.path
    flip(lake, path)
    assert problems(lake) == [path]
    make.dataset(lake, "again", train=(4, 3), test=(2,))
    assert problems(lake) == []


def test_references_are_found_anywhere():
    one, two = Digest("ab" * 32, ".bin", 1), Digest("cd" * 32, ".bin", 2)
    body = {"a": [{"b": ref_to_json(one)}, 5, "x"], "c": {"d": {"e": ref_to_json(two)}}, "url": {"url": "s3://b/k", "size": 3}}
    assert list(referenced(body)) == [one, two]
    assert list(referenced({})) == []


def test_a_report_starts_well():
    assert Report().ok


@pytest.mark.parametrize(("lost", "count"), [(1, 3), (2, 3), (3, 5), (2, 2)])
def test_a_lost_commit(lake, lost, count):
    for number in range(1, count):
        make.dataset(lake, "others", train=(5, number))
    path = f"datasets/others/log/{lost:020d}.json"
    lake.store.delete(path)
    assert problems(lake) == ([path] if lost < count else [])


def test_a_lost_commit_of_a_run_and_of_a_tag(lake):
    for _ in range(2):
        lake.log("runs", "first").append(lambda _: {})
        lake.catalog.tag("numbers", "prod", 1)
    lost = [f"datasets/numbers/tags/prod/{1:020d}.json", f"runs/first/log/{1:020d}.json"]
    lake.store.delete(lost)
    assert sorted(problems(lake)) == lost
    assert problems(lake, "numbers") == []
