"""One task: files that lie in memory are read together, files that a disk has to give by several threads; the shard is the same."""

import os
import resource
import sys
import threading

import pytest

from dataplane import Lake
from dataplane.errors import BadSample
from dataplane.ingest import worker
from dataplane.ingest.options import Pictures
from dataplane.ingest.plan import Task, Todo, Wanted, key_of
from dataplane.ingest.source import FolderSource
from dataplane.ingest.worker import Context, do_task
from dataplane.prep.options import PictureOptions
from tests.folders import encode, noise, write_folder

AS_THEY_ARE = PictureOptions("keep", "keep", "keep", None, None)


class Folder:
    """A folder source that counts how many read at once."""

    readers, bunch, url = 4, 4, "folder"

    def __init__(self, root):
        self.inner = FolderSource(str(root), frozenset())
        self.lock = threading.Lock()
        self.seen = self.at_work = self.most = 0

    def list(self, found):
        return self.inner.list(found)

    def read(self, entry, limit=None):
        with self.lock:
            self.seen += 1
            self.at_work += 1
            self.most = max(self.most, self.at_work)
        try:
            return self.inner.read(entry, limit)
        finally:
            with self.lock:
                self.at_work -= 1


class Together(Folder):
    """One that can read many at once."""

    bunches = 0

    def read_together(self, entries, buffer, at):
        self.seen += len(entries)
        self.bunches += len(entries) > 0  # the first call is to load what it takes
        return self.inner.read_together(entries, buffer, at)


def evict(folder):
    """Take the files out of the page cache. Whether the system did so."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_inblock
    for path in sorted(folder.rglob("*.jpg")):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    path.read_bytes()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock > before


def do(source, lake, folder, *, decode=False, pictures=AS_THEY_ARE, files=100_000):
    todo = tuple(Todo(Wanted(entry, key_of(entry.path), None, "train")) for entry in source.list(lambda _: None).entries)
    heard = []
    context = Context(source, lake.store, {}, "pictures", decode, 1 << 20, pictures, {}, folder, files)
    return do_task(context, Task(0, "train", todo), lambda *told: heard.append(told)), heard


@pytest.mark.parametrize("cold", [False, True])
def test_how_files_come_does_not_change_the_shard(tmp_path, monkeypatch, cold):
    monkeypatch.setattr("dataplane.ingest.bulk._BUFFER_BYTES", 32 << 10)  # several bunches
    write_folder(tmp_path / "source", 200)
    (tmp_path / "source/cat/00004.jpg").write_bytes(b"none")
    lake = Lake.init(str(tmp_path / "lake"))
    usual, _ = do(Folder(tmp_path / "source"), lake, tmp_path, decode=True)
    if cold and not evict(tmp_path / "source"):
        pytest.skip("this file system keeps its files in memory")
    source = Together(tmp_path / "source")
    done, heard = do(source, lake, tmp_path)
    assert [bad.source for bad in done.bad] == ["cat/00004.jpg"]
    assert done.finished.shard == usual.finished.shard
    assert done.finished.metadata.equals(usual.finished.metadata)
    assert sum(samples for samples, _ in heard) == source.seen == 200
    assert source.bunches == 1 if cold else source.bunches > 5
    assert (source.most > 1) == cold


def test_few_files_do_not_load_what_many_need(tmp_path):
    write_folder(tmp_path / "source", 4)
    source = Together(tmp_path / "source")
    done, _ = do(source, Lake.init(str(tmp_path / "lake")), tmp_path, files=4)
    assert (done.finished.shard.samples, source.bunches) == (4, 0)


@pytest.mark.parametrize(("loaded", "fewest"), [(True, 2048), (False, 4096)])
def test_how_many_files_are_many_depends_on_what_is_loaded(monkeypatch, loaded, fewest):
    if loaded:
        monkeypatch.setitem(sys.modules, "numba", sys)
    else:
        monkeypatch.delitem(sys.modules, "numba", raising=False)
    assert not worker._worth_it(fewest - 1)
    assert worker._worth_it(fewest)


def test_a_task_that_failed_lets_the_next_one_read(tmp_path):
    write_folder(tmp_path / "source", 64)
    lake = Lake.init(str(tmp_path / "lake"))

    class Gone(Folder):
        def read(self, entry, limit=None):
            if self.seen == 5:
                raise OSError("gone")
            return super().read(entry, limit)

    with pytest.raises(Exception, match="gone"):
        do(Gone(tmp_path / "source"), lake, tmp_path)
    done, _ = do(Folder(tmp_path / "source"), lake, tmp_path)
    assert done.finished.shard.samples == 64


def test_a_bad_file_is_no_end(tmp_path):
    write_folder(tmp_path / "source", 8)
    lake = Lake.init(str(tmp_path / "lake"))

    class Refusing(Folder):
        def read(self, entry, limit=None):
            if entry.path.startswith("dog"):
                raise BadSample("no dogs")
            return super().read(entry, limit)

    done, _ = do(Refusing(tmp_path / "source"), lake, tmp_path)
    assert {bad.reason for bad in done.bad} == {"no dogs"}
    assert done.finished.shard.samples == 4


def test_what_was_done_to_pictures_is_told(tmp_path):
    made = write_folder(tmp_path / "source", 10)
    (tmp_path / "source/cat/cmyk.jpg").write_bytes(encode(noise(50).convert("CMYK")))
    (tmp_path / "source/cat/other.png").write_bytes(encode(noise(51), "PNG"))
    (tmp_path / "source/cat/none.jpg").touch()
    lake = Lake.init(str(tmp_path / "lake"))
    done, _ = do(Folder(tmp_path / "source"), lake, tmp_path, decode=True, pictures=PictureOptions("index", "keep", "keep", None, None))
    assert (done.pictures.indexed, done.pictures.encoded, done.pictures.left) == (10, 0, {"4 components": 1})
    assert done.pictures.bytes_before == sum(map(len, made.values()))
    stored = sum(done.finished.metadata.column("bytes").to_pylist())
    others = (tmp_path / "source/cat/cmyk.jpg", tmp_path / "source/cat/other.png")
    assert done.pictures.bytes_after == stored - sum(path.stat().st_size for path in others)
    again, _ = do(Folder(tmp_path / "source"), lake, tmp_path, decode=True)
    assert again.pictures == Pictures()
    digests = [done.finished.metadata.column("source_blake3"), again.finished.metadata.column("source_blake3")]
    assert digests[0] == digests[1], "those of the sources, however they are stored"
