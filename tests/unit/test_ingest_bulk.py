"""Files read and placed many at once: the shard, its index and its metadata are those of reading them one by one, whatever they are."""

import os
import platform
import resource
import tarfile
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane import Lake
from dataplane.ingest import IngestOptions, ingest, worker
from dataplane.ingest.bulk import bunches
from dataplane.ingest.options import Pictures
from dataplane.ingest.plan import Task, Todo, Wanted, key_of
from dataplane.ingest.reading import read_ahead
from dataplane.ingest.source import Entry, FolderSource, Together
from dataplane.ingest.together import SUPPORTED
from dataplane.ingest.worker import Context, do_task
from dataplane.prep.options import PictureOptions
from tests.folders import ORIENTATION, encode, noise, write_folder

AS_THEY_ARE = PictureOptions("keep", "keep", "keep", None, None)


class OneByOne:
    """The same folder without the capability."""

    readers, bunch, url = 4, 4, "folder"

    def __init__(self, root):
        self.inner = FolderSource(str(root), frozenset())

    def list(self, found):
        return self.inner.list(found)

    def read(self, entry, limit=None):
        return self.inner.read(entry, limit)


@given(st.lists(st.integers(0, 5000)), st.integers(1, 4000))
def test_bunches_are_all_in_order_and_fit(needed, room):
    found = list(bunches(needed, room))
    assert [i for bunch in found for i in bunch] == list(range(len(needed)))
    for bunch in found:
        assert len(bunch) == 1 or sum(needed[i] for i in bunch) <= room
    for bunch, following in pairwise(found):
        assert sum(needed[i] for i in bunch) + needed[following[0]] > room, "as few bunches as can be"


def turned(number):
    picture = noise(number)
    exif = picture.getexif()
    exif[ORIENTATION] = number % 9
    return encode(picture, exif=exif)


@pytest.fixture
def odd(tmp_path):
    """A folder of plain and of odd pictures."""
    root = tmp_path / "source"
    write_folder(root, 100)
    for number in range(12):
        (root / f"cat/{number:05d} turned.jpg").write_bytes(turned(200 + number))
    (root / "cat/00010 other.jpg").write_bytes(encode(noise(1), "PNG"))
    (root / "cat/00020 other.png").write_bytes(encode(noise(2)))
    (root / "cat/00030.bmp").write_bytes(encode(noise(3), "BMP"))
    (root / "cat/00031 a.b.__ü.jpg").write_bytes(encode(noise(4)))
    (root / "dog" / os.fsdecode(b"00032\xff.jpg")).write_bytes(encode(noise(5)))
    (root / "dog/00033.jpg").write_bytes(encode(noise(6))[:-2])
    (root / "dog/00034.jpg").touch()
    (root / "dog/00035 large.jpg").write_bytes(encode(noise(7, (170, 170)), quality=95))
    (root / "dog/00036.jpg").write_bytes(encode(noise(8, (2000, 20))))
    return root


def todo_of(source, *, labelled):
    entries = source.list(lambda _: None).entries
    wanted = [Wanted(entry, key_of(entry.path), entry.path.split("/")[0] if labelled else None, "train") for entry in entries]
    return tuple(map(Todo, wanted))


def made(source, todo, tmp_path, *, kind="pictures", pictures=AS_THEY_ARE):
    lake = Lake.init(str(tmp_path / f"lake of {type(source).__name__}"))
    context = Context(source, lake.store, {"cat": 0, "dog": 11}, kind, False, 30_000, pictures, {}, tmp_path, files=100_000)
    return do_task(context, Task(0, "train", todo), lambda *_: None), lake


def assert_equal(one, other):
    assert one.finished.shard == other.finished.shard
    assert one.finished.metadata.equals(other.finished.metadata)
    assert one.finished.fields == other.finished.fields
    assert (one.bad, one.same, one.renamed, one.pictures) == (other.bad, other.same, other.renamed, other.pictures)


@pytest.fixture(params=[8 << 10, 1 << 20])
def room(request, monkeypatch):
    monkeypatch.setattr("dataplane.ingest.bulk._BUFFER_BYTES", request.param)


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("kind", ["pictures", "files"])
def test_odd_files_among_others(odd, tmp_path, kind, labelled):
    for number in range(40):
        (odd / f"dog/{number:05d}").write_bytes(b"." * number)
        (odd / f"dog/{number:05d}.a b").write_bytes(b"," * number)
    source = FolderSource(str(odd), frozenset())
    todo = todo_of(source, labelled=labelled)
    together, lake = made(source, todo, tmp_path, kind=kind)
    one_by_one, _ = made(OneByOne(odd), todo, tmp_path, kind=kind)
    assert_equal(together, one_by_one)
    assert together.bad
    with tarfile.open(lake.store.local_path(together.finished.shard.ref)) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}
    assert len(members) == len(together.finished.metadata) * (2 if labelled else 1)
    if kind == "pictures":
        assert members["dog/00035 large.jpg"] == (odd / "dog/00035 large.jpg").read_bytes()
        assert together.renamed == 2
        sizes = zip(*(together.finished.metadata.column(name).to_pylist() for name in ("width", "height")), strict=True)
        assert sum(width < height for width, height in sizes) == 4, "turned by their orientation"


