"""The conformance kit of stores: subclass `StoreTests`, give it a fixture `store`, and every verb is held to its contract."""

from __future__ import annotations

import io
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from dataplane.errors import AlreadyExists, InvalidArgument, NotFound, SourceChanged, StoreError
from dataplane.store.protocol import Drafts, ReadMatching, Store

__all__ = ["StoreTests"]

_TEXT = b"0123456789abcdefghijklmnopqrstuvwxyz"
_LARGE_BYTES = 11 << 20  # beyond one chunk, so that stores with multipart uploads use them


def _read(store: Store, path: str) -> bytes:
    return bytes(memoryview(store.get(path).buffer()))


def _paths(store: Store, prefix: str | None = None, **options: Any) -> list[str]:
    return sorted(meta["path"] for chunk in store.list(prefix, **options) for meta in chunk)


def _matching(store: Store) -> ReadMatching:
    if not isinstance(store, ReadMatching):
        pytest.skip("a store without conditional reads")
    return store


def _drafts(store: Store) -> Drafts:
    if not isinstance(store, Drafts):
        pytest.skip("a store without drafts")
    return store


class StoreTests:
    """A subclass provides the fixture `store`: empty, and its own for every test.

    `creates` is False for a store without put-if-absent, which has to refuse `mode="create"`: it can be a source, never a lake.
    Tests of a capability are skipped for stores without it. `clock_seconds`: how far apart two writes of equally many bytes are for the
    store to tell one from the other by their etags.
    """

    creates = True
    clock_seconds = 0.0

    def wait_for_a_new_etag(self) -> None:
        """Until a write now has another time than those before."""
        time.sleep(self.clock_seconds)

    @pytest.fixture
    def store(self) -> Store:
        """The store under test."""
        raise NotImplementedError("override the fixture `store`")

    # ------------------------------------------------------------------ put and get

    def test_put_takes_bytes_files_paths_and_chunks(self, store: Store, tmp_path: Path) -> None:
        file = tmp_path / "source"
        file.write_bytes(_TEXT)
        store.put("a/bytes", _TEXT)
        store.put("a/view", memoryview(_TEXT))
        store.put("a/file", io.BytesIO(_TEXT))
        store.put("a/path", file)
        store.put("a/chunks", iter([_TEXT[:10], _TEXT[10:]]))
        for name in ("bytes", "view", "file", "path", "chunks"):
            assert _read(store, f"a/{name}") == _TEXT, name

    def test_an_empty_object(self, store: Store) -> None:
        store.put("empty", b"")
        assert _read(store, "empty") == b""
        assert store.head("empty")["size"] == 0

    @pytest.mark.parametrize("mode", [None, "create"])
    def test_a_large_object(self, store: Store, tmp_path: Path, mode: Any) -> None:
        if mode == "create" and not self.creates:
            pytest.skip("a store without put-if-absent")
        file = tmp_path / "source"
        file.write_bytes(bytes(range(251)) * (_LARGE_BYTES // 251))
        store.put("large", file, mode=mode)
        assert store.head("large")["size"] == file.stat().st_size
        assert _read(store, "large") == file.read_bytes()

    def test_put_replaces(self, store: Store) -> None:
        store.put("a", b"first, and longer")
        store.put("a", b"second")
        assert _read(store, "a") == b"second"

    def test_names_need_no_quoting(self, store: Store) -> None:
        names = ["with space", "ünïcode-字", "per%cent%20", "plus+and&=", "#hash?query", "~tilde'quote"]
        for name in names:
            store.put(f"odd/{name}", name.encode())
        assert _paths(store, "odd") == sorted(f"odd/{name}" for name in names)
        for name in names:
            assert _read(store, f"odd/{name}") == name.encode()

    @pytest.mark.parametrize("path", ["", "/a", "a/", "a//b", "../a", "a/./b", "a\nb"])
    def test_paths_stay_inside(self, store: Store, path: str) -> None:
        with pytest.raises(InvalidArgument):
            store.put(path, b"")
        with pytest.raises(InvalidArgument):
            store.get(path)

    # ------------------------------------------------------------------ drafts

    @pytest.mark.parametrize("size", [0, 1, 4096, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, _LARGE_BYTES])
    def test_a_draft_becomes_an_object(self, store: Store, size: int) -> None:
        draft, data = _drafts(store).draft(), (_TEXT * (size // len(_TEXT) + 1))[:size]
        try:
            for start in range(0, size, 700_001):
                draft.write(data[start : start + 700_001])
            assert draft.finish() == blake3(data).hexdigest()
            assert _paths(store) == []
            assert draft.path.read_bytes() == data
            draft.publish("a/drafted")
        finally:
            draft.close()
        assert _read(store, "a/drafted") == data
        assert _paths(store) == ["a/drafted"]

    def test_a_draft_takes_no_taken_name_and_leaves_nothing_behind(self, store: Store) -> None:
        drafts = _drafts(store)
        store.put("a", b"first")
        for publish in (True, False):
            draft = drafts.draft()
            draft.write(_TEXT)
            if publish:
                draft.finish()
                with pytest.raises(AlreadyExists):
                    draft.publish("a")
                assert draft.path.read_bytes() == _TEXT
            draft.close()
            draft.close()
        assert _paths(store) == ["a"]
        assert _read(store, "a") == b"first"

    # ------------------------------------------------------------------ put-if-absent

    def test_without_put_if_absent_it_is_refused(self, store: Store) -> None:
        if self.creates:
            pytest.skip("a store with put-if-absent")
        with pytest.raises(StoreError):
            store.put("a", b"first", mode="create")
        assert _paths(store) == []

    def test_create_refuses_a_taken_name(self, store: Store) -> None:
        if not self.creates:
            pytest.skip("a store without put-if-absent")
        store.put("a", b"first", mode="create")
        with pytest.raises(AlreadyExists):
            store.put("a", b"second", mode="create")
        assert _read(store, "a") == b"first"

    def test_of_eight_creators_one_wins(self, store: Store) -> None:
        if not self.creates:
            pytest.skip("a store without put-if-absent")

        def create(number: int) -> bool:
            try:
                store.put("contended/name", f"{number}".encode() * 1000, mode="create")
            except AlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            won = list(threads.map(create, range(8)))
        assert won.count(True) == 1
        assert _read(store, "contended/name") == f"{won.index(True)}".encode() * 1000

    # ------------------------------------------------------------------ reading

    def test_a_missing_object_is_not_found(self, store: Store) -> None:
        store.put("folder/object", b"x")
        for path in ("missing", "folder/missing", "missing/missing", "folder", "folder/object/below"):
            for read in (
                lambda path=path: store.get(path),
                lambda path=path: store.head(path),
                lambda path=path: store.get_range(path, start=0, end=1),
                lambda path=path: store.get_ranges(path, starts=[0], ends=[1]),
            ):
                with pytest.raises(NotFound, match=r"missing|folder"):
                    read()

    def test_head(self, store: Store) -> None:
        store.put("a/b", _TEXT)
        meta = store.head("a/b")
        assert (meta["path"], meta["size"]) == ("a/b", len(_TEXT))
        assert isinstance(meta["last_modified"], datetime)
        assert meta["last_modified"].tzinfo is not None
        assert meta["e_tag"]

    def test_get_gives_chunks_a_buffer_and_what_it_is(self, store: Store) -> None:
        store.put("a", _TEXT)
        assert b"".join(bytes(memoryview(chunk)) for chunk in store.get("a")) == _TEXT
        result = store.get("a")
        assert (result.meta["path"], result.meta["size"]) == ("a", len(_TEXT))
        assert tuple(result.range) == (0, len(_TEXT))

    @pytest.mark.parametrize(
        ("asked", "start", "end"),
        [((3, 7), 3, 7), ([3, 7], 3, 7), ((30, 99), 30, 36), ({"offset": 30}, 30, 36), ({"suffix": 4}, 32, 36), ({"suffix": 99}, 0, 36)],
    )
    def test_get_of_a_range(self, store: Store, asked: Any, start: int, end: int) -> None:
        store.put("a", _TEXT)
        result = store.get("a", options={"range": asked})
        assert bytes(memoryview(result.buffer())) == _TEXT[start:end]
        assert tuple(result.range) == (start, end)

    @pytest.mark.parametrize(("start", "end"), [(0, 36), (5, 9), (35, 36), (7, 7), (30, 1000), (36, 40), (40, 50), (0, 0)])
    def test_get_range_gives_what_there_is(self, store: Store, start: int, end: int) -> None:
        store.put("a", _TEXT)
        assert bytes(memoryview(store.get_range("a", start=start, end=end))) == _TEXT[start:end]
        assert bytes(memoryview(store.get_range("a", start=start, length=end - start))) == _TEXT[start:end]

    def test_get_ranges_in_the_order_asked_for(self, store: Store) -> None:
        store.put("a", _TEXT)
        starts, ends = [20, 0, 5, 5, 34, 36, 50, 7], [25, 3, 9, 9, 99, 40, 60, 7]
        expected = [_TEXT[start:end] for start, end in zip(starts, ends, strict=True)]
        assert [bytes(memoryview(piece)) for piece in store.get_ranges("a", starts=starts, ends=ends)] == expected
        lengths = [end - start for start, end in zip(starts, ends, strict=True)]
        assert [bytes(memoryview(piece)) for piece in store.get_ranges("a", starts=starts, lengths=lengths)] == expected
        assert list(store.get_ranges("a", starts=[], ends=[])) == []

    def test_ranges_of_an_empty_object(self, store: Store) -> None:
        store.put("empty", b"")
        assert bytes(memoryview(store.get_range("empty", start=0, end=10))) == b""
        assert [bytes(memoryview(piece)) for piece in store.get_ranges("empty", starts=[0, 4], ends=[4, 8])] == [b"", b""]

    def test_a_range_has_one_end(self, store: Store) -> None:
        store.put("a", _TEXT)
        with pytest.raises(InvalidArgument):
            store.get_range("a", start=0)
        with pytest.raises(InvalidArgument):
            store.get_ranges("a", starts=[0], ends=[1], lengths=[1])
        with pytest.raises(InvalidArgument):
            store.get_range("a", start=5, end=2)

    # ------------------------------------------------------------------ reading what was seen before

    def test_an_etag_stays_while_the_bytes_do(self, store: Store) -> None:
        store.put("a/b", _TEXT)
        etag = store.head("a/b")["e_tag"]
        assert etag == store.head("a/b")["e_tag"]
        assert etag == store.get("a/b").meta["e_tag"]
        assert [meta["e_tag"] for chunk in store.list("a") for meta in chunk] == [etag]
        store.put("a/c", _TEXT)
        assert store.head("a/b")["e_tag"] == etag
        store.put("a/b", _TEXT + _TEXT)
        assert store.head("a/b")["e_tag"] != etag

    def test_ranges_of_an_object_that_is_still_the_same(self, store: Store) -> None:
        matching = _matching(store)
        store.put("a", _TEXT)
        etag = store.head("a")["e_tag"]
        assert etag is not None
        starts, lengths = [20, 0, 5, 5, 34, 36, 50], [5, 3, 4, 4, 65, 4, 10]
        expected = [_TEXT[start : start + length] for start, length in zip(starts, lengths, strict=True)]
        found = matching.get_ranges_matching("a", starts=starts, lengths=lengths, etag=etag)
        assert [bytes(memoryview(piece)) for piece in found] == expected
        assert list(matching.get_ranges_matching("a", starts=[], lengths=[], etag=etag)) == []

    @pytest.mark.parametrize("change", ["longer", "shorter", "empty", "another"])
    def test_an_object_that_changed_is_not_read(self, store: Store, change: str) -> None:
        matching = _matching(store)
        store.put("a", _TEXT)
        etag = store.head("a")["e_tag"]
        assert etag is not None
        by = {"longer": _TEXT + b"!", "shorter": _TEXT[:-1], "empty": b"", "another": _TEXT[::-1]}[change]
        self.wait_for_a_new_etag()
        store.put("a", by)
        for starts, lengths in (([3], [4]), ([0, 3, 30], [1, 2, 6]), ([36], [4])):
            with pytest.raises(SourceChanged, match="a"):
                matching.get_ranges_matching("a", starts=starts, lengths=lengths, etag=etag)
        now = store.head("a")["e_tag"]
        assert now is not None
        assert bytes(memoryview(matching.get_ranges_matching("a", starts=[0], lengths=[9], etag=now)[0])) == by[:9]

    def test_an_object_that_is_gone_is_not_found(self, store: Store) -> None:
        matching = _matching(store)
        store.put("a", _TEXT)
        etag = store.head("a")["e_tag"]
        assert etag is not None
        store.delete("a")
        with pytest.raises(NotFound, match="a"):
            matching.get_ranges_matching("a", starts=[0], lengths=[1], etag=etag)

    # ------------------------------------------------------------------ listing

    def test_list_takes_whole_segments(self, store: Store) -> None:
        for path in ("a/1", "a/b/2", "ab/3", "c"):
            store.put(path, path.encode())
        assert _paths(store) == ["a/1", "a/b/2", "ab/3", "c"]
        assert _paths(store, "a") == _paths(store, "a/") == ["a/1", "a/b/2"]
        assert _paths(store, "a/b") == ["a/b/2"]
        assert _paths(store, "missing") == []
        sizes = {meta["path"]: meta["size"] for chunk in store.list("a") for meta in chunk}
        assert sizes == {"a/1": 3, "a/b/2": 5}

    def test_list_after_an_offset(self, store: Store) -> None:
        for path in ("a/1", "a/2", "a/b/3", "b/4"):
            store.put(path, b"")
        assert _paths(store, "a", offset="a/1") == ["a/2", "a/b/3"]
        assert _paths(store, offset="a/b") == ["a/b/3", "b/4"]

    def test_list_of_one_level(self, store: Store) -> None:
        for path in ("a/1", "a/b/2", "a/b/3", "ab/4", "c"):
            store.put(path, b"")
        top = store.list_with_delimiter()
        assert sorted(top["common_prefixes"]) == ["a", "ab"]
        assert [meta["path"] for meta in top["objects"]] == ["c"]
        below = store.list_with_delimiter("a")
        assert list(below["common_prefixes"]) == ["a/b"]
        assert [meta["path"] for meta in below["objects"]] == ["a/1"]
        missing = store.list_with_delimiter("missing")
        assert not missing["common_prefixes"]
        assert not missing["objects"]

    def test_a_new_object_is_listed_at_once(self, store: Store) -> None:
        assert _paths(store, "a") == []
        store.put("a/1", b"")
        assert _paths(store, "a") == ["a/1"]
        store.delete("a/1")
        assert _paths(store, "a") == []
        assert not store.list_with_delimiter("a")["objects"]

    # ------------------------------------------------------------------ deleting

    def test_delete(self, store: Store) -> None:
        for path in ("a/1", "a/2", "a/3", "b"):
            store.put(path, b"")
        store.delete("a/1")
        store.delete(["a/2", "b", "a/missing"])
        store.delete("missing")
        store.delete("a")
        store.delete([])
        assert _paths(store) == ["a/3"]

    # ------------------------------------------------------------------ the rest

    def test_it_travels_to_another_process_or_says_why_not(self, store: Store) -> None:
        store.put("a", _TEXT)
        try:
            sent = pickle.dumps(store)
        except InvalidArgument:
            return
        assert _read(pickle.loads(sent), "a") == _TEXT

    def test_the_url_names_it(self, store: Store) -> None:
        assert store.url
        assert not store.url.endswith("/")
        with pytest.raises(NotFound) as caught:
            store.get("missing")
        assert f"{store.url}/missing" in str(caught.value)
