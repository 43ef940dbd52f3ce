"""Tar shards: reading back, determinism, checksums. Other readers are in tests/integration/test_interop.py."""

import tarfile

import google_crc32c
import numpy as np
import pytest
from blake3 import blake3

from dataplane.errors import CorruptObject, InvalidArgument, NotFound, SourceChanged
from dataplane.formats import tar
from dataplane.formats.index import ImageInfo, read_index
from dataplane.objects import Objects
from dataplane.refs import Digest, Foreign
from dataplane.store import open_store
from dataplane.testing import Fault, FaultStore, RecordingStore

SAMPLES = [(f"dir {i}/some.key ü{i}", {"jpg": bytes([i]) * i * 300, "cls": b"%d" % i}) for i in range(12)]


@pytest.fixture
def shard(tmp_path):
    """Store, reference and index of a shard in a lake."""
    store = open_store(str(tmp_path / "lake"))
    with tar.Writer(tmp_path / "shard.tar") as writer:
        for key, fields in SAMPLES:
            writer.add(key, fields, {"jpg": ImageInfo(3, 4, 6)})
        ref, index = writer.finish()
    Objects(store).put_file(tmp_path / "shard.tar", suffix=".tar", ref=ref)
    return store, ref, read_index(index, where="the index")


def opened(store, ref, index):
    return tar.open(Objects(store), ref, index)


def test_samples_come_back(shard):
    index = shard[2]
    assert index.keys() == [key for key, _ in SAMPLES]
    assert [opened(*shard).read(i) for i in range(12)] == [fields for _, fields in SAMPLES]
    order = [5, 0, 11, 5, 3]
    assert opened(*shard).read_many(order) == [SAMPLES[i][1] for i in order]
    assert opened(*shard).read_many([]) == []
    opened(*shard).verify()


def test_a_sample_is_one_request(shard):
    store, ref, index = shard
    recorded = RecordingStore(store)
    opened(recorded, ref, index).read(7)
    assert [call.verb for call in recorded.calls] == ["get_ranges"]


def test_the_digest_is_that_of_the_file(shard, tmp_path):
    _, ref, _ = shard
    data = (tmp_path / "shard.tar").read_bytes()
    assert ref == Digest(blake3(data).hexdigest(), ".tar", len(data))


def test_equal_samples_give_equal_shards(tmp_path):
    made = []
    for name in ("a", "b"):
        with tar.Writer(tmp_path / name) as writer:
            for key, fields in SAMPLES:
                writer.add(key, dict(reversed(fields.items())))
            made.append(writer.finish())
    assert made[0] == made[1]


def test_an_empty_shard_is_a_tar(tmp_path):
    with tar.Writer(tmp_path / "empty.tar") as writer:
        ref, index = writer.finish()
    assert ref.size == 1024
    assert len(read_index(index, where="x")) == 0
    with tarfile.open(tmp_path / "empty.tar") as archive:
        assert archive.getmembers() == []


@pytest.mark.parametrize("row", [0, 7, 11])
def test_a_flipped_bit_fails_the_checksum(shard, row):
    store, ref, index = shard
    with pytest.raises(CorruptObject, match=r"field 'jpg' of sample .* fails its checksum; .*dataplane verify") as caught:
        opened(FaultStore(store, [Fault("get_ranges", "flipped")]), ref, index).read(row or 1)
    assert f"{store.url}/{ref.path}" in str(caught.value)
    assert repr(SAMPLES[row or 1][0]) in str(caught.value)


def test_a_short_shard_fails_the_checksum(shard):
    store, ref, _ = shard
    store.local_path(ref).write_bytes(store.local_path(ref).read_bytes()[:5000])
    with pytest.raises(CorruptObject, match="fails its checksum"):
        opened(*shard).verify()


