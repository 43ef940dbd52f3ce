"""Every store that `open_store` gives is held to the kit, and the kit is held to stores that are wrong on purpose."""

import uuid

import pytest

from dataplane.store import WrapperStore, open_store
from dataplane.store.fsspec import FsspecStore
from dataplane.store.local import LocalStore
from dataplane.store.obs import ObstoreStore
from dataplane.testing import StoreTests


class TestLocal(StoreTests):
    @pytest.fixture
    def store(self, tmp_path):
        store = open_store(str(tmp_path / "store"))
        assert isinstance(store, LocalStore)
        return store


class TestMemory(StoreTests):
    @pytest.fixture
    def store(self):
        store = open_store(f"memory://{uuid.uuid4().hex}")
        assert isinstance(store, ObstoreStore)
        return store


class TestS3(StoreTests):
    @pytest.fixture
    def store(self, s3):
        store = open_store(s3.url())
        assert isinstance(store, ObstoreStore)
        return store


class TestS3ThroughFsspec(StoreTests):
    @pytest.fixture
    def store(self, s3):
        store = open_store(s3.url().replace("s3://", "s3+fsspec://"))
        assert isinstance(store, FsspecStore)
        return store


class TestFolderThroughFsspec(StoreTests):
    creates = False

    @pytest.fixture
    def store(self, tmp_path):
        store = open_store(f"file+fsspec://{tmp_path}/store")
        assert isinstance(store, FsspecStore)
        return store


class TestWrapped(StoreTests):
    @pytest.fixture
    def store(self, tmp_path):
        return WrapperStore(LocalStore(tmp_path / "store"))


class IgnoresTheCondition(WrapperStore):
    def put(self, path, file, *, mode=None, **options):
        return self.inner.put(path, file, **options)


class GivesTooMuch(WrapperStore):
    def get_range(self, path, *, start, end=None, length=None):
        return self.inner.get_range(path, start=start, end=end + 1 if end else None, length=length + 1 if length else None)


class ForgetsTheOrder(WrapperStore):
    def get_ranges(self, path, *, starts, ends=None, lengths=None):
        return sorted(self.inner.get_ranges(path, starts=starts, ends=ends, lengths=lengths))


class ListsByString(WrapperStore):
    def list(self, prefix=None, *, offset=None):
        for chunk in self.inner.list(offset=offset):
            yield [meta for meta in chunk if meta["path"].startswith(prefix or "")]


class LeaksTheBuiltin(WrapperStore):
    def get(self, path, *, options=None):
        try:
            return self.inner.get(path, options=options)
        except KeyError:
            raise FileNotFoundError(path) from None


@pytest.mark.parametrize(
    ("broken", "test", "complaint"),
    [
        (IgnoresTheCondition, "test_create_refuses_a_taken_name", "DID NOT RAISE"),
        (IgnoresTheCondition, "test_of_eight_creators_one_wins", "assert 8 == 1"),
        (ForgetsTheOrder, "test_get_ranges_in_the_order_asked_for", "assert"),
        (ListsByString, "test_list_takes_whole_segments", "ab/3"),
        (LeaksTheBuiltin, "test_the_url_names_it", "missing"),
    ],
)
def test_the_kit_finds_what_is_wrong(tmp_path, broken, test, complaint):
    store = broken(LocalStore(tmp_path / "store"))
    with pytest.raises((AssertionError, pytest.fail.Exception, FileNotFoundError), match=complaint):
        getattr(StoreTests(), test)(store)


def test_the_kit_finds_ranges_that_are_too_long(tmp_path):
    with pytest.raises(AssertionError):
        StoreTests().test_get_range_gives_what_there_is(GivesTooMuch(LocalStore(tmp_path / "store")), 5, 9)


def test_the_kit_wants_a_store():
    with pytest.raises(NotImplementedError, match="fixture"):
        StoreTests.store.__wrapped__(StoreTests())
