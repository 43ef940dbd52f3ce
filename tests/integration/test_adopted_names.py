"""Adopted objects whose names are hard to put into a URL are read by the names that they have."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from dataplane import Lake
from dataplane.adopt import AdoptOptions, adopt
from dataplane.store import open_store

NAMES = ("a b", "a%20b", "ü ñ", "a+b", "a#b", "a?b=c", "a&b;c", "100%", "C:\\x", "-x", "~a", "日本", "a'b\"c")


def tar(key):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as made:
        info = tarfile.TarInfo(f"{key}.txt")
        info.size = len(key.encode())
        made.addfile(info, io.BytesIO(key.encode()))
    return sink.getvalue()


def parquet(value):
    sink = io.BytesIO()
    pq.write_table(pa.table({"txt": [value.encode()]}), sink)
    return sink.getvalue()


@pytest.fixture(params=["folder", "memory", "s3"])
def source(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("s3").url("so urce/%41 ü")
    return str(tmp_path / "so urce/%41 ü") if request.param == "folder" else f"memory://{tmp_path.name}/so urce/%41 ü"


def test_names_stay_what_they_are(source, tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    root, _, below = source.partition("so urce")
    store = open_store(root.rstrip("/"))
    for name in NAMES:
        store.put(f"so urce{below}/tars/{name}.tar", tar("key"))
        store.put(f"so urce{below}/tables/{name}.parquet", parquet(name))
    adopt(lake, f"{source}/tars", "tars", options=AdoptOptions(prefix=True))
    adopt(lake, f"{source}/tables", "tables")
    tars = lake.dataset("tars")["train"]
    assert len(tars) == len(NAMES)
    assert {sample.fields["txt"] for sample in tars} == {b"key"}
    assert sorted(sample.fields["txt"].decode() for sample in lake.dataset("tables")["train"]) == sorted(NAMES)
    urls = {shard.row.ref.url.rpartition("/")[2] for shard in tars.shards}
    assert urls == {f"{name}.tar" for name in NAMES}


def test_folders_of_chunks(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    for number, name in enumerate(NAMES):
        folder = str(tmp_path / "arrays" / f"{name}.zarr")
        zarr.create_array(folder, data=np.full((3, 4), number), chunks=(2, 2))
        adopt(lake, folder, f"x{number}")
        samples = lake.dataset(f"x{number}")["train"].read_many([0, 2])
        assert [value.tolist() for sample in samples for value in sample.fields.values()] == [[number] * 4] * 2
