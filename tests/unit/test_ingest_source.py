"""A source lists every file once, says what it cannot list, and reads what was listed or says why not."""

import os
import pickle
import socket
import uuid

import pytest

from dataplane.errors import BadSample, InvalidArgument, NotFound, PermissionDenied, StoreError, StoreUnavailable
from dataplane.ingest.source import Entry, FolderSource, StoreSource, open_source
from dataplane.store import WrapperStore, open_store
from tests.folders import nobody


@pytest.fixture
def as_nobody():
    """A folder of a user who is not root; the test is that user while it lasts."""
    with nobody() as folder:
        yield folder


def listed(root, *apart):
    return open_source(str(root), apart=[str(other) for other in apart]).list(lambda _: None)


def paths(listing):
    return [entry.path for entry in listing.entries]


def reasons(listing):
    return {bad.source: bad.reason for bad in listing.bad}


def put(path, data=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_files_in_the_order_of_their_paths(tmp_path):
    for name in ("b/2.jpg", "b/1.jpg", "a.jpg", "b/c/d/3.jpg", "B.jpg"):
        put(tmp_path / name)
    listing = listed(tmp_path)
    assert paths(listing) == ["B.jpg", "a.jpg", "b/1.jpg", "b/2.jpg", "b/c/d/3.jpg"]
    assert (listing.bad, listing.ignored, listing.unread) == ([], 0, [])


def test_hidden_files_are_ignored_and_counted(tmp_path):
    for name in (".a.jpg", ".git/b.jpg", "c/Thumbs.db", "c/Desktop.ini", "c/d.jpg"):
        put(tmp_path / name)
    listing = listed(tmp_path)
    assert (paths(listing), listing.ignored) == (["c/d.jpg"], 4)


def test_links_are_followed_and_loops_reported(tmp_path):
    put(tmp_path / "elsewhere" / "1.jpg")
    root = tmp_path / "root"
    put(root / "a" / "2.jpg")
    (root / "there").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to("a")
    (root / "a" / "up").symlink_to("..")
    (root / "self").symlink_to("self")
    (root / "nothing.jpg").symlink_to("gone.jpg")
    (root / "file.jpg").symlink_to("a/2.jpg")
    listing = listed(root)
    assert paths(listing) == ["a/2.jpg", "again/2.jpg", "file.jpg", "there/1.jpg"]
    assert reasons(listing) == {
        "a/up": "a symbolic link back to a folder that holds it: a loop",
        "again/up": "a symbolic link back to a folder that holds it: a loop",
        "self": "a symbolic link that leads to itself: a loop",
        "nothing.jpg": "a symbolic link to nothing",
    }


def test_what_is_no_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jpg"))
        listing = listed(tmp_path)
    assert reasons(listing) == {"pipe.jpg": "a FIFO, not a file", "socket.jpg": "a socket, not a file"}
    source = FolderSource(str(tmp_path), frozenset())
    with pytest.raises(BadSample, match="a FIFO"):
        source.read(Entry("pipe.jpg", "pipe.jpg", 0, ""))


def test_odd_names(tmp_path):
    names = [b"with space.jpg", b"new\nline.jpg", b"\xff\xfe.jpg", "\u00fc \u6f22.jpg".encode(), b"%41.jpg"]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(name)
    source = open_source(str(tmp_path), apart=[])
    found = {entry.path: source.read(entry)[0] for entry in source.list(lambda _: None).entries}
    assert found == {name.decode("utf-8", "backslashreplace"): name for name in names}


def test_the_lake_and_the_label_file_are_no_part_of_the_source(tmp_path):
    for name in ("lake/objects/1.tar", "labels.csv", "1.jpg"):
        put(tmp_path / name)
    listing = listed(tmp_path, tmp_path / "lake", tmp_path / "labels.csv", tmp_path / "missing")
    assert (paths(listing), listing.ignored) == (["1.jpg"], 2)
    for inside in (tmp_path / "lake", tmp_path / "lake" / "objects"):
        with pytest.raises(InvalidArgument, match="inside the lake"):
            listed(inside, tmp_path / "lake")


def test_no_such_folder(tmp_path):
    put(tmp_path / "1.jpg")
    with pytest.raises(NotFound, match="does not exist"):
        listed(tmp_path / "gone")


def test_one_file_alone(tmp_path):
    for name in ("1.jpg", "2.jpg", "deep/1.jpg"):
        put(tmp_path / name)
    source = open_source(str(tmp_path / "2.jpg"), apart=[])
    assert paths(source.list(lambda _: None)) == ["2.jpg"]
    assert source.url == str(tmp_path / "2.jpg")


def test_the_etag_changes_with_the_file(tmp_path):
    put(tmp_path / "a" / "1.jpg", b"one")
    put(tmp_path / "b" / "1.jpg", b"one")
    os.utime(tmp_path / "a" / "1.jpg", ns=(1, 1))
    os.utime(tmp_path / "b" / "1.jpg", ns=(1, 1))

    def etag(root):
        source = open_source(str(root), apart=[])
        entry = source.list(lambda _: None).entries[0]
        assert source.read(entry)[1] == entry.etag
        return entry.etag

    seen = [etag(tmp_path / "a"), etag(tmp_path / "b")]
    put(tmp_path / "a" / "1.jpg", b"more")
    os.utime(tmp_path / "a" / "1.jpg", ns=(1, 1))
    seen.append(etag(tmp_path / "a"))
    os.utime(tmp_path / "a" / "1.jpg", ns=(2, 2))
    seen.append(etag(tmp_path / "a"))
    assert len(set(seen)) == 4


def test_what_happens_between_listing_and_reading(tmp_path):
    for name in ("gone.jpg", "grown.jpg", "folder.jpg", "kept.jpg"):
        put(tmp_path / name, b"four")
    source = open_source(str(tmp_path), apart=[])
    entries = {entry.path: entry for entry in source.list(lambda _: None).entries}
    (tmp_path / "gone.jpg").unlink()
    (tmp_path / "grown.jpg").write_bytes(b"grown")
    (tmp_path / "folder.jpg").unlink()
    (tmp_path / "folder.jpg").mkdir()
    assert source.read(entries["kept.jpg"]) == (b"four", entries["kept.jpg"].etag)
    assert source.read(entries["kept.jpg"], 2)[0] == b"fo"
    data, etag = source.read(entries["grown.jpg"])
    assert data == b"grown"
    assert etag != entries["grown.jpg"].etag
    with pytest.raises(BadSample, match="vanished"):
        source.read(entries["gone.jpg"])
    with pytest.raises(BadSample, match="a folder"):
        source.read(entries["folder.jpg"])


def test_what_root_itself_cannot_read_is_bad():
    """/proc/self/mem is a regular file whose reading fails, for root too."""
    source = FolderSource("/proc/self", frozenset())
    with pytest.raises(BadSample, match="it cannot be read: Input/output error"):
        source.read(Entry("mem", "mem", 0, ""))


def test_unreadable_files_and_folders(as_nobody):
    for name in ("closed/1.jpg", "blind/2.jpg", "3.jpg"):
        put(as_nobody / name)
    (as_nobody / "closed").chmod(0)
    (as_nobody / "blind").chmod(0o400)  # its names can be read, and nothing about them
    (as_nobody / "3.jpg").chmod(0)
    source = open_source(str(as_nobody), apart=[])
    listing = source.list(lambda _: None)
    assert reasons(listing) == dict.fromkeys(("closed", "blind/2.jpg"), "it cannot be read: Permission denied")
    assert sorted(listing.unread) == ["blind/2.jpg", "closed"]
    (entry,) = listing.entries
    with pytest.raises(BadSample, match="Permission denied"):
        source.read(entry)


def test_a_store(tmp_path):
    url = f"memory://{uuid.uuid4().hex}"
    store = open_store(url)
    for path in ("b/1.jpg", "a.jpg", ".hidden/2.jpg", "lake/lake.json", "labels.csv"):
        store.put(path, path.encode())
    source = open_source(url, apart=[f"{url}/lake", f"{url}/labels.csv", "/somewhere"])
    listing = source.list(lambda _: None)
    assert (paths(listing), listing.ignored) == (["a.jpg", "b/1.jpg"], 3)
    entry = listing.entries[0]
    assert source.read(entry) == (b"a.jpg", entry.etag)
    assert source.read(entry, 2) == (b"a.", entry.etag)
    store.put("a.jpg", b"other")
    assert source.read(entry)[1] != entry.etag
    store.delete("a.jpg")
    with pytest.raises(BadSample, match="vanished"):
        source.read(entry)
    with pytest.raises(InvalidArgument, match="lake itself"):
        open_source(url, apart=[url])


class Failing(WrapperStore):
    def __init__(self, inner, error):
        super().__init__(inner)
        self.error = error

    def get(self, path, *, options=None):
        raise self.error


def test_one_denied_object_is_bad_and_a_store_out_of_reach_is_an_error(tmp_path):
    store = open_store(str(tmp_path))
    entry = Entry("a.jpg", "a.jpg", 1, "e")
    with pytest.raises(BadSample, match="it cannot be read: no"):
        StoreSource(Failing(store, PermissionDenied("no")), ()).read(entry)
    with pytest.raises(StoreUnavailable):
        StoreSource(Failing(store, StoreUnavailable("later")), ()).read(entry)


def test_sources_travel_to_other_processes(tmp_path):
    source = open_source(str(tmp_path), apart=[])
    assert pickle.loads(pickle.dumps(source)) == source
    stored = StoreSource(open_store(str(tmp_path)), ("lake",))
    assert pickle.loads(pickle.dumps(stored)).url == stored.url


def test_a_name_that_no_folder_can_have():
    with pytest.raises(StoreError, match="too long"):
        open_source("/" + "a" * 300, apart=[])


def test_odd_names_through_fsspec(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    source = open_source(f"file+fsspec://{tmp_path}", apart=[])
    (entry,) = source.list(lambda _: None).entries
    assert entry.path == "\\xff.jpg"
    assert source.read(entry)[0] == b"x"