@pytest.mark.parametrize("before", [False, True])
def test_samples_that_lie_in_memory_become_the_same_shard(tmp_path, before):
    """Side by side, with a gap, after one that was added, and in a second buffer."""
    samples = [(f"some.key {i}", {"jpg": bytes([i + 1]) * (i * 511 % 1400), **({"cls": b"%d" % i} if before else {})}) for i in range(9)]
    images = [ImageInfo(i, 9) if i % 2 else None for i in range(9)]
    with tar.Writer(tmp_path / "added.tar") as writer:
        for (key, fields), image in zip(samples, images, strict=True):
            writer.add(key, fields, {"jpg": image} if image else None)
        added = writer.finish()
    buffers = [np.full(1 << 14, 99, np.uint8) for _ in range(2)]
    at = [1536, 4608, 9216, 0, 1536, 4096, 1536, 4608, 0]  # 0: added
    with tar.Writer(tmp_path / "placed.tar") as writer:
        for i, ((key, fields), image) in enumerate(zip(samples, images, strict=True)):
            small = ("cls", fields["cls"]) if before else None
            if not at[i]:
                writer.add(key, fields, {"jpg": image} if image else None)
                continue
            buffer, data = buffers[i > 5], fields["jpg"]
            buffer[at[i] : at[i] + len(data)] = np.frombuffer(data, np.uint8)
            writer.place(key, "jpg", buffer, at[i], len(data), image=image, before=small)
        with pytest.raises(InvalidArgument, match="both become"):
            writer.place("some.key 1", "jpg", buffers[0], 2048, 1)
        writer.flush()
        placed = writer.finish()
    assert placed == added
    assert (tmp_path / "placed.tar").read_bytes() == (tmp_path / "added.tar").read_bytes()


def test_what_is_placed_is_the_writers_until_it_is_flushed(tmp_path):
    buffer = np.zeros(4096, np.uint8)
    with tar.Writer(tmp_path / "x.tar") as writer:
        writer.place("a", "jpg", buffer, tar.lead(None), 5)
        assert writer.size == tar.lead(None) + tar.span(5) == 1024
        writer.flush()
        writer.flush()
        buffer[:] = 7
        ref, _ = writer.finish()
    assert (tmp_path / "x.tar").read_bytes()[512:517] == bytes(5)
    assert ref.size == 2048


def test_crc32c_is_castagnoli():
    assert tar.crc32c(b"123456789") == tar.crc32c(memoryview(b"123456789")) == 0xE3069283 == google_crc32c.value(b"123456789")


def test_two_samples_cannot_share_a_name(tmp_path):
    with tar.Writer(tmp_path / "x.tar") as writer:
        writer.add("a", {"jpg": b""})
        with pytest.raises(InvalidArgument, match=r"'a' and another sample of this shard both become 'a\.jpg'"):
            writer.add("a", {"jpg": b""})


@pytest.mark.parametrize(("key", "message"), [("", "not empty"), ("a\udcff", "not Unicode text")])
def test_what_cannot_be_a_key(tmp_path, key, message):
    with tar.Writer(tmp_path / "x.tar") as writer, pytest.raises(InvalidArgument, match=message):
        writer.add(key, {"jpg": b""})


def test_a_member_has_a_limit():
    assert len(tar._header("x.jpg", (8 << 30) - 1)) == 512
    with pytest.raises(InvalidArgument, match=r"x.jpg has 8589934592 bytes; .* less than 8 GiB"):
        tar._header("x.jpg", 8 << 30)


def test_an_adopted_shard_is_read_while_it_is_the_same(shard, tmp_path):
    store, ref, index = shard
    file = tmp_path / "elsewhere.tar"
    file.write_bytes(store.local_path(ref).read_bytes())
    foreign = Foreign(str(file), ref.size, open_store(str(tmp_path)).head("elsewhere.tar")["e_tag"])
    assert opened(store, foreign, index).read(5) == SAMPLES[5][1]
    file.write_bytes(file.read_bytes())
    with pytest.raises(SourceChanged, match=r"elsewhere\.tar has changed: .* adopt it again"):
        opened(store, foreign, index).read(5)
    file.unlink()
    with pytest.raises(NotFound, match=r"elsewhere\.tar: this adopted object is gone"):
        opened(store, foreign, index).read(5)
