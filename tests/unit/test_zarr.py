"""Zarr shards of our own: what they hold, what a read costs, what damage says. Adopted ones are in test_zarr_adopt.py."""

import os
import subprocess
import sys

import numpy as np
import pytest
import zarr as zarr_python
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.errors import CorruptObject, InvalidArgument, NotFound
from dataplane.formats import zarr, zarr_plan
from dataplane.formats.index import read_index
from dataplane.formats.options import CODECS
from dataplane.objects import Objects
from dataplane.store import open_store
from dataplane.testing import RecordingStore

DTYPES = ("bool", "int8", "uint16", "int32", "int64", "uint64", "float16", "float32", "float64", "complex64", "complex128")


def volume(number, shape=(6, 20, 24), dtype="uint16"):
    return np.random.default_rng(number).integers(0, 50, shape).astype(dtype)


def write(path, samples, **options):
    """Reference and index of a shard at `path`."""
    with zarr.Writer(path, **options) as writer:
        for key, fields in samples:
            writer.add(key, fields)
        return writer.finish()


class Written:
    """A shard in a lake whose calls are recorded, and the file it was."""

    def __init__(self, folder, samples, **options):
        self.path = folder / "shard.zip"
        self.ref, self.index = write(self.path, samples, **options)
        self.store = RecordingStore(open_store(str(folder / "lake")))
        Objects(self.store).put_file(self.path, suffix=".zip", ref=self.ref)
        self.reader = self.open()
        self.store.clear()

    def open(self):
        return zarr.open(Objects(self.store), self.ref, read_index(self.index, where="the index"))

    def damaged(self, member, at):
        """The same shard with a byte of a member changed."""
        data = bytearray(self.path.read_bytes())
        data[next(m for m in self.reader._members if m.name == member).offset + at] ^= 1
        self.store.put(self.ref.path, bytes(data))
        return self.open()


# ------------------------------------------------------------------ what others read


@pytest.mark.parametrize("codec", [*CODECS["zarr"], "zstd:-3", "blosc:9", "gzip:1"])
def test_zarr_python_reads_it_with_every_codec(tmp_path, codec):
    samples = [(f"k{i}", {"v": volume(i), "n": np.float32(i)}) for i in range(9)]
    shard = Written(tmp_path, samples, codecs=codec)
    group = zarr_python.open_group(zarr_python.storage.ZipStore(shard.path), mode="r")
    assert sorted(group) == ["n", "v"]
    assert np.array_equal(group["v"][:], np.stack([fields["v"] for _, fields in samples]))
    assert np.array_equal(shard.reader.read_array(range(9), "v"), group["v"][:])
    assert dict(group.attrs)["dataplane"] == {"format": 1, "keys": [key for key, _ in samples], "samples": 9}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_dtype_comes_back_in_native_order(tmp_path, dtype, order):
    values = np.random.default_rng(1).normal(size=(5, 3, 4)).astype(dtype)
    shard = Written(tmp_path, [(str(i), {"v": v.astype(v.dtype.newbyteorder(order))}) for i, v in enumerate(values)])
    found = shard.reader.read_array([4, 0], "v")
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found, values[[4, 0]])


def test_zarr_python_reads_it_where_it_lies(tmp_path):
    shard = Written(tmp_path, [(str(i), {"v": volume(i)}) for i in range(9)], chunks={"v": (1, 6, 10, 24)})
    group = shard.reader.group()
    assert np.array_equal(group["v"][3:5, :, 2:4], np.stack([volume(3), volume(4)])[:, :, 2:4])
    assert set(shard.store.paths("get_ranges")) == {shard.ref.path}
    assert shard.store.bytes_read < shard.ref.size / 2
    with pytest.raises(ValueError, match="read-only"):
        group["v"][0] = 1


def test_many_members_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_plan, "_BLOCK_BYTES", 30_000)
    samples = [(str(i), {"v": volume(i), **({"late": np.arange(i, i + 3)} if i > 20 else {})}) for i in range(33)]
    shard = Written(tmp_path, samples, chunks={"v": (2, 6, 11, 24), "late": (4, 3)})
    assert len(list(shard.reader._members.below("v/c/"))) == 33 // 4 + 1
    found = shard.reader.read_many(range(33))
    assert all(np.array_equal(one["v"], fields["v"]) for one, (_, fields) in zip(found, samples, strict=True))
    assert [sorted(one) for one in found] == [sorted(fields) for _, fields in samples]
    assert np.array_equal(found[30]["late"], [30, 31, 32])
    group = zarr_python.open_group(zarr_python.storage.ZipStore(shard.path), mode="r")
    assert group["late"].shape == (33, 3)
    assert group["late"].attrs["dataplane"] == {"absent": [[0, 21]]}
    shard.reader.verify()


def test_the_buffer_of_a_writer_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(zarr_plan, "_BLOCK_BYTES", 30_000)
    with zarr.Writer(tmp_path / "shard", codecs="none", chunks={"v": (1, 6, 20, 24)}) as writer:
        for i in range(20):
            writer.add(str(i), {"v": volume(i)})
            assert writer.size - writer._pack.bytes <= 30_000
        ref, _ = writer.finish()
    assert writer.size == ref.size


