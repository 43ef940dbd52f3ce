"""Parquet shards and files of others, made and opened for tests."""

import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataplane.formats import parquet
from dataplane.formats.index import read_index
from dataplane.refs import Foreign
from dataplane.store import open_store
from dataplane.testing import RecordingStore


def memory_store():
    return RecordingStore(open_store(f"memory://{uuid.uuid4().hex}"))


def make_shard(objects, path, samples, *, cache_bytes=4 << 20, **options):
    """Write samples as a shard of the lake, and open it."""
    with parquet.Writer(path, **options) as writer:
        for i, fields in enumerate(samples):
            writer.add(f"k{i}", fields)
        ref, index = writer.finish()
    objects.put_file(path, suffix=".parquet", ref=ref)
    return opened(objects, ref, index, cache_bytes=cache_bytes)


def write_theirs(folder, table, **options):
    """A table that somebody else wrote as a file: its reference and its path."""
    path = folder / f"{uuid.uuid4().hex}.parquet"
    folder.mkdir(exist_ok=True)
    pq.write_table(table, path, **options)
    return Foreign(str(path), path.stat().st_size), path


def opened(objects, ref, index, **options):
    return parquet.Reader(objects, ref, read_index(index, where="the index"), **options)


def table_of(count, width=16):
    rng = np.random.default_rng(count)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.standard_normal(count * width).astype(np.float32)), width)
    return pa.table({"vector": vectors, "label": pa.array(rng.integers(0, 9, count)), "text": [f"text {i}" for i in range(count)]})
