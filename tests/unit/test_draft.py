"""Drafts: objects of a local store that are written once, straight into the file that becomes the object."""

import errno
import os
import resource
import subprocess
import sys

import pytest
from blake3 import blake3

from dataplane.errors import AlreadyExists, StorageFull
from dataplane.objects import Objects
from dataplane.refs import Digest
from dataplane.store import draft as draft_module
from dataplane.store import open_store
from dataplane.sweeps import Watch

DATA = bytes(range(251)) * 400


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "lake"))


@pytest.fixture(params=["direct", "buffered", "named", "refused while writing"])
def kind(request, monkeypatch):
    """File systems: some take no direct writes, some have no unnamed files, and some say they take direct writes and do not."""
    real_open, real_write = os.open, os.write

    def no(code):
        raise OSError(code, os.strerror(code))

    def opened(path, flags, *rest, **named):
        if flags & os.O_DIRECT and request.param in {"buffered", "named"}:
            no(errno.EINVAL)
        if flags & os.O_TMPFILE == os.O_TMPFILE and request.param == "named":
            no(errno.EOPNOTSUPP)
        return real_open(path, flags, *rest, **named)

    def written(fd, data):
        if os.get_blocking(fd) and draft_module.fcntl.fcntl(fd, draft_module.fcntl.F_GETFL) & os.O_DIRECT:
            no(errno.EINVAL)
        return real_write(fd, data)

    monkeypatch.setattr("dataplane.store.local.os.open", opened)
    if request.param == "refused while writing":
        monkeypatch.setattr("dataplane.store.draft.os.write", written)
    return request.param


def files(store):
    return sorted(path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file())


def test_the_bytes_are_those_written(store, kind):
    draft = store.draft()
    for piece in (DATA, b"", DATA[:7], memoryview(DATA)):
        draft.write(piece)
    whole = DATA + DATA[:7] + DATA
    assert draft.finish() == blake3(whole).hexdigest()
    assert [name for name in files(store) if not name.startswith(".tmp/")] == []
    draft.publish("a/x")
    assert draft.path.read_bytes() == whole
    draft.close()
    draft.close()
    assert files(store) == ["a/x"]
    assert (store.root / "a/x").read_bytes() == whole


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_pieces_that_end_about_where_a_block_ends(store, more):
    block = draft_module._BLOCK_BYTES
    pieces = [
        DATA[:5],
        bytes([1]) * (block - 5 + more),
        DATA[:9],
        bytearray(3 * block + more),
        memoryview(DATA)[:7],
        b"",
        bytes([2]) * (5 * block),
    ]
    draft = store.draft()
    for piece in pieces:
        draft.write(piece)
    whole = b"".join(pieces)
    assert draft.size == len(whole)
    assert draft.finish() == blake3(whole).hexdigest()
    draft.publish("x")
    draft.close()
    assert (store.root / "x").read_bytes() == whole


@pytest.mark.parametrize("published", [True, False])
def test_nothing_is_left_behind(store, kind, published):
    store.put("a/x", b"first")
    draft = store.draft()
    draft.write(DATA)
    if published:
        draft.finish()
        with pytest.raises(AlreadyExists):
            draft.publish("a/x")
    draft.close()
    assert files(store) == ["a/x"]
    assert (store.root / "a/x").read_bytes() == b"first"


def test_files_get_the_mode_that_the_umask_leaves(store, tmp_path, kind):
    (tmp_path / "reference").touch()
    draft = store.draft()
    draft.finish()
    draft.publish("x")
    draft.close()
    assert (store.root / "x").stat().st_mode == (tmp_path / "reference").stat().st_mode


def test_after_a_write_that_failed_nothing_succeeds(store, tmp_path):
    """A process may write no more than so much into a file: the same as a full disk, but for the error's number."""
    code = (
        "import resource, signal, sys\n"
        "from dataplane.errors import StoreError\n"
        "from dataplane.store import open_store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))\n"
        f"draft = open_store({str(store.root)!r}).draft()\n"
        "failures = 0\n"
        "for _ in range(40):\n"
        "    try:\n"
        "        draft.write(bytes(1 << 20))\n"
        "    except StoreError as error:\n"
        f"        assert {str(store.root)!r} in str(error), error\n"
        "        failures += 1\n"
        "try:\n"
        "    draft.finish()\n"
        "except StoreError:\n"
        "    print('failed', failures)\n"
        "draft.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    word, count = done.stdout.split()
    assert word == "failed"
    assert int(count) > 10
    assert files(store) == []


def test_a_full_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    try:
        store = open_store(str(folder / "lake"))
        draft = store.draft()
        draft.write(bytes(1 << 20) * 3)
        with pytest.raises(StorageFull, match="free some space"):
            draft.finish()
        draft.close()
        assert files(store) == []
        store.put("x", bytes(1 << 19))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def drafted(store):
    draft = store.draft()
    draft.write(DATA)
    return draft, Digest(draft.finish(), ".bin", len(DATA))


def test_an_object_from_a_draft(store):
    objects = Objects(store)
    draft, ref = drafted(store)
    objects.put_draft(draft, ref)
    draft.close()
    assert bytes(objects.get(ref)) == DATA
    before = store.local_path(ref).stat()
    draft, ref = drafted(store)
    objects.put_draft(draft, ref)
    draft.close()
    assert store.local_path(ref).stat().st_ino == before.st_ino


@pytest.mark.parametrize("aged", [False, True])
def test_an_object_that_is_there_is_mended_or_written_anew(store, caplog, aged):
    ref = Objects(store).put(DATA, suffix=".bin")
    path = store.local_path(ref)
    before = path.stat().st_ino
    if aged:
        os.utime(path, (0, 0))
    else:
        path.write_bytes(DATA[:-1])
    draft, ref = drafted(store)
    Objects(store).put_draft(draft, ref)
    draft.close()
    assert path.read_bytes() == DATA
    assert path.stat().st_ino != before
    assert len(caplog.messages) == (not aged)


def test_an_object_that_a_collector_took_at_that_moment_is_put_again(store, monkeypatch):
    draft, ref = drafted(store)
    passed = Watch.passed
    seen = []

    def taken(self, name, since):
        if not seen:
            seen.append(store.local_path(ref))
            seen[0].unlink()
            return since
        return passed(self, name, since)

    monkeypatch.setattr(Watch, "passed", taken)
    Objects(store).put_draft(draft, ref)
    draft.close()
    assert seen[0].read_bytes() == DATA


def test_descriptors_are_given_back(store):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    for _ in range(min(limit, 1024) // 256 * 20):
        draft, _ = drafted(store)
        draft.close()
    assert len(os.listdir("/proc/self/fd")) < 200
