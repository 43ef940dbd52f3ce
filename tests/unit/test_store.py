"""`open_store`, and the errors of stores: of one tree, naming the thing, without secrets."""

import errno
import os
import pickle
import socket
import uuid
import zipfile

import obstore
import pytest

from dataplane.errors import (
    DataplaneError,
    InvalidArgument,
    MissingExtra,
    NotFound,
    PermissionDenied,
    StorageFull,
    StoreError,
    StoreUnavailable,
)
from dataplane.store import Reject, open_store
from dataplane.store.fsspec import FsspecStore
from dataplane.store.local import LocalStore, translated
from dataplane.store.obs import ObstoreStore, _may_pass
from tests.folders import nobody


@pytest.mark.parametrize(
    ("url", "kind", "named"),
    [
        ("/tmp/x", LocalStore, "/tmp/x"),
        ("file:///tmp/a%20b", LocalStore, "/tmp/a b"),
        ("file://localhost/tmp/x", LocalStore, "/tmp/x"),
        ("s3://bucket/prefix/", ObstoreStore, "s3://bucket/prefix"),
        ("S3://bucket/prefix", ObstoreStore, "S3://bucket/prefix"),
        ("https://user:secret@host/x", ObstoreStore, "https://***@host/x"),
        ("memory://name", ObstoreStore, "memory://name"),
        ("memory+fsspec://name/x", FsspecStore, "memory+fsspec://name/x"),
    ],
)
def test_the_scheme_chooses(url, kind, named):
    store = open_store(url)
    assert isinstance(store, kind)
    assert store.url == named
    assert named in repr(store)


def test_a_relative_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_store("lake").url == f"{tmp_path}/lake"
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("", InvalidArgument, "empty store URL"),
        ("file://host/x", InvalidArgument, "a file URL has no host; write file:///host/x"),
        ("nosuch://x/y", StoreError, "nosuch"),
        ("dropbox://x/y", MissingExtra, "dropbox"),
    ],
)
def test_what_cannot_be_opened(url, error, message):
    with pytest.raises(error, match=message):
        open_store(url)


def test_two_handles_of_a_memory_store_are_one_store():
    url = f"memory://{uuid.uuid4().hex}"
    open_store(url).put("a", b"x")
    assert bytes(memoryview(open_store(url).get("a").buffer())) == b"x"
    with pytest.raises(InvalidArgument, match="lives in one process"):
        pickle.dumps(open_store(url))


def test_a_store_from_before_a_fork_says_so(monkeypatch):
    store = open_store(f"memory://{uuid.uuid4().hex}")
    monkeypatch.setattr("dataplane.store.obs.os.getpid", lambda: -1)
    with pytest.raises(StoreError, match="before a fork; start worker processes with the 'spawn' method"):
        store.head("a")


def test_a_store_has_only_the_capabilities_it_has(tmp_path):
    assert not isinstance(open_store(str(tmp_path)), Reject)


# ------------------------------------------------------------------ errors


@pytest.fixture
def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_server_that_is_not_there_is_unavailable_and_no_secret_is_told(closed_port):
    endpoint, name, secret = f"http://127.0.0.1:{closed_port}", "AKIAVERYSECRETID", "veryverysecret"
    through_obstore = {"endpoint": endpoint, "access_key_id": name, "secret_access_key": secret}
    through_fsspec = {"endpoint_url": endpoint, "key": name, "secret": secret, "config_kwargs": {"retries": {"max_attempts": 1}}}
    for url, options in (("s3://bucket/prefix", through_obstore), ("s3+fsspec://bucket/prefix", through_fsspec)):
        store = open_store(url, options)
        with pytest.raises(StoreUnavailable) as caught:
            store.get("some/object")
        assert f"{url}/some/object" in str(caught.value)
        seen = "".join(str(thing) + repr(thing) for thing in (caught.value, store))
        assert name not in seen
        assert secret not in seen


def test_a_bucket_that_is_not_there(s3):
    for url in ("s3://no-such-bucket/prefix", "s3+fsspec://no-such-bucket/prefix"):
        with pytest.raises(NotFound):
            open_store(url).get("object")


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("GET http://h:5003/connect/500: Server returned non-2xx status code: 416 Range Not Satisfiable", False),
        ("GET http://h/timeout/x: Server returned non-2xx status code: 400 Bad Request", False),
        ("Server returned non-2xx status code: 503 Service Unavailable: slow down", True),
        ("Server returned non-2xx status code: 501 Not Implemented", False),
        ("Server returned non-2xx status code: 429 Too Many Requests", True),
        ("Error performing GET http://h/x, after 10 retries - HTTP error: error sending request", True),
        ("operation timed out", True),
        ("Generic HTTP error: HTTP error: request or response body error", True),
        ("HTTP error: error decoding response body", True),
        ("Generic URL error: Unable to recognise URL", False),
    ],
)
def test_the_status_decides_and_never_a_name_in_the_url(text, passes):
    assert _may_pass(text) is passes


