"""Objects: named by their bytes, stored once, checked when read."""

import pytest
from blake3 import blake3

from dataplane.errors import CorruptObject, NotFound, SourceChanged
from dataplane.objects import Objects, digest_bytes, digest_file
from dataplane.refs import Digest, Foreign
from dataplane.store import LocalPath, WrapperStore, open_store
from dataplane.testing import Fault, FaultStore, RecordingStore

DATA = bytes(range(256)) * 40


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "lake"))


def test_put_and_get(store, tmp_path):
    objects = Objects(store)
    ref = objects.put(DATA, suffix=".bin")
    assert ref == Digest(blake3(DATA).hexdigest(), ".bin", len(DATA)) == digest_bytes(DATA, ".bin")
    assert bytes(objects.get(ref)) == DATA
    file = tmp_path / "file"
    file.write_bytes(DATA)
    assert digest_file(file, ".bin") == objects.put_file(file, suffix=".bin") == ref
    assert store.local_path(ref).read_bytes() == DATA


def test_equal_bytes_are_stored_once(store):
    ref = Objects(store).put(DATA, suffix=".bin")
    before = store.local_path(ref).stat()
    assert Objects(store).put(DATA, suffix=".bin") == ref
    assert store.local_path(ref).stat().st_mtime_ns == before.st_mtime_ns
    assert Objects(store).put(DATA, suffix=".tar") != ref


@pytest.mark.parametrize("damage", [DATA[:-1], DATA[:500] + b"\x00" + DATA[501:]])
def test_reusing_a_damaged_object_mends_it(store, caplog, damage):
    ref = Objects(store).put(DATA, suffix=".bin")
    store.local_path(ref).write_bytes(damage)
    assert Objects(store).put(DATA, suffix=".bin") == ref
    assert store.local_path(ref).read_bytes() == DATA
    [told] = caplog.messages
    assert "is damaged" in told
    assert told.endswith("; the right bytes are at hand, so it is written anew")
    assert "put it back" not in told


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"", lambda d: d[:500] + b"\x00" + d[501:]])
@pytest.mark.parametrize("read", ["get", "verify"])
def test_damage_is_found(store, change, read):
    objects = Objects(store)
    ref = objects.put(DATA, suffix=".bin")
    objects.verify(ref)
    store.put(ref.path, change(DATA))
    with pytest.raises(
        CorruptObject, match=r"is damaged: \d+ bytes with BLAKE3 .* put it back from a copy .*verify --repair COPY.*under a new name"
    ) as caught:
        getattr(objects, read)(ref)
    assert f"{store.url}/{ref.path}" in str(caught.value)


@pytest.mark.parametrize("size", [0, 100])
def test_truncation_is_found_on_a_server_too(s3, size):
    """Servers refuse a range that starts at the end, so a truncated object must not look like a failed request."""
    objects = Objects(open_store(s3.url()))
    ref = objects.put(DATA, suffix=".bin")
    objects.store.put(ref.path, DATA[:size])
    with pytest.raises(CorruptObject, match=rf"is damaged: {size} bytes"):
        objects.verify(ref)


def test_a_missing_object_is_not_found(store):
    for read in (Objects(store).get, Objects(store).verify):
        with pytest.raises(NotFound, match="no such object"):
            read(digest_bytes(DATA, ".bin"))


def test_bytes_flipped_on_the_way_are_found(store):
    ref = Objects(store).put(DATA, suffix=".bin")
    with pytest.raises(CorruptObject):
        Objects(FaultStore(store, [Fault("get", "flipped")])).get(ref)
    with pytest.raises(CorruptObject):
        Objects(FaultStore(store, [Fault("get_range", "flipped")])).verify(ref)


@pytest.mark.parametrize("kind", ["folder", "memory", "fsspec"])
def test_an_adopted_object_is_read_where_it_lies(store, kind, tmp_path):
    url = {"folder": str(tmp_path / "there"), "memory": "memory://adopted", "fsspec": f"file+fsspec://{tmp_path}/there"}[kind]
    there = open_store(url)
    there.put("deep/x.bin", DATA)
    ref = Foreign(f"{url}/deep/x.bin", len(DATA), there.head("deep/x.bin")["e_tag"])
    objects = Objects(store)
    assert objects.get(ref) == DATA
    size = len(DATA)
    asked = {"starts": [5, 0, size - 2, size + 9, 3], "lengths": [2, 3, 99, 4, 0]}
    assert [bytes(piece) for piece in objects.ranges(ref, **asked)] == [DATA[5:7], DATA[:3], DATA[-2:], b"", b""]
    there.put("deep/x.bin", DATA[:-1] + b"!")
    for read in (lambda: objects.get(ref), lambda: objects.ranges(ref, starts=[1, 4], lengths=[1, 1])):
        with pytest.raises(SourceChanged, match=r"deep/x\.bin has changed"):
            read()
    there.delete("deep/x.bin")
    with pytest.raises(NotFound, match=r"deep/x\.bin: this adopted object is gone"):
        objects.get(ref)


def test_a_file_is_offered_to_a_store_that_takes_offers(store, tmp_path):
    class Taker(WrapperStore):
        offered = ()

        def offer(self, ref, path):
            self.offered = (ref, path)

    taker = Taker(store)
    file = tmp_path / "file"
    file.write_bytes(DATA)
    assert taker.offered == ()
    ref = Objects(taker).put_file(file, suffix=".bin")
    assert taker.offered == (ref, file)


def test_verify_reads_in_pieces(store, monkeypatch):
    monkeypatch.setattr("dataplane.objects._CHUNK_BYTES", 1000)
    ref = Objects(store).put(DATA, suffix=".bin")
    recorded = RecordingStore(store)
    Objects(recorded).verify(ref)
    assert len(recorded.paths("get_range")) == 11


def test_a_local_store_says_where_objects_lie(store):
    assert isinstance(store, LocalPath)
    assert store.local_path(digest_bytes(b"none", ".bin")) is None
    assert store.local_path(Foreign("s3://b/k", 1)) is None
    ref = Objects(store).put(DATA, suffix=".bin")
    buffer = bytearray(100)
    store.read_into(ref, start=50, buffer=buffer)
    assert bytes(buffer) == DATA[50:150]
    with pytest.raises(CorruptObject, match="ends at byte 10240; 60 more bytes were expected"):
        store.read_into(ref, start=len(DATA) - 40, buffer=buffer)
    with pytest.raises(NotFound):
        store.read_into(Foreign("s3://b/k", 1), start=0, buffer=buffer)
