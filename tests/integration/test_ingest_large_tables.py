"""Large tables and texts are read twice, piece by piece, and become the samples that they would become as a whole."""

import os
import subprocess
import sys
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from dataplane import Lake
from dataplane.errors import BadSources
from dataplane.ingest import IngestOptions, ingest, local_file, tables
from dataplane.store import open_store

ROWS = 20_000


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch):
    monkeypatch.setattr(tables, "_LARGE_BYTES", 1)
    monkeypatch.setattr(tables, "_PIECE_ROWS", 1000)
    monkeypatch.setattr(local_file, "_PIECE_BYTES", 10_000)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    kinds = pa.array([f"kind {n}" for n in rng.integers(0, 4, ROWS)]).dictionary_encode()
    return pa.table({"id": range(ROWS), "kind": kinds, "text": [f"text {i}" * 20 for i in range(ROWS)], "x": rng.standard_normal(ROWS)})


def write_file(table, path):
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=7000)
    elif path.suffix == ".txt":
        path.write_text("".join(f"{text}\r\n\n" for text in table.column("text").to_pylist()))
    else:
        pyarrow.feather.write_feather(table, path, version=1 if path.suffix == ".feather" else 2, chunksize=None)


def samples(lake, name):
    dataset = Lake(lake).dataset(name)
    found = {}
    for split in dataset.splits:
        for sample in dataset[split].read_many(range(len(dataset[split]))):
            found[sample.key] = (split, sample.fields)
    return found, dataset


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.txt"])
@pytest.mark.parametrize("where", ["folder", "store"])
def test_they_become_the_same_samples(tmp_path, table, monkeypatch, name, where):
    source = tmp_path / "source"
    source.mkdir()
    write_file(table, source / name)
    options = IngestOptions(
        split="train=0.8,test=0.2", shard_bytes=200_000, label_from=None if name == "a.txt" else "column:kind", workers=1
    )
    url = str(source)
    if where == "store":
        store = open_store(f"memory://{uuid.uuid4().hex}")
        store.put(name, (source / name).read_bytes())
        url = store.url
    result = ingest(str(tmp_path / "lake"), url, "streamed", options=options)
    assert (result.samples, result.bad) == (ROWS, ())
    assert result.shards > 10
    monkeypatch.setattr(tables, "_LARGE_BYTES", 1 << 40)
    ingest(str(tmp_path / "lake"), url, "whole", options=options)
    streamed, whole = (samples(str(tmp_path / "lake"), each) for each in ("streamed", "whole"))
    assert streamed[0].keys() == whole[0].keys()
    assert all(streamed[0][key] == whole[0][key] for key in whole[0])
    assert streamed[1].schema == whole[1].schema
    assert [(s.row.samples, s.row.ref) for s in streamed[1]["train"].shards] == [
        (s.row.samples, s.row.ref) for s in whole[1]["train"].shards
    ]


def test_a_bad_row_at_the_end_leaves_the_file_out(tmp_path, table):
    source = tmp_path / "source"
    source.mkdir()
    twice = table.set_column(0, "id", pa.array([*range(ROWS - 1), 5]))
    write_file(twice, source / "a.parquet")
    write_file(table.set_column(0, "id", pa.array(range(ROWS, 2 * ROWS))), source / "b.parquet")
    (source / "c.parquet").write_bytes((source / "b.parquet").read_bytes()[:-500])
    result = ingest(str(tmp_path / "lake"), source, "x", options=IngestOptions(key="id", workers=1))
    assert result.samples == ROWS
    reasons = {bad.source: bad.reason for bad in result.bad}
    assert reasons["a.parquet"] == "1 of its keys come twice, '5' for one"
    assert "it cannot be read as parquet" in reasons["c.parquet"]
    assert not ingest(str(tmp_path / "lake"), source, "x", options=IngestOptions(key="id", workers=1)).committed


def test_a_file_that_changes_meanwhile_is_left_out(tmp_path, table, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    write_file(table, source / "a.parquet")
    right = local_file.LocalFile.check
    checks = []

    def check(local):
        checks.append(local.path)
        if len(checks) == 2:
            os.utime(source / "a.parquet")
        right(local)

    monkeypatch.setattr(local_file.LocalFile, "check", check)
    with pytest.raises(BadSources) as caught:
        ingest(str(tmp_path / "lake"), source, "x", options=IngestOptions(workers=1))
    assert [bad.reason for bad in caught.value.bad] == ["it changed while it was read; run the command again"]


PEAK = """
import resource, sys
from dataplane.ingest import IngestOptions, ingest
result = ingest(sys.argv[1], sys.argv[2], "x", options=IngestOptions(workers=1))
assert not result.bad
print(result.samples, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    peaks = []
    vectors = np.random.default_rng(0).standard_normal((1000, 1000))  # 8 MB
    table = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 1000)})
    for count in (32, 80):
        source = tmp_path / f"source{count}"
        source.mkdir()
        with pq.ParquetWriter(source / "a.parquet", table.schema, compression="none", use_dictionary=False) as writer:
            writer.write_table(pa.concat_tables([table] * count), row_group_size=1 << 20)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(tmp_path / f"lake{count}"), str(source)],
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        rows, peak = map(int, done.stdout.split())
        assert rows == 1000 * count
        peaks.append(peak * 1024)
    assert peaks[1] - peaks[0] < 150_000_000 < 48 * vectors.nbytes, "of 384 MB more"
