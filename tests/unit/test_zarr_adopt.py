"""Zarr arrays and groups that zarr-python wrote, versions 2 and 3, read where they lie: on disk, in memory, in a zip file."""

import json
import os
import shutil
import warnings

import numcodecs
import numpy as np
import pytest
import zarr as zarr_python
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec
from zarr.storage import LocalStore, ZipStore

from dataplane.errors import CorruptObject, InvalidArgument, NotFound, SourceChanged
from dataplane.formats import zarr
from dataplane.formats.index import read_index
from dataplane.objects import Objects
from dataplane.refs import Digest, Foreign
from dataplane.store import open_store

VALUES = np.random.default_rng(0).normal(size=(23, 6, 10)).astype("float32")

WRITTEN = {
    "v3": {"chunks": (4, 6, 5)},
    "v3 not compressed": {"chunks": (4, 6, 10), "compressors": None},
    "v3 sharded": {"chunks": (2, 3, 5), "shards": (8, 6, 10)},
    "v3 sharded, index first": {"chunks": (2, 3, 5), "shards": {"shape": (8, 6, 10), "index_location": "start"}},
    "v3 sharded, no checksums": {
        "chunks": (8, 6, 10),
        "serializer": ShardingCodec(chunk_shape=(2, 6, 10), codecs=[BytesCodec(), ZstdCodec()], index_codecs=[BytesCodec()]),
        "compressors": None,
    },
    "v3 sharded, its index in other codecs": {  # then a chunk is read whole
        "chunks": (8, 6, 10),
        "serializer": ShardingCodec(
            chunk_shape=(2, 6, 10), codecs=[BytesCodec()], index_codecs=[BytesCodec(), Crc32cCodec(), Crc32cCodec()]
        ),
        "compressors": None,
    },
    "v3 shards in shards": {
        "chunks": (8, 6, 10),
        "serializer": ShardingCodec(chunk_shape=(4, 6, 10), codecs=[ShardingCodec(chunk_shape=(2, 3, 5))]),
        "compressors": None,
    },
    "v3 transposed": {"chunks": (4, 6, 5), "filters": [TransposeCodec(order=(2, 0, 1))], "compressors": [GzipCodec()]},
    "v3 big-endian": {"chunks": (4, 6, 5), "serializer": BytesCodec(endian="big"), "compressors": [BloscCodec(), Crc32cCodec()]},
    "v3 other keys": {"chunks": (4, 6, 5), "chunk_key_encoding": {"name": "v2", "separator": "."}},
    "v2": {"zarr_format": 2, "chunks": (4, 6, 5)},
    "v2 nested keys": {"zarr_format": 2, "chunks": (4, 6, 5), "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "v2 in F order": {"zarr_format": 2, "chunks": (4, 6, 5), "order": "F"},
    "v2 blosc": {"zarr_format": 2, "chunks": (4, 6, 10), "compressors": numcodecs.Blosc()},
    "v2 lzma": {"zarr_format": 2, "chunks": (4, 6, 10), "compressors": numcodecs.LZMA()},
    "v2 filtered": {"zarr_format": 2, "chunks": (4, 6, 5), "filters": [numcodecs.Shuffle(4)], "compressors": numcodecs.Zlib()},
    "v2 not compressed": {"zarr_format": 2, "chunks": (4, 6, 5), "compressors": None},
}


class Source:
    """A folder in a store that zarr-python writes."""

    def __init__(self, kind, folder, url=None):
        self.kind = kind
        self.put = {}
        self.folder = folder / "source.zarr"
        self.objects = Objects(open_store(str(folder / "lake")))
        self.url = url or (str(self.folder) if kind == "local" else f"memory://{folder.name}/source.zarr")

    def adopt(self, **options):
        listed = [zarr.Listed(meta["path"], meta["size"], meta["e_tag"]) for chunk in self.store().list() for meta in chunk]
        prefix = "" if self.kind == "local" else "source.zarr/"
        listed = [one._replace(name=one.name.removeprefix(prefix)) for one in listed]
        return zarr.adopt_folder(self.objects, self.url, listed, **options)

    def store(self):
        if self.kind == "local":
            return open_store(str(self.folder))
        store = open_store(self.url.rpartition("/")[0])
        for path in sorted(self.folder.rglob("*")):
            name = f"source.zarr/{path.relative_to(self.folder)}"
            if path.is_file() and self.put.get(name) != path.read_bytes():  # its etag changes with each put
                self.put[name] = path.read_bytes()
                store.put(name, self.put[name])
        return store

    def open(self, **options):
        adopted = self.adopt(**options)
        return zarr.open(self.objects, adopted.ref, read_index(adopted.index, where="the index"))


@pytest.fixture(params=["local", "memory"])
def source(request, tmp_path):
    return Source(request.param, tmp_path)


@pytest.fixture
def local(tmp_path):
    return Source("local", tmp_path)


def create(folder, name, values, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names of codecs that are not in the specification
        array = zarr_python.create_array(LocalStore(folder), name=name, shape=values.shape, dtype=values.dtype, **options)
        array[...] = values
    return array


@pytest.mark.parametrize("name", WRITTEN)
def test_what_zarr_python_wrote_is_what_is_read(source, name):
    create(source.folder, "a", VALUES, **WRITTEN[name])
    adopted = source.adopt()
    assert isinstance(adopted.ref, Foreign)
    assert adopted.keys[3] == "00000003"
    (info,) = adopted.arrays
    assert (info.field, info.format, info.dtype, info.shape) == ("a", 2 if "v2" in name else 3, "float32", VALUES.shape)
    reader = zarr.open(source.objects, adopted.ref, read_index(adopted.index, where="the index"))
    order = [22, 0, 7, 7, 8]
    found = reader.read_array(order, "a")
    assert found.dtype == np.float32
    assert np.array_equal(found, VALUES[order])
    assert np.array_equal(reader.read_window(21, "a", [slice(2, 5), slice(4, 7)]), VALUES[21, 2:5, 4:7])
    reader.verify()
    assert np.array_equal(reader.group()["a"][5:9], VALUES[5:9])


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    "values",
    [
        np.arange(10).astype("datetime64[D]"),
        np.array([f"word {i}" for i in range(10)], "U8"),
        np.array([(i, i / 2) for i in range(10)], [("a", "i4"), ("b", "f8")]),
        np.arange(10, dtype=">i4"),
    ],
    ids=lambda values: values.dtype.str,
)
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_dtypes_that_our_writer_does_not_write(local, version, values):
    create(local.folder, "a", values, zarr_format=version, chunks=(3,))
    found = local.open().read_array(range(9, -1, -1), "a")
    assert np.array_equal(found, values[::-1])


@pytest.mark.parametrize("name", ["v3", "v3 sharded", "v2"])
def test_on_s3(tmp_path, s3, name):
    source = Source("s3", tmp_path, s3.url("source.zarr"))
    array = create(source.folder, "a", VALUES, **WRITTEN[name])
    reader = source.open()
    assert np.array_equal(reader.read_array(range(23), "a"), VALUES)
    array[8:12] = 1
    source.store()
    with pytest.raises(SourceChanged, match=r"source\.zarr/a/"):
        reader.read(8)


def test_an_array_by_itself_is_named_as_its_folder(source):
    create(source.folder, None, VALUES, chunks=(4, 6, 10))
    adopted = source.adopt(prefix="scene-")
    assert [info.field for info in adopted.arrays] == ["source"]
    assert adopted.keys[:2] == ["scene-00000000", "scene-00000001"]
    reader = zarr.open(source.objects, adopted.ref, read_index(adopted.index, where="the index"))
    assert np.array_equal(reader.read(4)["source"], VALUES[4])
    assert reader.group().shape == VALUES.shape


def test_groups_in_groups(local):
    create(local.folder, "image", VALUES, chunks=(4, 6, 10))
    create(local.folder, "labels/nuclei", VALUES > 0, chunks=(5, 6, 10))
    create(local.folder, "scale", np.float64(2))  # a scalar has no samples
    reader = local.open()
    assert reader.fields == ("image", "labels.nuclei")
    sample = reader.read(20)
    assert np.array_equal(sample["image"], VALUES[20])
    assert np.array_equal(sample["labels.nuclei"], VALUES[20] > 0)


def test_lengths_that_differ_are_named(local):
    create(local.folder, "image", VALUES, chunks=(4, 6, 10))
    create(local.folder, "time", np.arange(5))
    with pytest.raises(InvalidArgument, match=r"image \[23, 6, 10\], time \[5\]"):
        local.adopt()
    assert [info.field for info in local.adopt(arrays=["image"]).arrays] == ["image"]
    assert local.open(arrays=["time"]).read(4)["time"] == 4
    with pytest.raises(NotFound, match=r"'depth'.*image"):
        local.adopt(arrays=["depth"])


def test_a_path_that_would_be_another_is_refused(local):
    create(local.folder, "a/b", VALUES)
    create(local.folder, "a.b", VALUES)
    with pytest.raises(InvalidArgument, match=r"'a\.b'"):
        local.adopt()


def test_where_there_is_no_array(local):
    zarr_python.create_group(LocalStore(local.folder))
    with pytest.raises(NotFound, match="no Zarr array"):
        local.adopt()


# ------------------------------------------------------------------ chunks that are not there


@pytest.mark.parametrize("name", ["v3", "v3 sharded", "v3 transposed", "v2", "v2 lzma"])
def test_a_chunk_that_was_never_written_is_the_fill_value(source, name):
    values = np.full_like(VALUES, 7)
    values[9] = VALUES[9]
    create(source.folder, "a", values, fill_value=7, **WRITTEN[name])
    reader = source.open()
    assert np.array_equal(reader.read_array(range(23), "a"), values)
    assert np.array_equal(reader.read_array([0], "a"), values[:1])


@pytest.mark.parametrize(("version", "fill"), [(2, None), (2, "NaN"), (3, "NaN"), (3, "-Infinity")])
def test_fill_values_that_are_no_numbers(local, version, fill):
    create(local.folder, "a", VALUES, zarr_format=version, chunks=(4, 6, 10), fill_value=0)
    document = local.folder / "a" / ("zarr.json" if version == 3 else ".zarray")
    document.write_text(json.dumps({**json.loads(document.read_text()), "fill_value": fill}))
    (local.folder / "a" / ("c/1/0/0" if version == 3 else "1.0.0")).unlink()
    expected = {None: 0.0, "NaN": np.nan, "-Infinity": -np.inf}[fill]
    found = local.open().read_array([3, 5], "a")
    assert np.array_equal(found[0], VALUES[3])
    assert np.array_equal(found[1], np.full((6, 10), expected, "f4"), equal_nan=True)


def test_a_chunk_that_is_gone_later_is_an_error_that_names_it(local):
    create(local.folder, "a", VALUES, chunks=(4, 6, 10))
    reader = local.open()
    (local.folder / "a/c/2/0/0").unlink()
    assert np.array_equal(reader.read(3)["a"], VALUES[3])
    with pytest.raises(SourceChanged, match="a/c/2/0/0"):
        reader.read_many(range(23))
    with pytest.raises(SourceChanged, match="a/c/2/0/0"):
        reader.verify()


def test_a_chunk_that_changed_is_an_error_that_names_it(source):
    array = create(source.folder, "a", VALUES, chunks=(4, 6, 10))
    reader = source.open()
    array[8:12] = 1
    source.store()
    assert np.array_equal(reader.read(3)["a"], VALUES[3])
    with pytest.raises(SourceChanged, match="a/c/2/0/0"):
        reader.read(8)


def test_metadata_that_changed_later_does_not_change_what_is_read(local):
    create(local.folder, "a", VALUES, chunks=(4, 6, 10))
    reader = local.open()
    (local.folder / "a/zarr.json").write_text("{}")
    assert np.array_equal(reader.read(3)["a"], VALUES[3])


# ------------------------------------------------------------------ what cannot be read


@pytest.mark.parametrize("version", [2, 3])
def test_a_codec_that_is_not_here_is_named_when_adopting(local, version):
    create(local.folder, "good", VALUES, zarr_format=version)
    create(local.folder, "a", VALUES, zarr_format=version)
    path = local.folder / "a" / ("zarr.json" if version == 3 else ".zarray")
    document = json.loads(path.read_text())
    if version == 3:
        document["codecs"][-1] = {"name": "imaginary", "configuration": {}}
    else:
        document["compressor"] = {"id": "imaginary"}
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidArgument, match=r"source\.zarr.*'a'.*imaginary"):
        local.adopt()
    assert local.adopt(arrays=["good"]).arrays[0].field == "good"


