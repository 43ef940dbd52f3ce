"""Every store that `open_store` gives is held to the kit, and the kit is held to stores that are wrong on purpose."""

import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from dataplane.store import WrapperStore, open_store
from dataplane.store.fsspec import FsspecStore
from dataplane.store.local import LocalStore
from dataplane.store.obs import ObstoreStore
from dataplane.testing import StoreTests

BROKEN = Path(__file__).parent / "broken_stores.py"


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


FAILING = {
    "IgnoresTheCondition": {"test_create_refuses_a_taken_name", "test_of_eight_creators_one_wins"},
    "LooksAndThenWrites": {"test_of_eight_creators_one_wins"},
    "TakesTheFirstChunk": {"test_put_takes_bytes_files_paths_and_chunks"},
    "GoesUp": {"test_paths_stay_inside"},
    "LosesTheEnd": {"test_put_takes_bytes_files_paths_and_chunks", "test_get_of_a_range", "test_get_gives_chunks_a_buffer_and_what_it_is"},
    "ReadsOneByteFurther": {"test_get_range_gives_what_there_is"},
    "BeginsOneByteLate": {"test_get_ranges_in_the_order_asked_for"},
    "ForgetsTheOrder": {"test_get_ranges_in_the_order_asked_for"},
    "LeaksTheBuiltin": {"test_a_missing_object_is_not_found", "test_the_url_names_it"},
    "IgnoresTheEtag": {"test_an_object_that_changed_is_not_read"},
    "HasOneEtag": {"test_an_etag_stays_while_the_bytes_do"},
    "ListsByString": {"test_list_takes_whole_segments"},
    "ListsLate": {"test_a_new_object_is_listed_at_once", "test_list_takes_whole_segments"},
    "ForgetsTheOffset": {"test_list_after_an_offset"},
    "ListsAllBelow": {"test_list_of_one_level"},
    "MissesWhatItDeletes": {"test_delete"},
    "KeepsEverything": {"test_delete", "test_a_new_object_is_listed_at_once", "test_an_object_that_is_gone_is_not_found"},
    "HasNoName": {"test_the_url_names_it"},
}


@pytest.fixture(scope="module")
def failures():
    """The tests of the kit that each broken store fails, by its class."""
    command = [sys.executable, "-m", "pytest", str(BROKEN), "-q", "--tb=no", "-rf", "-p", "no:cacheprovider", "-p", "no:randomly"]
    done = subprocess.run(command, cwd=BROKEN.parents[2], capture_output=True, text=True, timeout=240)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"\d+ failed, \d+ passed", done.stdout), done.stdout
    found = {}
    for name, test in re.findall(r"^FAILED \S+::Test(\w+)::(\w+)", done.stdout, re.MULTILINE):
        found.setdefault(name, set()).add(test)
    return found


def test_the_kit_finds_nothing_in_a_sound_store(failures):
    assert "Sound" not in failures
    assert failures.keys() == FAILING.keys()


@pytest.mark.parametrize("broken", FAILING)
def test_the_kit_finds_what_is_wrong(broken, failures):
    assert failures[broken] >= FAILING[broken]


def test_the_kit_wants_a_store():
    with pytest.raises(NotImplementedError, match="fixture"):
        StoreTests.store.__wrapped__(StoreTests())
