"""Whatever writers do to the datasets of a lake, and whatever the store does to them, its catalog says what a dictionary says."""

import shutil
import tempfile

import pytest
from hypothesis import settings

from dataplane import log
from dataplane.store import open_store
from dataplane.testing import CatalogMachine


@pytest.fixture(autouse=True, scope="module")
def no_waiting():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log.time, "sleep", lambda _: None)
        yield


class InAFolder(CatalogMachine):
    def make_store(self):
        self.folder = tempfile.mkdtemp(prefix="catalog-machine-")
        return open_store(self.folder)

    def teardown(self):
        super().teardown()
        shutil.rmtree(self.folder, ignore_errors=True)


TestInMemory = CatalogMachine.TestCase
TestInMemory.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)

TestInAFolder = InAFolder.TestCase
TestInAFolder.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