@pytest.mark.parametrize("document", ["", "{", "[]", "{}", '{"zarr_format": 2}', '{"zarr_format": 2, "shape": [3], "chunks": [0]}'])
def test_metadata_that_cannot_be_read(local, document):
    create(local.folder, "a", VALUES, zarr_format=2)
    (local.folder / "a/.zarray").write_text(document)
    with pytest.raises(CorruptObject, match=r"source\.zarr: a/\.zarray"):
        local.adopt()


def test_chunks_that_cannot_be_decoded_are_named(local):
    create(local.folder, "a", VALUES, zarr_format=2, chunks=(4, 6, 10))
    (local.folder / "a/2.0.0").write_bytes(b"nonsense")
    reader = local.open()
    with pytest.raises(CorruptObject, match="field 'a' of sample '00000008' to '00000011'"):
        reader.read_many(range(23))
    with pytest.raises(CorruptObject, match="'00000008'"):
        reader.verify()
    assert np.array_equal(reader.read(3)["a"], VALUES[3])


# ------------------------------------------------------------------ zip files


def pack(folder, path, compression):
    with ZipStore(path, mode="w", compression=compression) as store:
        array = zarr_python.create_array(store, name="a", shape=VALUES.shape, dtype=VALUES.dtype, chunks=(4, 6, 10), compressors=None)
        array[...] = VALUES
    return Foreign(str(path), os.path.getsize(path))