def test_a_sample_that_the_dataset_has_is_left_out(odd, tmp_path):
    source = FolderSource(str(odd), frozenset())
    todo = todo_of(source, labelled=True)
    first, _ = made(source, todo, tmp_path)
    keys, digests = (first.finished.metadata.column(name).to_pylist() for name in ("key", "source_blake3"))
    known = dict(zip(keys, digests, strict=True))
    some = tuple(Todo(item.wanted, known.get(item.wanted.key) if i % 3 else b"another") for i, item in enumerate(todo))
    together, _ = made(source, some, folder(tmp_path / "second"))
    one_by_one, _ = made(OneByOne(odd), some, folder(tmp_path / "third"))
    assert_equal(together, one_by_one)
    assert together.same > 50


def folder(path):
    path.mkdir()
    return path


def test_a_store_without_drafts_gets_the_same(odd, tmp_path):
    source = FolderSource(str(odd), frozenset())
    todo = todo_of(source, labelled=False)
    shards = []
    for url in (str(tmp_path / "lake"), "memory://"):
        lake = Lake.init(url)
        context = Context(source, lake.store, {}, "pictures", False, 30_000, AS_THEY_ARE, {}, tmp_path, files=100_000)
        shards.append(do_task(context, Task(0, "train", todo), lambda *_: None).finished.shard)
    assert shards[0] == shards[1]


def test_files_that_change_vanish_or_are_none(tmp_path):
    write_folder(tmp_path, 8)
    source = FolderSource(str(tmp_path), frozenset())
    entries = source.list(lambda _: None).entries
    (tmp_path / "cat/00000.jpg").unlink()
    (tmp_path / "cat/00002.jpg").write_bytes(b"longer than it was" * 1000)
    (tmp_path / "cat/00004.jpg").write_bytes(b"short")
    (tmp_path / "cat/00006.jpg").unlink()
    os.mkfifo(tmp_path / "cat/00006.jpg")
    (tmp_path / "dog/00001.jpg").unlink()
    (tmp_path / "dog/00001.jpg").mkdir()
    (tmp_path / "dog/00003.jpg").chmod(0o000 if os.geteuid() else 0o644)
    at = np.arange(8) * 5000
    buffer = np.full(8 * 5000 + 100, 7, np.uint8)
    etags = source.read_together(entries, buffer, at)
    fine = [entry.path for entry, etag in zip(entries, etags, strict=True) if etag is not None]
    assert fine == ["dog/00003.jpg", "dog/00005.jpg", "dog/00007.jpg"][0 if not os.geteuid() else 1 :]
    for entry, etag, start in zip(entries, etags, at.tolist(), strict=True):
        if etag is not None:
            data, expected = source.read(entry)
            assert (bytes(buffer[start : start + entry.size]), etag) == (data, expected)
    assert (buffer[-100:] == 7).all()


def test_nothing_is_read_past_the_buffer(tmp_path):
    write_folder(tmp_path, 2, classes=("cat",))
    source = FolderSource(str(tmp_path), frozenset())
    entries = source.list(lambda _: None).entries
    whole = np.full(entries[0].size + 50, 7, np.uint8)
    assert source.read_together(entries, whole[: entries[0].size], np.array([0, 10])) == [entries[0].etag, None]
    assert source.read_together(entries, whole[: entries[0].size], np.array([-1, -5])) == [None, None]
    assert (whole[entries[0].size :] == 7).all()


def test_without_a_descriptor_to_spare_no_file_is_read(tmp_path):
    write_folder(tmp_path, 3)
    source = FolderSource(str(tmp_path), frozenset())
    entries, at, buffer = source.list(lambda _: None).entries, np.arange(3) * 5000, np.empty(15_000, np.uint8)
    assert None not in source.read_together(entries, buffer, at)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)  # the lowest that nobody has
    try:
        for spare in range(2):  # for the folder, but not for a file in it
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, limits[1]))
            assert source.read_together(entries, buffer, at) == [None] * 3
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert None not in source.read_together(entries, buffer, at)