def test_samples_without_length(tmp_path):
    shard = Written(tmp_path, [(str(i), {"v": np.empty((0, 3), "f4"), "n": np.array(i)}) for i in range(3)])
    assert shard.reader.read(1)["v"].shape == (0, 3)
    assert shard.reader.read_array([2, 1], "v").shape == (2, 0, 3)
    shard.reader.verify()


def test_values_are_the_callers_own(tmp_path):
    shard = Written(tmp_path, [(str(i), {"v": volume(i)}) for i in range(4)])
    one, other = shard.reader.read_many([2, 2])
    one["v"][:] = 0
    assert np.array_equal(other["v"], volume(2))
    source = volume(0)
    with zarr.Writer(tmp_path / "again") as writer:
        for i in range(4):
            source[:] = volume(i)  # one buffer for all samples
            writer.add(str(i), {"v": source})
        assert writer.finish()[0] == shard.ref


# ------------------------------------------------------------------ what it costs


def test_a_batch_is_one_call_for_all_fields_and_nothing_else_is_read(tmp_path):
    samples = [(str(i), {"v": volume(i), "w": volume(i + 100)}) for i in range(100)]
    shard = Written(tmp_path, samples, codecs="none", chunks={"v": (1, 6, 20, 24), "w": (1, 6, 20, 24)})
    reader = shard.open()
    shard.store.clear()
    reader.read_many([70, 3, 50])
    assert [call.verb for call in shard.store.calls] == ["get_ranges"]
    assert shard.store.bytes_read == 3 * 2 * (volume(0).nbytes + 4)


def test_a_window_reads_the_inner_chunks_under_it(tmp_path):
    shard = Written(tmp_path, [(str(i), {"v": volume(i)}) for i in range(4)], codecs="none", chunks={"v": (1, 2, 10, 12)})
    found = shard.reader.read_window(2, "v", [slice(1, 3), slice(0, 5)])
    assert np.array_equal(found, volume(2)[1:3, :5])
    assert shard.store.bytes_read == 2 * 2 * (2 * 10 * 12 * 2 + 4)
    with pytest.raises(InvalidArgument, match="steps of 1"):
        shard.reader.read_window(2, "v", [slice(None, None, 2)])
    with pytest.raises(InvalidArgument, match="window of 4 axes"):
        shard.reader.read_window(2, "v", [slice(None)] * 4)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_any_selection_is_what_numpy_gives(data):
    shape = tuple(data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=4), label="shape"))
    unit = tuple(data.draw(st.integers(1, 5), label="unit") for _ in shape)
    rows = data.draw(st.lists(st.integers(0, shape[0] - 1), max_size=8), label="rows") if shape[0] else []
    bounds = [sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n)))) for n in shape[1:]]
    window = [slice(*b) for b in bounds[: data.draw(st.integers(0, len(bounds)))]]
    whole = np.arange(int(np.prod(shape))).reshape(shape)
    padded = np.full([-(-max(1, n) // u) * u for n, u in zip(shape, unit, strict=True)], -1)
    padded[tuple(slice(n) for n in shape)] = whole
    selection = zarr_plan.select(shape, unit, rows, window)
    assert len(set(selection.units)) == len(selection.units)
    cut = [padded[tuple(slice(a * u, (a + 1) * u) for a, u in zip(at, unit, strict=True))] for at in selection.units]
    units = np.concatenate(cut) if cut else np.empty((0, *unit[1:]), int)
    assert np.array_equal(zarr_plan.take(selection, units), whole[(rows, *window)] if rows else whole[(slice(0), *window)])


@given(st.lists(st.integers(0, 5000), max_size=3).map(tuple), st.sampled_from([1, 2, 8, 16]))
def test_units_are_of_a_good_size(shape, itemsize):
    rows, *part = zarr_plan.default_unit(shape, itemsize)
    sample = itemsize * int(np.prod([max(1, n) for n in shape], dtype=object))
    size = rows * itemsize * int(np.prod(part, dtype=object))
    assert rows == 1 or size <= zarr_plan.UNIT_BYTES or 0 in shape
    assert size <= 16 << 20 or 0 in shape
    assert part == list(shape) or 0 in shape or sample > 16 << 20
    assert zarr_plan.block_rows(shape, itemsize, rows) % rows == 0


# ------------------------------------------------------------------ what cannot be


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"v": np.zeros((3, 4))}, ["'b'", "'v'", "float64", "(3, 4)", "int64", "(2,)"]),
        ({"v": np.zeros(2, "i4")}, ["'b'", "'v'", "int32", "int64"]),
        ({"w": np.array(["text"])}, ["'b'", "'w'", "numbers"]),
        ({"w": np.array([None])}, ["object"]),
        ({"w": np.zeros(2, np.longdouble)}, ["longdouble" if np.dtype(np.longdouble).name == "longdouble" else "float128"]),
        ({"a": np.zeros(2), "a/b": np.zeros(2)}, ["'a/b'"]),
        ({"..": np.zeros(2)}, ["'..'"]),
        ({"__x": np.zeros(2)}, ["'__x'"]),
    ],
)
def test_what_a_shard_cannot_hold(tmp_path, fields, words):
    with zarr.Writer(tmp_path / "shard") as writer:
        writer.add("a", {"v": np.zeros(2, "i8")})
        with pytest.raises(InvalidArgument) as caught:
            writer.add("b", fields)
        assert all(word in str(caught.value) for word in words), caught.value
        writer.add("b", {"v": np.ones(2, "i8")})  # a refused sample leaves no trace
        ref, index = writer.finish()
    again = write(tmp_path / "again", [("a", {"v": np.zeros(2, "i8")}), ("b", {"v": np.ones(2, "i8")})])
    assert (ref, index) == again