def test_a_zip_file_of_zarr_python(local, tmp_path):
    ref = pack(local.folder, tmp_path / "packed.zip", 0)
    adopted = zarr.adopt_zip(local.objects, ref)
    assert adopted.ref == ref
    reader = zarr.open(local.objects, ref, read_index(adopted.index, where="the index"))
    assert np.array_equal(reader.read_array([20, 3], "a"), VALUES[[20, 3]])
    reader.verify()
    damaged = bytearray((tmp_path / "packed.zip").read_bytes())
    damaged[next(m for m in reader._members if m.name == "a/c/1/0/0").offset + 3] ^= 1
    (tmp_path / "packed.zip").write_bytes(damaged)
    with pytest.raises(CorruptObject, match="a/c/1/0/0 fails its checksum"):
        reader.read(5)


def test_a_shard_of_ours_adopted_elsewhere_keeps_its_keys(local, tmp_path):
    with zarr.Writer(tmp_path / "shard.zip") as writer:
        for i in range(9):
            writer.add(f"key {i}", {"v": VALUES[i], **({"w": np.array(i)} if i % 2 else {})})
        ref, _ = writer.finish()
    adopted = zarr.adopt_zip(local.objects, Foreign(str(tmp_path / "shard.zip"), ref.size))
    assert adopted.keys == [f"key {i}" for i in range(9)]
    reader = zarr.open(local.objects, adopted.ref, read_index(adopted.index, where="the index"))
    assert [sorted(sample) for sample in reader.read_many([1, 2])] == [["v", "w"], ["v"]]
    assert np.array_equal(reader.read(8)["v"], VALUES[8])


