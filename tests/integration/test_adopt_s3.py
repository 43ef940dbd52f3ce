"""Adopting real tars, Parquet and Zarr from an S3 server: only headers are fetched, nothing is written there, and a change is noticed."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
import zarr

from dataplane import Lake
from dataplane.adopt import AdoptOptions, adopt
from dataplane.errors import SourceChanged
from dataplane.store import open_store


@pytest.fixture(scope="module")
def shards(photos):
    """Tars that the webdataset library made of the photographs, and their samples."""
    files, made = {}, {}
    paths = sorted(photos.rglob("*.jpg"))[:60]
    for number in range(3):
        sink = io.BytesIO()
        with webdataset.TarWriter(sink) as writer:
            for path in paths[20 * number : 20 * number + 20]:
                key = f"{path.parent.name}/{path.stem}"
                sample = {"jpg": path.read_bytes(), "cls": path.parent.name.encode(), "json": b'{"name": "%s"}' % path.stem.encode()}
                writer.write({"__key__": key, **sample})
                made[key] = sample
        files[f"photos-{number:03d}.tar"] = sink.getvalue()
    return files, made


def upload(url, files):
    store = open_store(url)
    for path, data in files.items():
        store.put(path, data)
    return store


def listed(store):
    return sorted((meta["path"], meta["size"], meta["e_tag"]) for chunk in store.list() for meta in chunk)


def read(dataset):
    return {sample.key: dict(sample.fields) for split in dataset.splits for sample in dataset[split]}


def test_tars_of_webdataset_in_place(s3, shards):
    files, made = shards
    source, lake = s3.url("data"), Lake.init(s3.url("lake"))
    store = upload(source, files)
    before = listed(store)
    headers = adopt(lake, source, "headers").bytes_read
    assert headers < sum(map(len, files.values())) // 6
    result = adopt(lake, f"{source}/photos-{{000..002}}.tar", "photos", options=AdoptOptions(label_from_field="cls"))
    assert (result.samples, result.shards, result.bad, result.notes) == (60, 3, (), ())
    assert result.bytes_read > 4 * headers, "what lies between labels is fetched with them"
    dataset = lake.dataset("photos")
    assert read(dataset) == made
    train = dataset["train"]
    some = np.random.default_rng(0).permutation(60)[:20].tolist()
    assert [(sample.key, dict(sample.fields)) for sample in train.read_many(some)] == [
        (key, made[key]) for key in (train[i].key for i in some)
    ]
    assert dataset.metadata(["label"]).column("label").to_pylist() == [sample["cls"].decode() for sample in made.values()]
    assert listed(store) == before
    again = adopt(lake, f"{source}/*.tar", "photos", options=AdoptOptions(label_from_field="cls"))
    assert (again.committed, again.kept, again.bytes_read) == (False, 3, 0)


def test_a_change_is_noticed_and_named(s3, shards):
    files, made = shards
    source, lake = s3.url("data"), Lake.init(s3.url("lake"))
    store = upload(source, files)
    adopt(lake, source, "photos", options=AdoptOptions(verify=True))
    first, second = files["photos-000.tar"], files["photos-001.tar"]
    store.put("photos-001.tar", second[:2000] + bytes([second[2000] ^ 1]) + second[2001:])
    with pytest.raises(SourceChanged, match=r"photos-001\.tar"):
        read(lake.dataset("photos"))
    assert lake.dataset("photos")["train"][0].key in made
    store.put("photos-001.tar", first[:0] + second)
    result = adopt(lake, source, "photos", options=AdoptOptions(verify=True))
    assert read(lake.dataset("photos")) == made
    assert result.kept + result.replaced == 3


def test_parquet_and_zarr(s3, tmp_path):
    sink = io.BytesIO()
    vectors = np.arange(40, dtype=np.float32).reshape(10, 4)
    table = pa.table({"key": [f"k{n}" for n in range(10)], "n": range(10), "vector": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 4)})
    pq.write_table(table, sink, row_group_size=3)
    source, lake = s3.url("data"), Lake.init(s3.url("lake"))
    upload(source, {"t/year=1/part.parquet": sink.getvalue()})
    result = adopt(lake, f"{source}/t/**/*.parquet", "t", options=AdoptOptions(key="key", columns=("n",)))
    assert (result.samples, result.bad) == (10, ())
    got = read(lake.dataset("t"))
    assert all(np.array_equal(got[f"k{n}"]["vector"], vectors[n]) for n in range(10))
    data = np.random.default_rng(0).integers(0, 255, (6, 8, 8), np.uint8)
    zarr.create_array(tmp_path / "v.zarr", data=data, chunks=(2, 8, 8))
    upload(
        source,
        {
            f"z/v.zarr/{path.relative_to(tmp_path / 'v.zarr')}": path.read_bytes()
            for path in (tmp_path / "v.zarr").rglob("*")
            if path.is_file()
        },
    )
    result = adopt(lake, f"{source}/z", "z", options=AdoptOptions(verify=True))
    assert (result.samples, result.shards, result.bad) == (6, 1, ())
    samples = list(lake.dataset("z")["train"])
    assert all(np.array_equal(next(iter(sample.fields.values())), data[n]) for n, sample in enumerate(samples))


def test_odd_names(s3, shards):
    files, _ = shards
    source, lake = s3.url("data"), Lake.init(s3.url("lake"))
    data = files["photos-000.tar"]
    upload(source, {"a b/é%20#+/x y.tar": data})
    result = adopt(lake, f"{source}/a b/é%20#+/*.tar", "odd")
    assert (result.samples, result.bad) == (20, ())
    assert len(read(lake.dataset("odd"))) == 20
    assert adopt(lake, f"{source}/a b/é%20#+/x y.tar", "odd").committed is False