@pytest.mark.parametrize(
    ("number", "error", "advice"),
    [
        (errno.ENOSPC, StorageFull, "free some space and run the same command again"),
        (errno.EDQUOT, StorageFull, "free some space"),
        (errno.EACCES, PermissionDenied, "check the owner and the mode"),
        (errno.ENOENT, NotFound, "no such object"),
        (errno.EISDIR, NotFound, "no such object"),
        (errno.EIO, StoreError, "Input/output error"),
    ],
)
def test_local_errors(number, error, advice):
    with pytest.raises(error, match=f"a/file: .*{advice}") as caught, translated("a/file"):
        raise OSError(number, os.strerror(number))
    assert isinstance(caught.value.__cause__, OSError)


def test_our_own_errors_pass_through_unchanged():
    with pytest.raises(NotFound, match=r"^mine$"), translated("a/file"):
        raise NotFound("mine")


def test_a_file_where_a_folder_should_be(tmp_path):
    store = open_store(str(tmp_path))
    store.put("a", b"")
    with pytest.raises(DataplaneError):
        store.put("a/b", b"")


# ------------------------------------------------------------------ the folder


def test_nothing_but_the_objects_is_left_behind(tmp_path):
    store = open_store(str(tmp_path / "lake"))
    for mode in (None, "create"):
        store.put(f"a/{mode}", b"x", mode=mode)
        with pytest.raises(RuntimeError, match="source"):
            store.put(f"a/{mode} too", _failing(), mode=mode)
    assert sorted(p.relative_to(tmp_path / "lake").as_posix() for p in (tmp_path / "lake").rglob("*") if p.is_file()) == [
        "a/None",
        "a/create",
    ]


def _failing():
    yield b"some"
    raise RuntimeError("the source went away")


def test_files_get_the_mode_that_the_umask_leaves(tmp_path):
    store = open_store(str(tmp_path / "lake"))
    reference = tmp_path / "reference"
    reference.touch()
    for mode in (None, "create"):
        store.put(f"{mode}", b"x", mode=mode)
        assert (tmp_path / "lake" / f"{mode}").stat().st_mode == reference.stat().st_mode


def test_without_unnamed_files_the_promises_hold(tmp_path, monkeypatch):
    """Some file systems have no O_TMPFILE."""
    real = os.open

    def refuse(path, flags, *rest, **named):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, flags, *rest, **named)

    monkeypatch.setattr("dataplane.store.local.os.open", refuse)
    store = open_store(str(tmp_path / "lake"))
    store.put("a", b"first", mode="create")
    with pytest.raises(FileExistsError):
        store.put("a", b"second", mode="create")
    assert bytes(memoryview(store.get("a").buffer())) == b"first"
    assert list((tmp_path / "lake" / ".tmp").iterdir()) == []
    assert [meta["path"] for chunk in store.list() for meta in chunk] == ["a"]


def test_a_read_only_folder_is_permission_denied(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionDenied, match="check the owner"):
        open_store(str(tmp_path)).put("a", b"")


def test_a_file_system_that_raises_anything_leaks_nothing():
    class Strange(Exception):
        pass

    store = open_store(f"memory+fsspec://{uuid.uuid4().hex}")

    def fail(*_, **__):
        raise Strange("token=abcdef")

    store._fs = type("Broken", (), {"info": fail, "cat_ranges": fail})()
    with pytest.raises(StoreError, match=r"token=\*\*\*"):
        store.head("a")
    with pytest.raises(StoreError):
        store.get_range("a", start=0, end=1)


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one():
    with nobody() as folder:
        store = open_store(str(folder))
        store.put("a/b", b"")
        (folder / "a").chmod(0)
        try:
            with pytest.raises(PermissionDenied):
                list(store.list())
        finally:
            (folder / "a").chmod(0o700)
    assert list(open_store(str(folder)).list("nothing")) == []


def test_an_etag_changes_with_the_bytes_where_a_file_system_has_no_times(tmp_path):
    etags = []
    for data in (b"one", b"two", b"two"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr(zipfile.ZipInfo("x"), data)
        store = open_store(f"zip://::file://{tmp_path}/a.zip")
        ((meta,),) = store.list()
        assert meta["e_tag"] == store.head("x")["e_tag"]
        etags.append(meta["e_tag"])
    assert etags[0] != etags[1] == etags[2]


def test_a_missing_object_keeps_no_other_from_being_deleted(tmp_path):
    store = open_store(f"memory://{uuid.uuid4().hex}")
    store._store = obstore.store.LocalStore(str(tmp_path))  # obstore's store of folders stops at the first missing one
    for name in "abc":
        store.put(name, b"x")
    store.delete(["a", "missing", "b", "c"])
    assert list(tmp_path.iterdir()) == []