def test_a_folder_packed_later_is_a_shard_too(local, tmp_path):
    create(local.folder, "a", VALUES, chunks=(2, 6, 10), shards=(8, 6, 10))
    shutil.make_archive(str(tmp_path / "deflated"), "zip", local.folder)
    with pytest.raises(InvalidArgument, match="compressed or encrypted"):
        zarr.adopt_zip(local.objects, Foreign(str(tmp_path / "deflated.zip"), os.path.getsize(tmp_path / "deflated.zip")))


@pytest.mark.parametrize("data", [b"", b"no zip file", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_zip_file_of_arrays(local, tmp_path, data):
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises((CorruptObject, NotFound), match=r"x\.zip"):
        zarr.adopt_zip(local.objects, Foreign(str(tmp_path / "x.zip"), len(data)))


def test_a_zip_file_in_the_lake(local, tmp_path):
    pack(local.folder, tmp_path / "packed.zip", 0)
    ref = local.objects.put((tmp_path / "packed.zip").read_bytes(), suffix=".zip")
    assert isinstance(ref, Digest)
    adopted = zarr.adopt_zip(local.objects, Foreign(f"{local.objects.store.url}/{ref.path}", ref.size))
    reader = zarr.open(local.objects, ref, read_index(adopted.index, where="the index"))
    assert np.array_equal(reader.read(7)["a"], VALUES[7])
    reader.verify()
