"""Multipart uploads that nobody ended: what a store on S3 tells of them, and how they go."""

import pickle
import signal
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from dataplane import Lake
from dataplane.errors import PermissionDenied, StoreError
from dataplane.objects import digest_bytes
from dataplane.store import Uploads, open_store
from dataplane.store.s3 import _without_bucket
from dataplane.upkeep import gc, verify_lake
from tests import make

PART = bytes(5 << 20)  # the smallest that S3 takes
DAY = 24 * 3600


@pytest.fixture
def lake(s3):
    lake = Lake.init(s3.url())
    make.dataset(lake, "numbers", train=(4,))
    return lake


@pytest.fixture
def client(s3):
    return boto3.client("s3")


def bucket_of(url):
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, f"{prefix}/" if prefix else ""


def begin(client, url, path, parts=1):
    """An upload as a killed writer leaves it."""
    bucket, prefix = bucket_of(url)
    place = {"Bucket": bucket, "Key": prefix + path}
    upload = client.create_multipart_upload(**place)["UploadId"]
    for number in range(parts):
        client.upload_part(**place, UploadId=upload, PartNumber=number + 1, Body=PART)
    return upload


def under_way(client, url):
    """Keys of the uploads that the server has, asked of it without this project."""
    bucket, prefix = bucket_of(url)
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix)
    return [upload["Key"].removeprefix(prefix) for page in pages for upload in page.get("Uploads", ())]


def an_object(text):
    return digest_bytes(text, ".tar").path


# ------------------------------------------------------------------ the capability


def test_who_has_it(s3, tmp_path):
    assert isinstance(open_store(s3.url()), Uploads)
    for url in (str(tmp_path), f"memory://{uuid.uuid4().hex}", "gs://bucket/lake", f"{s3.url().replace('s3', 's3+fsspec', 1)}"):
        assert not isinstance(open_store(url), Uploads)


@pytest.mark.parametrize("travelled", [False, True])
def test_uploads_of_a_prefix(s3, client, travelled):
    url = s3.url("a lake+1")
    store = pickle.loads(pickle.dumps(open_store(url))) if travelled else open_store(url)
    before = datetime.now(UTC) - timedelta(seconds=2)
    ids = {begin(client, url, f"objects/{name}", parts) for name, parts in (("a/1", 0), ("a/2", 1), ("a/2", 2), ("b/ü &<3", 1), ("c", 0))}
    begin(client, url, "objectsnot/4")
    begin(client, s3.url(), "objects/5")
    found = list(store.uploads("objects"))
    assert {upload.id for upload in found} == ids  # on three pages
    assert sorted((upload.path, upload.bytes // len(PART)) for upload in found) == [
        ("objects/a/1", 0),
        ("objects/a/2", 1),
        ("objects/a/2", 2),
        ("objects/b/ü &<3", 1),
        ("objects/c", 0),
    ]
    assert all(before <= upload.touched <= datetime.now(UTC) for upload in found)
    for upload in found:
        store.abort(upload)
        store.abort(upload)  # gone already
    assert under_way(client, url) == ["objectsnot/4"]
    assert list(store.uploads("objects")) == []


def test_an_upload_of_many_parts_is_as_old_as_the_last_of_them(s3, client):
    url = s3.url()
    upload = begin(client, url, "objects/a", 2)
    s3.age_uploads(DAY)
    (old,) = open_store(url).uploads("objects")
    assert old.touched < datetime.now(UTC) - timedelta(seconds=DAY - 60)
    bucket, prefix = bucket_of(url)
    other = begin(client, url, "objects/b", 0)
    s3.age_uploads(DAY)
    found = {each.id: each for each in open_store(url).uploads("objects")}
    assert found[other].touched - found[upload].touched > timedelta(seconds=DAY - 60)
    client.upload_part(Bucket=bucket, Key=f"{prefix}objects/a", UploadId=upload, PartNumber=3, Body=b"x")
    found = {each.id: each for each in open_store(url).uploads("objects")}
    assert found[upload].touched - found[other].touched > timedelta(seconds=DAY - 60)
    assert found[upload].bytes == 2 * len(PART) + 1


def test_options_rather_than_the_environment(s3, client, monkeypatch):
    """What the store itself goes by, the listing does too: an endpoint, keys and a region under any of obstore's names."""
    url = s3.url()
    begin(client, url, "objects/a")
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    keys = {"access_key_id": "one", "aws_secret_access_key": "two"}
    store = open_store(url, {"AWS_ENDPOINT": s3.endpoint, **keys, "aws_region": "eu-west-1"})
    store.put("objects/b", b"b")
    assert [upload.path for upload in store.uploads("objects")] == ["objects/a"]
    files = store._s3fs
    assert (files.key, files.secret, files.token, files.endpoint_url) == ("one", "two", None, s3.endpoint)
    assert files.client_kwargs == {"region_name": "eu-west-1"}
    monkeypatch.setenv("AWS_ENDPOINT", s3.endpoint)  # which obstore knows, and botocore does not
    anonymous = open_store(url, {"skip_signature": "true"})
    assert [upload.path for upload in anonymous.uploads("objects")] == ["objects/a"]


def test_virtual_hosts():
    assert _without_bucket("https://lakes.s3.example:9000/x", "lakes") == "https://s3.example:9000/x"
    assert _without_bucket("https://s3.example", "lakes") == "https://s3.example"


def test_errors_are_those_of_stores(s3, monkeypatch):
    url = "s3://a-discreet-bucket/lake"
    boto3.client("s3").create_bucket(Bucket="a-discreet-bucket")
    with pytest.raises(PermissionDenied, match="s3://a-discreet-bucket/lake/objects"):
        list(open_store(url).uploads("objects"))
    with pytest.raises(StoreError):
        list(open_store(url, {"endpoint": "http://127.0.0.1:1"}).uploads("objects"))
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ImportError, match=r"dataplane\[s3fs\]"):
        list(open_store(s3.url()).uploads("objects"))


