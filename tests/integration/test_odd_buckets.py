"""Buckets that may only be read, and buckets that cannot hold a lake: what each command does there, and what a user is told."""

import io
import json
import tarfile
import urllib.request

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dataplane import Lake
from dataplane.cli import build
from dataplane.errors import NotALake
from dataplane.ingest import IngestOptions, ingest
from dataplane.store import open_store
from dataplane.versions import clone, tag
from tests.folders import jpeg, write_folder


def put(endpoint, bucket, key=None, data=None):
    """As the owner of the bucket, whom the server lets write."""
    url = f"{endpoint}/{bucket}" + (f"/{key}" if key else "")
    headers = {"X-Test-Owner": "yes", "Content-Type": "application/octet-stream"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method="PUT"), timeout=30):
        pass


def upload(endpoint, bucket, url):
    """Copy a store into a bucket."""
    put(endpoint, bucket)
    store = open_store(url)
    for chunk in store.list():
        for meta in chunk:
            put(endpoint, bucket, meta["path"], bytes(memoryview(store.get(meta["path"]).buffer())))


def run(lake, *words):
    """The exit code, the document, and what went to standard error."""
    done = CliRunner().invoke(build(), [words[0], *words[1:], "--lake", lake, "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return done.exception, None
    return done.exit_code, json.loads(done.stdout)


@pytest.fixture(scope="module")
def read_only(s3, tmp_path_factory):
    """A lake with two datasets, in a bucket that may only be read."""
    folder = tmp_path_factory.mktemp("made")
    write_folder(folder / "pictures", 12)
    lake = Lake.init(str(folder / "lake"))
    ingest(lake, folder / "pictures", "pets", options=IngestOptions(label_from="folder"))
    clone(lake, "pets@1", "copy")
    tag(lake, "pets@1", "good")
    upload(s3.endpoint, "a-read-only-lake", str(folder / "lake"))
    return "s3://a-read-only-lake"


@pytest.mark.parametrize(
    "words",
    [
        ["init"],
        ["ls"],
        ["show", "pets"],
        ["show", "pets", "--stats"],
        ["head", "pets"],
        ["log", "pets"],
        ["diff", "pets", "copy"],
        ["lineage", "copy"],
        ["where", "pets", "label = 'cat'"],
        ["tag", "pets"],
        ["verify"],
        ["verify", "--deep"],
        ["usage"],
        ["gc", "--dry-run"],
        ["expire", "pets", "--keep-last", "1", "--dry-run"],
    ],
    ids=" ".join,
)
def test_what_reads_works_where_nothing_can_be_written(read_only, words):
    code, document = run(read_only, *words)
    assert code == 0, document
    assert document is not None


@pytest.mark.parametrize(
    "words",
    [
        ["clone", "pets", "another"],
        ["tag", "pets@1", "better"],
        ["where", "pets", "label = 'cat'", "--to", "cats"],
        ["split", "pets", "train=0.5,test=0.5"],
        ["append", "third", "pets"],
        ["rm", "copy", "--yes"],
        ["gc"],
    ],
    ids=" ".join,
)
def test_what_writes_says_that_it_may_not(read_only, words):
    error, _ = run(read_only, *words)
    assert getattr(error, "kind", None) == "permission", error
    assert "access denied; check the credentials and the bucket's policy" in str(error)


def test_ingest_into_a_read_only_lake(read_only, tmp_path):
    write_folder(tmp_path / "more", 4)
    error, _ = run(read_only, "ingest", str(tmp_path / "more"), "pets")
    assert getattr(error, "kind", None) == "permission", error
    assert len(Lake(read_only).dataset("pets")["train"]) == 12


def sources(endpoint, bucket):
    """A bucket with a tar, a Parquet file and a picture."""
    put(endpoint, bucket)
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for number in range(5):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = len(jpeg(number))
            archive.addfile(info, io.BytesIO(jpeg(number)))
    put(endpoint, bucket, "tars/one.tar", sink.getvalue())
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": range(7)}), sink)
    put(endpoint, bucket, "tables/one.parquet", sink.getvalue())
    put(endpoint, bucket, "pictures/1.jpg", jpeg(1))


@pytest.mark.parametrize("bucket", ["read-only-source", "ignores-source", "refuses-source"])
def test_any_bucket_is_welcome_as_a_source(s3, tmp_path, bucket):
    sources(s3.endpoint, bucket)
    before = [meta["path"] for chunk in open_store(f"s3://{bucket}").list() for meta in chunk]
    lake = str(tmp_path / "lake")
    for words, samples in (
        (["adopt", f"s3://{bucket}/tars/*.tar", "tars"], 5),
        (["adopt", f"s3://{bucket}/tables", "tables"], 7),
        (["ingest", f"s3://{bucket}/pictures", "pictures"], 1),
    ):
        if words[0] == "adopt" and not (tmp_path / "lake").exists():
            Lake.init(lake)
        code, document = run(lake, *words)
        assert (code, document["samples"]) == (0, samples)
    assert [sample.fields["n"] for sample in Lake(lake).dataset("tables")["train"]] == list(range(7))
    assert Lake(lake).dataset("tars")["train"][3].fields["jpg"] == jpeg(3)
    assert [meta["path"] for chunk in open_store(f"s3://{bucket}").list() for meta in chunk] == before


@pytest.mark.parametrize(
    ("bucket", "reason"),
    [
        ("ignores-lake", "it let a put-if-absent overwrite an object"),
        ("refuses-lake", "NotImplemented"),
        ("read-only-new", "access denied"),
    ],
)
def test_a_bucket_that_cannot_hold_a_lake_is_refused(s3, tmp_path, bucket, reason):
    put(s3.endpoint, bucket)
    write_folder(tmp_path / "pictures", 2)
    for words in (["init"], ["ingest", str(tmp_path / "pictures"), "pets"]):
        error, _ = run(f"s3://{bucket}", *words)
        assert isinstance(error, NotALake), error
        for part in (f"s3://{bucket} cannot hold a lake", reason, "keep the lake in a folder or in a store with conditional puts"):
            assert part in str(error)
    assert [meta for chunk in open_store(f"s3://{bucket}").list() for meta in chunk] == []
