"""A hot tier in front of a store is held to the kit of stores."""

import pytest

from dataplane.store.local import LocalStore
from dataplane.testing import StoreTests
from tests.hot import MiB
from tiering import Hot


class TestHotStore(StoreTests):
    @pytest.fixture
    def store(self, tmp_path):
        return Hot(tmp_path / "hot", limit=4 * MiB).wrap(LocalStore(tmp_path / "cold"))
