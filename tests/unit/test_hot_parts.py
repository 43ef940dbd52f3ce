"""Locks, open files, the directory's layout and the index, each by itself."""

import logging
import os
import sqlite3
import threading

import pytest
from blake3 import blake3

from dataplane.errors import FormatTooNew, InvalidArgument, StoreUnavailable
from dataplane.refs import Digest
from dataplane.store.local import LocalStore
from tests.hot import MiB, Wrong, put_objects
from tiering import locks
from tiering.arrival import fetch, pieces_of_file, write_verified
from tiering.handles import Handles
from tiering.index import Index
from tiering.layout import Layout, Unusable, charge, local
from tiering.policy import Entry

KEYS = [f"{n:064x}.tar" for n in range(8)]


# ---------------------------------------------------------------------- locks


def test_a_claim_is_one_mans(tmp_path):
    path = tmp_path / "x"
    mine = locks.claim(path, wait=False)
    assert mine is not None
    assert locks.claim(path, wait=False) is None
    with locks.vacant(path) as fd:
        assert fd is None
    locks.unlock_and_close(mine)
    with locks.vacant(path) as fd:
        assert fd is not None


def test_who_waited_for_a_claim_looks_again(tmp_path):
    path, got = tmp_path / "x", []
    mine = locks.claim(path, wait=False)
    waiter = threading.Thread(target=lambda: got.append(locks.claim(path, wait=True)))
    waiter.start()
    os.rename(path, tmp_path / "done")
    locks.unlock_and_close(mine)
    waiter.join()
    assert got[0] is None or locks.names(path, got[0])  # came before the rename: waited for nothing; after it: a claim of its own
    for fd in filter(None, got):
        locks.unlock_and_close(fd)


# ---------------------------------------------------------------------- open files


@pytest.fixture
def handles(tmp_path):
    for key in KEYS:
        (tmp_path / key).write_bytes(key.encode())
    made = Handles(tmp_path, max_open=3)
    yield made
    made.close()


def open_files(folder):
    return sum(os.readlink(f"/proc/self/fd/{fd}").startswith(str(folder)) for fd in os.listdir("/proc/self/fd") if _alive(fd))


def _alive(fd):
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_files_stay_open_up_to_a_number(tmp_path, handles):
    assert handles.acquire(KEYS[0]) is None
    for key in KEYS:
        handle = handles.open(key, size=len(key))
        assert os.pread(handle.fd, 100, 0) == key.encode()
        handles.release(handle, hit_bytes=10)
    assert open_files(tmp_path) <= 3 + 1
    assert handles.acquire(KEYS[0]) is None
    handle = handles.acquire(KEYS[-1])
    assert handle.key == KEYS[-1]
    handles.release(handle)
    assert handles.hits() == (len(KEYS), 10 * len(KEYS))
    assert set(handles.take_last_read()) == set(KEYS)
    assert handles.take_last_read() == {}


def test_readers_at_once_have_files_of_their_own(tmp_path, handles):
    first = handles.open(KEYS[0], size=None)
    assert handles.acquire(KEYS[0]) is None
    second = handles.open(KEYS[0], size=None)
    assert first.fd != second.fd
    handles.close()
    assert open_files(tmp_path) == 2  # their owners still read
    handles.release(first)
    handles.discard(second)
    assert open_files(tmp_path) == 0


def test_a_reader_keeps_a_file_from_being_taken(tmp_path, handles):
    handle = handles.open(KEYS[0], size=None)
    with locks.vacant(tmp_path / KEYS[0]) as fd:
        assert fd is None
    handles.release(handle)
    with locks.vacant(tmp_path / KEYS[0]) as fd:
        assert fd is not None
        assert handles.acquire(KEYS[0]) is None  # being evicted


def test_missing_and_odd_files_are_not_opened(tmp_path, handles):
    (tmp_path / KEYS[1]).write_bytes(b"")
    (tmp_path / KEYS[2]).unlink()
    assert handles.open(KEYS[0], size=3) is None
    assert handles.open(KEYS[1], size=None) is None
    assert handles.open(KEYS[2], size=None) is None
    assert open_files(tmp_path) == 0


# ---------------------------------------------------------------------- layout


def test_a_directory_becomes_a_hot_tier_beside_foreign_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    layout = Layout(tmp_path)
    assert not layout.exists()
    layout.make()
    layout.make()
    assert layout.exists()
    assert sorted(os.listdir(tmp_path)) == ["dataplane-hot.json", "notes.txt", "objects", "partial"]


