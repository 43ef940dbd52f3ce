"""Stores that are each wrong in one way, held to the kit: every class but the first has to fail (see test_stores.py)."""

import posixpath
import time

import pytest

from dataplane.errors import AlreadyExists, NotFound
from dataplane.store import WrapperStore
from dataplane.store.local import LocalStore
from dataplane.store.result import BufferResult
from dataplane.testing import StoreTests


class Sound(WrapperStore):
    """Not wrong at all, and with the capability to read what was seen before."""

    def get_ranges_matching(self, path, *, starts, lengths, etag):
        return self.inner.get_ranges_matching(path, starts=starts, lengths=lengths, etag=etag)


class IgnoresTheCondition(Sound):
    def put(self, path, file, *, mode=None, **options):
        return self.inner.put(path, file, **options)


class LooksAndThenWrites(Sound):
    def put(self, path, file, *, mode=None, **options):
        if mode == "create":
            try:
                self.inner.head(path)
            except NotFound:
                time.sleep(0.02)  # as long as a request takes, in which others look too
                return self.inner.put(path, file, **options)
            raise AlreadyExists(f"{self.url}/{path} exists already")
        return self.inner.put(path, file, **options)


class TakesTheFirstChunk(Sound):
    def put(self, path, file, **options):
        return self.inner.put(path, next(file) if hasattr(file, "__next__") and not hasattr(file, "read") else file, **options)


class GoesUp(Sound):
    def put(self, path, file, **options):
        return self.inner.put(posixpath.normpath(path).lstrip("./") or "x", file, **options)


class LosesTheEnd(Sound):
    def get(self, path, *, options=None):
        result = self.inner.get(path, options=options)
        return BufferResult(memoryview(result.buffer())[:-1], result.meta, result.range[0])


class ReadsOneByteFurther(Sound):
    def get_range(self, path, *, start, end=None, length=None):
        return self.inner.get_range(path, start=start, end=end + 1 if end else None, length=length + 1 if length else None)


class BeginsOneByteLate(Sound):
    def get_ranges(self, path, *, starts, ends=None, lengths=None):
        return self.inner.get_ranges(path, starts=[start + 1 for start in starts], ends=ends, lengths=lengths)


class ForgetsTheOrder(Sound):
    def get_ranges(self, path, *, starts, ends=None, lengths=None):
        return sorted(self.inner.get_ranges(path, starts=starts, ends=ends, lengths=lengths))


class LeaksTheBuiltin(Sound):
    def get(self, path, *, options=None):
        try:
            return self.inner.get(path, options=options)
        except KeyError:
            raise FileNotFoundError(path) from None


class IgnoresTheEtag(Sound):
    def get_ranges_matching(self, path, *, starts, lengths, etag):
        return self.inner.get_ranges(path, starts=starts, lengths=lengths)


class HasOneEtag(Sound):
    def head(self, path):
        return {**self.inner.head(path), "e_tag": '"1"'}


class ListsByString(Sound):
    def list(self, prefix=None, *, offset=None):
        for chunk in self.inner.list(offset=offset):
            yield [meta for meta in chunk if meta["path"].startswith(prefix or "")]


class ListsLate(Sound):
    newest = None

    def put(self, path, file, **options):
        self.newest = path
        return self.inner.put(path, file, **options)

    def list(self, prefix=None, *, offset=None):
        for chunk in self.inner.list(prefix, offset=offset):
            yield [meta for meta in chunk if meta["path"] != self.newest]


class ForgetsTheOffset(Sound):
    def list(self, prefix=None, *, offset=None):
        return self.inner.list(prefix)


class ListsAllBelow(Sound):
    def list_with_delimiter(self, prefix=None):
        level = self.inner.list_with_delimiter(prefix)
        return {**level, "objects": [meta for chunk in self.inner.list(prefix) for meta in chunk]}


class MissesWhatItDeletes(Sound):
    def delete(self, paths):
        for path in [paths] if isinstance(paths, str) else paths:
            self.inner.head(path)
            self.inner.delete(path)


class KeepsEverything(Sound):
    def delete(self, paths):
        pass


class HasNoName(Sound):
    @property
    def url(self):
        return ""


BROKEN = Sound.__subclasses__()


def kit(store_class):
    class Kit(StoreTests):
        @pytest.fixture
        def store(self, tmp_path):
            return store_class(LocalStore(tmp_path / "store"))

        @pytest.fixture(autouse=True)
        def small(self, request):
            if "large" in request.node.name:
                pytest.skip("it takes long, and nothing here depends on it")

    return Kit


for each in (Sound, *BROKEN):
    globals()[f"Test{each.__name__}"] = kit(each)
