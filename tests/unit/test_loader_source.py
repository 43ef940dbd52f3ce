"""What a thread of a loader reads: bytes that are short are an error, also where nobody knows their checksum."""

import io
import tarfile

import numpy as np
import pytest

from dataplane import Lake
from dataplane.adopt import adopt
from dataplane.errors import CorruptObject
from dataplane.store.local import LocalStore
from loaders.source import SampleSource


class Short(LocalStore):
    """Gives one byte less than there is."""

    def get_ranges_matching(self, path, *, starts, lengths, etag):
        return [bytes(piece)[:-1] for piece in super().get_ranges_matching(path, starts=starts, lengths=lengths, etag=etag)]


@pytest.mark.parametrize("size", [1, 1000])
def test_short_bytes_of_an_adopted_shard_are_found(tmp_path, monkeypatch, size):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo("a.txt")
        info.size = size
        tar.addfile(info, io.BytesIO(b"x" * size))
    lake = Lake.init(str(tmp_path / "lake"))
    adopt(lake, str(tmp_path / "x.tar"), "x")
    split = lake.dataset("x")["train"]
    assert split.shards[0].index.placed(0)["txt"].crc32c is None
    source = SampleSource(split, ["txt"])
    spots = source.locate(*split_of(1))
    (good,) = source.reader().read(spots)
    assert bytes(good["txt"].data) == b"x" * size
    monkeypatch.setattr("dataplane.objects._opened", lambda url, _: Short(url))
    (bad,) = source.reader().read(spots)
    assert isinstance(bad, CorruptObject)
    with pytest.raises(CorruptObject):
        split.read_many([0])


def split_of(count):
    return np.zeros(count, np.int64), np.arange(count)
