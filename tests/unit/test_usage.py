"""Where the bytes are: every object counts for all who name it."""

import uuid
from dataclasses import replace

import pytest

from dataplane import Lake
from dataplane.journal import Journal
from dataplane.refs import ref_to_json
from dataplane.upkeep import expire, gc, rm, usage
from tests import make


@pytest.fixture(params=["folder", "memory", "s3"])
def lake(request, tmp_path):
    urls = {
        "folder": lambda: str(tmp_path / "lake"),
        "memory": lambda: f"memory://usage-{uuid.uuid4().hex}",
        "s3": lambda: request.getfixturevalue("s3").url(),
    }
    return Lake.init(urls[request.param]())


def stored(lake):
    return sum(meta["size"] for chunk in lake.store.list("objects") for meta in chunk)


def by_name(report):
    return {(user.kind, user.name): user for user in report.users}


def clone(lake, spec, name):
    parent = lake.catalog.version(spec)
    change = replace(make.change(parent.parts, []), splits=parent.splits, parents=(str(parent),))
    return lake.catalog.commit(name, lambda _: change)


def test_of_everybody(lake):
    make.dataset(lake, "numbers", train=(4, 3))
    first = stored(lake)
    clone(lake, "numbers", "mine")
    make.dataset(lake, "mine", train=(9,))
    after = stored(lake)
    weights = lake.objects.put(b"weights", suffix=".bin")
    for kind in ("runs", "models"):
        lake.log(kind, "first").append(lambda _: {"weights": ref_to_json(weights)})
    lake.objects.put(b"left over", suffix=".bin")
    lake.store.put("objects/notes.txt", b"not ours")
    with Journal(lake.store, "numbers") as journal:
        journal.add(make.finished(lake, "train", [90]))
        report = usage(lake)
        journal.finish()
    users = by_name(report)
    numbers, mine = users["datasets", "numbers"], users["datasets", "mine"]
    assert [kind for kind, _ in users] == ["datasets", "datasets", "runs", "models", "writers"]
    assert (numbers.bytes, numbers.unique_bytes, numbers.shared_bytes) == (first, 0, first)
    assert (mine.bytes, mine.unique_bytes, mine.shared_bytes) == (after, after - first, first)
    assert (users["runs", "first"].bytes, users["runs", "first"].unique_bytes, users["models", "first"].shared_bytes) == (7, 0, 7)
    assert (report.garbage_objects, report.garbage_bytes) == (2, 17)
    assert report.bytes == stored(lake)
    assert report.objects == sum(len(chunk) for chunk in lake.store.list("objects"))
    document = report.to_json()
    assert document["users"][0] == {
        "kind": "datasets",
        "name": "mine",
        "objects": mine.objects,
        "bytes": after,
        "unique_bytes": after - first,
        "shared_bytes": first,
    }


def test_its_own_is_what_removing_frees(lake):
    make.dataset(lake, "numbers", train=(4, 3))
    make.dataset(lake, "others", train=(4, 9))  # one shard is the same
    own = by_name(usage(lake))["datasets", "others"].unique_bytes
    before = stored(lake)
    rm(lake, "others")
    assert usage(lake).garbage_bytes == own
    assert gc(lake, grace_seconds=0).bytes == own == before - stored(lake)


def test_what_was_expired_is_garbage(lake):
    make.dataset(lake, "numbers", train=(4,))
    make.dataset(lake, "numbers", train=(5,))
    assert usage(lake).garbage_bytes == 0
    expire(lake, "numbers", keep_last=1)
    report = usage(lake)
    assert report.garbage_bytes > 0
    assert report.bytes == report.garbage_bytes + report.users[0].bytes


def test_a_new_lake(lake):
    report = usage(lake)
    assert (report.users, report.objects, report.bytes, report.garbage_bytes) == ((), 0, 0, 0)