@pytest.mark.parametrize("name", ["objects", "partial", "index.sqlite"])
def test_somebody_elses_names_are_not_taken_over(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(InvalidArgument, match=f"holds {name}, which no hot tier made"):
        Layout(tmp_path).make()
    assert os.listdir(tmp_path) == [name]


def test_a_newer_format_is_left_alone(tmp_path):
    (tmp_path / "dataplane-hot.json").write_text('{"format": 2}')
    with pytest.raises(FormatTooNew, match="format 2; this release knows 1"):
        Layout(tmp_path).make()
    (tmp_path / "dataplane-hot.json").write_text("?")
    with pytest.raises(Unusable, match="does not read as the marker"):
        Layout(tmp_path).make()


def test_only_local_failures_are_turned():
    with pytest.raises(Unusable), local():
        raise OSError("disk")
    with pytest.raises(Unusable), local():
        raise sqlite3.OperationalError("locked")
    with pytest.raises(StoreUnavailable), local():
        raise StoreUnavailable("cold")


# ---------------------------------------------------------------------- the index


@pytest.fixture
def layout(tmp_path):
    made = Layout(tmp_path)
    made.make()
    return made


@pytest.fixture
def index(layout):
    made = Index(layout, reconcile=lambda tx: None)
    yield made
    made.close()


def test_a_transaction_is_all_or_nothing_and_lasts(layout, index):
    with index.transaction() as tx:
        tx.set_limit(1000)
        tx.put(Entry("a", 5000, 1), arriving=False)
        tx.put(Entry("b", 1, 2), arriving=True)
        tx.count({"hits": 2})

    def fail(tx):
        tx.remove("a")
        tx.count({"hits": 1})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), index.transaction() as tx:
        fail(tx)
    other = Index(layout, reconcile=lambda tx: None)
    with other.transaction() as tx:
        assert tx.entries() == [Entry("a", 5000, 1)]
        assert tx.arriving() == [Entry("b", 1, 2)]
        assert tx.payload() == (1, 5001)
        assert tx.charged() == charge(5000) + charge(1)
        assert tx.limit() == 1000
        tx.count({"hits": 3, "misses": 1})
        tx.touch({"a": 7, "gone": 8})
        tx.touch({"a": 6})
    other.close()
    with index.transaction() as tx:
        assert tx.counters() == {"hits": 5, "misses": 1}
        assert tx.entries() == [Entry("a", 5000, 7)]


def test_a_connection_reconciles_before_its_first_use(layout):
    seen = []
    index = Index(layout, reconcile=lambda tx: seen.append(tx.limit()))
    for _ in range(2):
        with index.transaction() as tx:
            tx.set_limit(5)
    index.close()
    with index.transaction():
        pass
    index.close()
    assert seen == [0, 5]


def test_a_damaged_index_is_made_anew(layout, caplog):
    layout.database.write_bytes(b"not a database, but something else of some length" * 100)
    index = Index(layout, reconcile=lambda tx: tx.set_limit(7))
    with caplog.at_level(logging.WARNING), index.transaction() as tx:
        assert tx.limit() == 7
        assert tx.entries() == []
    index.close()
    assert "made anew" in caplog.text


def test_an_index_that_vanished_is_made_anew(layout):
    index = Index(layout, reconcile=lambda tx: None)
    with index.transaction() as tx:
        tx.set_limit(7)
    for path in layout.database_files():
        path.unlink(missing_ok=True)
    with index.transaction() as tx:
        assert tx.limit() == 0
    index.close()


def test_an_index_emptied_under_way_is_made_good_by_the_next_transaction(layout, index):
    with index.transaction() as tx:
        tx.set_limit(7)
        tx._db.execute("DROP TABLE entries")
    with pytest.raises(Unusable), index.transaction() as tx:
        tx.entries()
    with index.transaction() as tx:
        assert tx.entries() == []


def test_a_newer_index_is_left_alone(layout):
    db = sqlite3.connect(layout.database)
    db.execute("PRAGMA user_version = 2")
    db.close()
    with pytest.raises(FormatTooNew), Index(layout, reconcile=lambda tx: None).transaction():
        pass


# ---------------------------------------------------------------------- arrival


def test_large_objects_come_in_parts_in_order(tmp_path):
    cold = LocalStore(tmp_path / "cold")
    [(ref, data)] = put_objects(cold, [19 * MiB + 3])
    pieces = list(fetch(cold, ref))
    assert [len(piece) for piece in pieces] == [8 * MiB, 8 * MiB, 3 * MiB + 3]
    assert b"".join(pieces) == data


def test_a_fetch_that_is_given_up_leaves_no_thread(tmp_path):
    cold = LocalStore(tmp_path / "cold")
    [(ref, _)] = put_objects(cold, [64 * MiB])
    pieces = fetch(cold, ref)
    next(pieces)
    pieces.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tiering-fetch")]


@pytest.mark.parametrize("pieces", [[b"abc"], [b"abcdef", b"g"], [b"abcdeg"], []])
def test_wrong_bytes_are_told(tmp_path, pieces):
    ref = Digest(blake3(b"abcdef").hexdigest(), ".tar", 6)
    with open(tmp_path / "x", "w+b") as stream:
        assert not write_verified(stream.fileno(), pieces, ref)
        assert os.fstat(stream.fileno()).st_size <= 6
        assert write_verified(stream.fileno(), [b"abc", bytearray(b"def")], ref)
    assert (tmp_path / "x").read_bytes() == b"abcdef"


def test_a_local_file_that_is_missing_is_a_local_failure(tmp_path):
    with pytest.raises(Unusable):
        list(pieces_of_file(tmp_path / "none"))


def test_the_wrong_store_is_wrong(tmp_path):
    cold = LocalStore(tmp_path)
    [(ref, data)] = put_objects(cold, [100])
    assert bytes(Wrong(cold, 1).get_range(ref.path, start=0, end=100)) != data
