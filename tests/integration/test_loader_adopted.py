"""A loader over what was adopted, and over what loaders do not read."""

import io
import tarfile

import pytest

from dataplane import Lake, write
from dataplane.adopt import adopt
from dataplane.errors import DataplaneError, InvalidArgument
from dataplane.store import open_store
from loaders import Int64, Loader, Resize, ToFloat
from tests.folders import jpeg


def tar_of(path, numbers, mode="w"):
    with tarfile.open(path, mode) as archive:
        for number in numbers:
            for name, data in (("cls", b"%d" % number), ("jpg", jpeg(number))):
                info = tarfile.TarInfo(f"{number:03d}.{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


OPTIONS = {"batch_size": 5, "transform": {"jpg": [Resize((16, 16)), ToFloat()], "cls": Int64()}, "threads": 2}


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


def delivered(split, **options):
    with Loader(split, **OPTIONS, **options) as loader:
        return sorted(int(label) for batch in loader for label in batch["cls"])


@pytest.mark.parametrize("kind", ["folder", "memory"])
def test_adopted_tars_are_read_where_they_lie(lake, tmp_path, kind):
    url = str(tmp_path / "there") if kind == "folder" else "memory://adopted-for-a-loader"
    for part in range(3):
        tar_of(tmp_path / "x.tar", range(part * 8, part * 8 + 8))
        open_store(url).put(f"x-{part}.tar", (tmp_path / "x.tar").read_bytes())
    adopt(lake, f"{url}/x-{{0..2}}.tar", "tars")
    train = lake.dataset("tars")["train"]
    assert delivered(train, tail="short") == list(range(24))
    assert all(not meta["path"].endswith(".tar") for chunk in lake.store.list("objects") for meta in chunk)


def test_a_source_that_changed_is_named_and_never_mixed_in(lake, tmp_path):
    tar_of(tmp_path / "x.tar", range(10))
    adopt(lake, str(tmp_path / "x.tar"), "tars")
    train = lake.dataset("tars")["train"]
    assert delivered(train) == list(range(10))
    tar_of(tmp_path / "x.tar", range(10, 20))
    with pytest.raises(DataplaneError, match=r"x\.tar has changed: .* adopt it again"):
        delivered(train)


def test_a_compressed_tar_is_refused_with_what_to_do(lake, tmp_path):
    tar_of(tmp_path / "x.tar.gz", range(10), "w:gz")
    adopt(lake, str(tmp_path / "x.tar.gz"), "tars")
    train = lake.dataset("tars")["train"]
    assert len(train.read_many([3, 1])) == 2
    with pytest.raises(InvalidArgument, match=r"is a compressed tar, which loaders do not read yet; read it with split\.read_many"):
        delivered(train)


def test_values_are_refused_with_what_to_do(lake):
    split = write(lake, "numbers", [{"__key__": f"{i}", "score": i, "txt": b"x"} for i in range(10)])["train"]
    with pytest.raises(InvalidArgument, match=r"field 'score' is value int64, and a loader reads files; read it with split\.read_many"):
        Loader(split, batch_size=2, transform={"score": Int64()})
