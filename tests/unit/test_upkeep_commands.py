"""The commands rm, expire, gc, usage and verify."""

import json
import shutil

import boto3
import pytest
import typer
from typer.testing import CliRunner

from dataplane import Lake
from dataplane.errors import InvalidArgument
from dataplane.objects import digest_bytes
from dataplane.upkeep import commands
from tests import make


@pytest.fixture
def lake(tmp_path, monkeypatch):
    lake = Lake.init(str(tmp_path / "lake"))
    monkeypatch.setenv("DATAPLANE_LAKE", lake.url)
    for count in (2, 3, 4):
        make.dataset(lake, "numbers", train=(count,))
    return lake


@pytest.fixture
def run():
    app = typer.Typer()
    app.callback()(lambda: None)
    for name in ("rm", "expire", "gc", "usage", "verify"):
        app.command(name)(getattr(commands, name))

    def run_(*arguments, code=0):
        done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    return run_


def test_expire(lake, run):
    assert "numbers: versions 1, 2 would be expired." in run("expire", "numbers", "--keep-last", "1", "--dry-run")
    assert run("expire", "numbers", "--keep-last", "1", "--json", "--dry-run") == {
        "name": "numbers",
        "version": None,
        "expired": [1, 2],
        "kept": [],
        "removed": False,
        "dry_run": True,
    }
    lake.catalog.tag("numbers", "prod", 1)
    told = run("expire", "numbers", "--keep-last", "1")
    assert "numbers: version 2 is expired." in told
    assert "numbers@1 is named by tag prod: it stays." in told
    assert "Next: dataplane gc --dry-run" in told
    assert "nothing to expire" in run("expire", "numbers", "--keep-last", "1")
    assert run("expire", "numbers", "--keep-last", "1", "--older-than", "30d", "--no-keep-tagged", "--json")["expired"] == []
    with pytest.raises(InvalidArgument):
        run("expire", "numbers")


def test_rm(lake, run):
    assert run("rm", "numbers@2", "--yes", "--json")["expired"] == [2]
    assert "would be removed (versions 1, 3, 4)" in run("rm", "numbers", "--dry-run")
    with pytest.raises(InvalidArgument, match="say --yes where nobody can be asked"):
        run("rm", "numbers")
    assert lake.datasets() == ["numbers"]
    assert "The dataset numbers is removed" in run("rm", "numbers", "-y")
    assert lake.datasets() == []


def test_gc(lake, run):
    lake.objects.put(b"left over", suffix=".bin")
    assert run("gc", "--json")["young_objects"] == 1
    told = run("gc", "--dry-run", "--grace", "0s")
    assert "1 object, 9 B: would be deleted" in told
    assert "Next: dataplane gc" in told
    document = run("gc", "--grace", "0s", "--journals", "0s", "--json")
    assert (document["objects"], document["bytes"], document["dry_run"], document["held"]) == (1, 9, False, {})
    assert document.keys() >= {"kept_objects", "young_objects", "young_bytes", "journals", "litter"}


def test_gc_tells_for_whom_expired_versions_stay(lake, run):
    version = lake.catalog.version("numbers@1")
    lake.log("models", "digits").append(lambda _: {"dataset": {"name": "numbers", "version": 1, "id": version.id}})
    assert "numbers@1 is named by model digits: its objects stay." in run("rm", "numbers", "--yes")
    assert "The objects of numbers@1, which is expired, stay for model digits." in run("gc", "--grace", "0s")


def test_gc_tells_of_unfinished_uploads(s3, run, monkeypatch):
    client = boto3.client("s3")
    for bucket in ("unfinished", "unfinished-discreet"):
        client.create_bucket(Bucket=bucket)
        Lake.init(f"s3://{bucket}/lake")
        place = {"Bucket": bucket, "Key": f"lake/{digest_bytes(b'never', '.tar').path}"}
        client.upload_part(**place, UploadId=client.create_multipart_upload(**place)["UploadId"], PartNumber=1, Body=bytes(2048))
    monkeypatch.setenv("DATAPLANE_LAKE", "s3://unfinished/lake")
    assert "unfinished" not in run("gc")
    s3.age_uploads(25 * 3600)
    told = run("gc", "--dry-run")
    assert "1 unfinished upload, 2.0 KiB: would be aborted." in told
    assert "Next: dataplane gc" in told
    document = run("gc", "--json")
    assert (document["uploads"], document["upload_bytes"], document["uploads_unknown"]) == (1, 2048, None)
    told = run("gc", "--lake", f"s3://{bucket}/lake")
    assert told.count("There may be more unfinished uploads: ") == 1
    assert "access denied" in told


def test_usage(lake, run):
    lake.objects.put(b"left over", suffix=".bin")
    told = run("usage")
    assert "dataset" in told
    assert "numbers" in told
    assert "garbage" in told
    document = run("usage", "--json")
    assert document["garbage_bytes"] == 9
    assert [user["name"] for user in document["users"]] == ["numbers"]


def test_verify_and_repair(lake, run, tmp_path):
    shutil.copytree(lake.url, tmp_path / "copy")
    path = lake.dataset("numbers")["train"].shards[0].row.ref.path
    lake.store.put(path, b"damaged")
    assert "verify --repair COPY" in run("verify", code=1)
    assert run("verify", "--json", code=1)["problems"][0]["object"] == path
    told = run("verify", "--deep", "--repair", str(tmp_path / "copy"))
    assert f"repaired {path}" in told
    assert "all good" in told
    assert run("verify", "numbers", "--deep", "--json").keys() == {"ok", "objects", "bytes", "problems"}


@pytest.mark.parametrize("name", ["rm", "expire", "gc", "usage", "verify"])
def test_help_has_an_example(run, name):
    assert f"dataplane {name}" in run(name, "--help")