@pytest.mark.parametrize("codec", ["lz4", "zstd:23", "zstd:x", "blosc:10", "none:1", ""])
def test_codecs_that_are_not_there(tmp_path, codec):
    with pytest.raises(InvalidArgument, match="codec"):
        zarr.Writer(tmp_path / "shard", codecs={"v": codec})


@pytest.mark.parametrize("chunk", [(1,), (0, 4), (1, 2, 3), (1 << 30, 4)])
def test_chunks_that_do_not_fit(tmp_path, chunk):
    with zarr.Writer(tmp_path / "shard", chunks={"v": chunk}) as writer, pytest.raises(InvalidArgument, match="chunks of 'v'"):
        writer.add("a", {"v": np.zeros(4)})


def test_what_is_not_there(tmp_path):
    reader = Written(tmp_path, [("a", {"v": volume(1)})]).reader
    for rows in ([1], [-1], [0, 7]):
        with pytest.raises(InvalidArgument, match="1 samples"):
            reader.read_many(rows)
    with pytest.raises(NotFound, match=r"'w'.*it has v"):
        reader.read_array([0], "w")


# ------------------------------------------------------------------ damage


def test_damage_names_the_field_and_the_samples(tmp_path):
    shard = Written(tmp_path, [(f"k{i}", {"v": volume(i), "w": volume(i)}) for i in range(8)], chunks={"v": (2, 6, 20, 24)})
    size = next(m for m in shard.reader._members if m.name == "v/c/0/0/0/0").size
    reader = shard.damaged("v/c/0/0/0/0", size // 2)  # in the third of four inner chunks
    with pytest.raises(CorruptObject, match=r"field 'v' of sample 'k[24]' to 'k[35]' cannot be decoded") as caught:
        reader.read_many(range(8))
    assert shard.ref.path in str(caught.value)
    with pytest.raises(CorruptObject, match="field 'v' of sample"):
        reader.verify()
    assert np.array_equal(reader.read(0)["v"], volume(0))
    assert np.array_equal(reader.read_array(range(8), "w")[7], volume(7))


def test_a_cut_object_is_found(tmp_path):
    shard = Written(tmp_path, [(f"k{i}", {"v": volume(i)}) for i in range(8)])
    shard.store.put(shard.ref.path, shard.path.read_bytes()[:500])
    with pytest.raises(CorruptObject, match="it is cut off"):
        shard.open().read(7)


@pytest.mark.parametrize("section", [None, b"", b"nonsense"])
def test_an_index_without_members_is_an_error(tmp_path, section):
    from dataplane.formats.index import write_keys

    shard = Written(tmp_path, [("a", {"v": volume(1)})])
    index = read_index(write_keys(["a"], {} if section is None else {"zarr.members": section}), where="the index")
    with pytest.raises(CorruptObject, match=r"the index.*zarr\.members"):
        zarr.open(Objects(shard.store), shard.ref, index)


# ------------------------------------------------------------------ processes

QUIET = """
import sys
import dataplane.formats.zarr as zarr
from pathlib import Path
assert not {"zarr", "numcodecs"} & set(sys.modules), "loaded at import"
import numpy as np
with zarr.Writer(Path(sys.argv[1])) as writer:
    writer.add("a", {"v": np.arange(10)})
    ref, index = writer.finish()
import zarr as library
with library.storage.ZipStore(sys.argv[1]) as store:
    assert library.open_group(store, mode="r")["v"][0, 3] == 3
"""


def test_it_loads_late_and_ends_quietly(tmp_path):
    command = [sys.executable, "-W", "error", "-c", QUIET, str(tmp_path / "shard.zip")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_reads(tmp_path):
    shard = Written(tmp_path, [(str(i), {"v": volume(i)}) for i in range(4)])
    shard.reader.group()["v"][0]  # zarr-python's loop runs in the parent
    child = os.fork()
    if child == 0:
        try:
            right = np.array_equal(shard.reader.read(2)["v"], volume(2)) and np.array_equal(shard.reader.group()["v"][1], volume(1))
            os._exit(0 if right else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
