"""A lake: made once, opened many times, refused where it could not be trusted."""

import json
import multiprocessing
import pickle
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from dataplane import Lake
from dataplane.errors import CorruptObject, FormatTooNew, InvalidArgument, NotALake, StoreError
from dataplane.store import WrapperStore, open_store
from tests import make


def test_init_makes_and_then_opens(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    assert Lake.init(str(tmp_path / "lake")).id == Lake(str(tmp_path / "lake")).id == lake.id
    assert lake.url == str(tmp_path / "lake")
    assert repr(lake) == f"Lake({lake.url!r})"
    assert sorted(path.name for path in (tmp_path / "lake").iterdir() if path.is_file()) == ["lake.json"]
    marker = json.loads((tmp_path / "lake" / "lake.json").read_text())
    assert (marker["format"], marker["id"]) == (1, lake.id)
    assert lake.datasets() == lake.names("runs") == lake.names("models") == []


def test_many_may_make_it_at_once(tmp_path):
    with ThreadPoolExecutor(8) as threads:
        ids = set(threads.map(lambda _: Lake.init(str(tmp_path / "lake")).id, range(8)))
    assert len(ids) == 1


def test_a_lake_on_a_server(s3):
    url = s3.url()
    lake = Lake.init(url)
    make.dataset(lake, "numbers")
    assert Lake(url).dataset("numbers")["train"][3].key == make.sample(5)[0]
    forced = Lake(url.replace("s3://", "s3+fsspec://"))
    assert forced.id == lake.id
    assert forced.dataset("numbers")["train"][3] == lake.dataset("numbers")["train"][3]


def test_a_lake_through_fsspec(s3):
    lake = Lake.init(s3.url().replace("s3://", "s3+fsspec://"))
    make.dataset(lake, "numbers")
    make.dataset(lake, "numbers")
    assert lake.dataset("numbers").number == 2


def test_what_is_no_lake(tmp_path):
    with pytest.raises(NotALake, match=r"is not a lake; make one with: dataplane --lake .*nothing init"):
        Lake(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"format": 1}', b'{"format": "x", "id": "y"}', b"\xff"])
def test_a_damaged_marker(tmp_path, content):
    (tmp_path / "lake.json").write_bytes(content)
    for make_or_open in (Lake, Lake.init):
        with pytest.raises(CorruptObject, match=r"lake\.json is damaged"):
            make_or_open(str(tmp_path))


def test_a_newer_lake_asks_for_an_upgrade(tmp_path):
    (tmp_path / "lake.json").write_text('{"format": 2, "id": "x"}')
    with pytest.raises(FormatTooNew, match="a lake of format 2; this release reads up to 1: upgrade"):
        Lake(str(tmp_path))


class Overwrites(WrapperStore):
    """As some servers do: the condition is accepted and ignored."""

    def put(self, path, file, *, mode=None, **options):
        return self.inner.put(path, file, **options)


class CannotCreate(WrapperStore):
    def put(self, path, file, *, mode=None, **options):
        if mode == "create":
            raise StoreError(f"{self.url}/{path}: conditional puts are not implemented")
        return self.inner.put(path, file, **options)


@pytest.mark.parametrize(("store", "reason"), [(Overwrites, "let a put-if-absent overwrite"), (CannotCreate, "not implemented")])
def test_a_store_without_put_if_absent_cannot_hold_a_lake(store, reason):
    inner = open_store(f"memory://{uuid.uuid4().hex}")
    with pytest.raises(NotALake, match=f"cannot hold a lake: .*{reason}.*; it can be a source of data"):
        Lake.init(store(inner))
    assert [meta["path"] for chunk in inner.list() for meta in chunk] == []


def test_runs_and_models_have_logs(tmp_path):
    lake = Lake.init(str(tmp_path))
    lake.log("runs", "first").append(lambda _: {"step": 1})
    lake.log("models", "digits").append(lambda _: {"run": "first"})
    assert (lake.names("runs"), lake.names("models")) == (["first"], ["digits"])
    assert lake.log("runs", "first").last().body == {"step": 1}
    assert lake.log("runs", "second").last() is None
    with pytest.raises(InvalidArgument, match="cannot name a run"):
        lake.log("runs", "../x")


def _keys(lake, results):
    results.put([sample.key for sample in lake.dataset("numbers")["test"]])


def test_it_travels_to_a_spawned_process(tmp_path):
    lake = Lake.init(str(tmp_path))
    make.dataset(lake, "numbers")
    assert pickle.loads(pickle.dumps(lake)).id == lake.id
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    child = context.Process(target=_keys, args=(lake, results))
    child.start()
    assert results.get(timeout=60) == [make.sample(0)[0], make.sample(1)[0]]
    child.join(60)
    assert child.exitcode == 0
    results.close()
    results.join_thread()
    child.close()


def test_a_store_that_looks_and_then_writes_is_refused_as_a_lake(tmp_path):
    with pytest.raises(NotALake, match=r"no put-if-absent that holds when two writers come at once; it can be a source of data"):
        Lake.init(f"file+fsspec://{tmp_path}/lake")