def test_links_files_of_the_kernel_and_odd_names(tmp_path):
    root = tmp_path / "source"
    write_folder(root, 6)
    (root / "version").symlink_to("/proc/version")  # it holds something, and says that it has no bytes
    (root / "size").symlink_to("/sys/kernel/mm/transparent_hugepage/enabled")  # says 4,096, and holds less
    (root / "linked.jpg").symlink_to("dog/00001.jpg")
    (root / "more").symlink_to("cat")
    (root / "nothing").symlink_to("nowhere")
    (root / "null").symlink_to("/dev/null")
    os.mkfifo(root / "fifo")
    (root / "a\nb \t'\"\\.txt").write_bytes(b"1")
    (root / os.fsdecode(b"\xff\xfe.txt")).write_bytes(b"2")
    (root / ("n" * 255)).write_bytes(b"3")
    (root / "empty").touch()
    source = FolderSource(str(root), frozenset())
    listing = source.list(lambda _: None)
    assert sorted(bad.source for bad in listing.bad) == ["fifo", "nothing", "null"]
    todo = todo_of(source, labelled=False)
    together, _ = made(source, todo, tmp_path, kind="files")
    one_by_one, _ = made(OneByOne(root), todo, tmp_path, kind="files")
    assert_equal(together, one_by_one)
    assert {bad.source: bad.reason for bad in together.bad}.items() >= {"empty": "it is empty"}.items()
    assert len(together.finished.metadata) == 6 + 1 + 3 + 3


def test_files_that_change_on_the_way_are_those_of_one_by_one(tmp_path):
    """Between the list and the reading."""
    root = tmp_path / "source"
    write_folder(root, 30)
    source = FolderSource(str(root), frozenset())
    todo = todo_of(source, labelled=True)
    for number in range(0, 30, 6):
        path = root / f"cat/{number:05d}.jpg"
        [
            lambda path: path.unlink(),
            lambda path: path.write_bytes(encode(noise(900), quality=95)),
            lambda path: path.write_bytes(path.read_bytes()[:500]),
            lambda path: path.write_bytes(b""),
            lambda path: (path.unlink(), os.mkfifo(path)),
        ][number // 6](path)
    later = root / "dog/00001.jpg"
    os.utime(later, ns=(1, 1))
    together, _ = made(source, todo, tmp_path)
    one_by_one, _ = made(OneByOne(root), todo, tmp_path)
    assert_equal(together, one_by_one)
    assert len(together.bad) == 4
    rows = together.finished.metadata
    assert rows.column("source_etag")[rows.column("source").to_pylist().index("dog/00001.jpg")].as_py().split("-")[1] == "1"


def test_a_system_that_lacks_the_calls(odd, tmp_path, monkeypatch):
    """Nothing can be read together, so threads read everything, and the shard is the same."""
    source = FolderSource(str(odd), frozenset())
    todo = todo_of(source, labelled=True)
    together, _ = made(source, todo, tmp_path)
    monkeypatch.setattr("dataplane.ingest.together.SUPPORTED", False)
    monkeypatch.setattr("dataplane.ingest.bulk._BUFFER_BYTES", 16 << 10)
    left = []
    monkeypatch.setattr(worker, "read_ahead", lambda source, kind, todo: left.append(len(todo)) or read_ahead(source, kind, todo))
    without, _ = made(source, todo, folder(tmp_path / "without"))
    assert_equal(together, without)
    assert len(todo) - 16 < left[0] < len(todo), "after the first bunch"


@pytest.mark.skipif(platform.libc_ver() < ("glibc", "2.28"), reason="this C library may lack them")
def test_glibc_has_the_calls():
    assert SUPPORTED


def test_a_folder_that_went_away(tmp_path):
    source = FolderSource(str(tmp_path / "gone"), frozenset())
    assert source.read_together([Entry("a", "a", 1, "")], np.empty(9, np.uint8), np.array([0])) == [None]
    assert isinstance(source, Together)
    assert not isinstance(OneByOne(tmp_path), Together)


def test_descriptors_are_given_back(tmp_path):
    write_folder(tmp_path, 4)
    source = FolderSource(str(tmp_path), frozenset())
    entries = source.list(lambda _: None).entries
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        source.read_together(entries, np.empty(100, np.uint8), np.zeros(4, np.int64))
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_told_of_pictures_that_stay_as_they_are(odd, tmp_path):
    source = FolderSource(str(odd), frozenset())
    done, _ = made(source, todo_of(source, labelled=False), tmp_path)
    assert done.pictures == Pictures()


def test_an_ingest_of_many_files_is_that_of_few(odd, tmp_path, monkeypatch):
    options = IngestOptions(check="structure", jpeg="keep", workers=2, shard_bytes=40_000, label_from="folder", split="train=0.8,test=0.2")
    results = []
    for many in (100, 10_000):
        monkeypatch.setattr("dataplane.ingest.worker._MANY", many)
        lake = Lake.init(str(tmp_path / f"{many}"))
        results.append((ingest(lake, str(odd), "photos", options=options), lake.dataset("photos")))
    (together, one), (apart, other) = results
    assert (together.splits, together.bad, together.renamed) == (apart.splits, apart.bad, apart.renamed)
    shards = [{(shard.ref, shard.index) for _, rows in dataset.parts for shard in rows} for dataset in (one, other)]
    assert shards[0] == shards[1]
    assert len(shards[0]) > 3