@pytest.mark.parametrize("markers", [{}, {"NextKeyMarker": "objects/a", "NextUploadIdMarker": "1"}])
def test_a_listing_that_leads_nowhere_ends(s3, monkeypatch, markers):
    store = open_store(s3.url())
    monkeypatch.setattr(store, "_call", lambda *_, **__: {"IsTruncated": True, **markers})
    with pytest.raises(StoreError, match="and not where"):
        list(store.uploads("objects"))


# ------------------------------------------------------------------ in a collection


def test_old_uploads_of_objects_go(lake, client, s3):
    gone = [begin(client, lake.url, an_object(b"%d" % n), n) for n in range(3)]
    s3.age_uploads(DAY + 60)
    begin(client, lake.url, an_object(b"young"))
    begin(client, lake.url, an_object(b"just begun"), 0)
    begin(client, lake.url, "objects/README.md")  # not ours
    s3.age_uploads(DAY - 3600)
    dry = gc(lake, dry_run=True)
    assert (dry.uploads, dry.upload_bytes, dry.uploads_unknown) == (len(gone), 3 * len(PART), None)
    assert len(under_way(client, lake.url)) == 6
    report = gc(lake)
    assert (report.uploads, report.upload_bytes) == (len(gone), 3 * len(PART))
    assert sorted(under_way(client, lake.url)) == sorted([an_object(b"young"), an_object(b"just begun"), "objects/README.md"])
    assert gc(lake).uploads == 0
    assert gc(lake, grace_seconds=1800).uploads == 2
    assert under_way(client, lake.url) == ["objects/README.md"]
    assert verify_lake(lake).ok


def test_a_writer_that_was_begun_long_ago_and_is_alive_is_left_alone(lake, client, s3):
    bucket, prefix = bucket_of(lake.url)
    data = PART + b"the end"
    ref = digest_bytes(data, ".tar")
    place = {"Bucket": bucket, "Key": prefix + ref.path, "UploadId": begin(client, lake.url, ref.path, 0)}
    s3.age_uploads(10 * DAY)
    first = client.upload_part(**place, PartNumber=1, Body=PART)
    assert gc(lake).uploads == 0
    last = client.upload_part(**place, PartNumber=2, Body=b"the end")
    parts = [{"PartNumber": number, "ETag": part["ETag"]} for number, part in enumerate((first, last), 1)]
    client.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
    lake.objects.verify(ref)


WRITER = """
import sys, time
from dataplane.store import open_store

def pieces():
    for number in range(4):
        yield bytes(6 << 20)
    print("under way", flush=True)
    time.sleep(600)

open_store(sys.argv[1]).put(sys.argv[2], pieces(), use_multipart=True, chunk_size=5 << 20)
"""


def test_what_a_killed_writer_leaves_goes(lake, client, s3):
    path = an_object(b"never finished")
    with subprocess.Popen([sys.executable, "-c", WRITER, lake.url, path], stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        for _ in range(100):
            if any(upload.bytes for upload in lake.store.uploads("objects")):
                break
            time.sleep(0.05)
        writer.send_signal(signal.SIGKILL)
    (left,) = lake.store.uploads("objects")
    assert (left.path, left.bytes % (5 << 20), left.bytes > 0) == (path, 0, True)
    assert gc(lake).uploads == 0
    s3.age_uploads(DAY + 60)
    assert gc(lake).upload_bytes == left.bytes
    assert under_way(client, lake.url) == []


@pytest.mark.parametrize("bucket", ["discreet", "faithful"])
def test_where_it_is_forbidden_the_collection_says_so_and_goes_on(s3, client, bucket):
    bucket = f"{bucket}-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)
    lake = Lake.init(f"s3://{bucket}/lake")
    lake.objects.put(b"left over", suffix=".bin")
    for number in range(3):
        begin(client, lake.url, an_object(b"%d" % number), 1)
    dry = gc(lake, dry_run=True, grace_seconds=0)
    report = gc(lake, grace_seconds=0)
    assert (dry.objects, report.objects) == (1, 1)
    assert (dry.uploads, report.uploads) == ({"discreet": 0, "faithful": 3}[bucket.partition("-")[0]], 0)
    assert "access denied" in report.uploads_unknown
    assert report.to_json()["uploads_unknown"] == report.uploads_unknown
    assert len(list(lake.store.list("objects"))) == 0
