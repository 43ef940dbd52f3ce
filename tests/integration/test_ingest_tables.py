"""Tables, text, arrays and plain files: what comes in decides the format, and an ingest of any of them can be killed and repeated."""

import io
import json
import subprocess
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from dataplane import Lake
from dataplane.errors import BadSources, NotFound, StorageFull
from dataplane.ingest import IngestOptions, ingest
from dataplane.store import open_store
from dataplane.testing import Fault, FaultStore
from dataplane.upkeep import verify_lake
from tests.folders import jpeg


def table(first, count, *, wide=False):
    numbers = range(first, first + count)
    return pa.table(
        {
            "id": [f"row-{i}" for i in numbers],
            "score": [i / 2 if wide else i for i in numbers],
            "kind": [("red", "green", "blue")[i % 3] for i in numbers],
            "tokens": [list(range(i % 5)) for i in numbers],
        }
    )


def put_parquet(folder, name, first, count, **options):
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(first, count, **options), folder / name, row_group_size=7)


def rows(dataset):
    return {sample.key: dict(sample.fields) for split in dataset.splits for sample in dataset[split]}


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


def test_parquet_rows_become_samples(source, lake):
    put_parquet(source / "a", "one.parquet", 0, 50)
    put_parquet(source, "two.parquet", 50, 30)
    result = ingest(lake, source, "events", options=IngestOptions(split="train=0.7,test=0.3", label_from="column:kind", key="id"))
    assert (result.samples, result.kind, result.to_json()["format"], result.bad) == (80, "tables", "parquet", ())
    dataset = lake.dataset("events")
    assert {field.name: str(field) for field in dataset.schema.fields} == {
        "id": "value string",
        "score": "value int64",
        "kind": "value string",
        "tokens": "value list<int64>",
    }
    found = rows(dataset)
    assert len(found) == 80
    assert all(found[f"row-{i}"]["score"] == i and list(found[f"row-{i}"]["tokens"]) == list(range(i % 5)) for i in range(80))
    metadata = dataset.metadata(["key", "label", "score", "kind", "split"]).to_pylist()
    assert all(row["label"] == row["kind"] == ("red", "green", "blue")[row["score"] % 3] for row in metadata)
    assert {row["split"] for row in metadata} == {"train", "test"}
    assert verify_lake(lake).problems == []
    again = ingest(lake, source, "events", options=IngestOptions(split="train=0.7,test=0.3", label_from="column:kind", key="id"))
    assert (again.committed, again.version, again.kept) == (False, 1, 80)


def test_a_shard_is_what_other_tools_read(source, lake):
    put_parquet(source, "one.parquet", 0, 40)
    ingest(lake, source, "events")
    path = str(lake.store.local_path(lake.dataset("events")["train"].shards[0].row.ref))
    by_arrow = pyarrow.dataset.dataset(path).to_table().sort_by("score")
    assert by_arrow.select(table(0, 40).column_names).to_pylist() == table(0, 40).to_pylist()
    assert duckdb.sql(f"select count(*), sum(score) from '{path}'").fetchall() == [(40, sum(range(40)))]


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "feather", "arrow"])
def test_other_tables(source, lake, extension):
    source.mkdir()
    made = table(0, 20).drop_columns(["tokens"])
    path = source / f"t.{extension}"
    if extension in {"csv", "tsv"}:
        pa.csv.write_csv(made, path, pa.csv.WriteOptions(delimiter="," if extension == "csv" else "\t"))
    elif extension == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in made.to_pylist()))
    else:
        pa.feather.write_feather(made, path)
    ingest(lake, source, "t", options=IngestOptions(order="source"))
    assert [dict(sample.fields) for sample in lake.dataset("t")["train"]] == made.to_pylist()
    assert [sample.key for sample in lake.dataset("t")["train"]][:2] == [f"t.{extension}#0", f"t.{extension}#1"]


def test_one_file_is_a_source(source, lake):
    put_parquet(source, "one.parquet", 0, 5)
    put_parquet(source, "other.parquet", 0, 5)
    assert ingest(lake, source / "one.parquet", "one").samples == 5


def test_lines_of_text(source, lake):
    source.mkdir()
    (source / "b.txt").write_text("first\n\n  \nsecond ü\r\nthird")
    (source / "a.txt").write_bytes(b"not \xff text")
    result = ingest(lake, source, "lines", options=IngestOptions(order="source"))
    assert (result.kind, [sample.fields["text"] for sample in lake.dataset("lines")["train"]]) == ("text", ["first", "second ü", "third"])
    assert [bad.source for bad in result.bad] == ["a.txt"]
    assert "utf-8" in result.bad[0].reason


def test_a_changed_file_replaces_its_rows(source, lake):
    put_parquet(source, "one.parquet", 0, 30)
    put_parquet(source, "two.parquet", 30, 30)
    options = IngestOptions(key="id", split="train=0.5,test=0.5")
    ingest(lake, source, "events", options=options)
    put_parquet(source, "two.parquet", 40, 30, wide=True)
    result = ingest(lake, source, "events", options=options)
    assert (result.kept, result.replaced, result.added, result.dropped) == (30, 20, 10, 10)
    found = rows(lake.dataset("events"))
    assert sorted(found) == sorted(f"row-{i}" for i in (*range(30), *range(40, 70)))
    assert found["row-41"]["score"] == 20.5
    assert {field.name: str(field) for field in lake.dataset("events").schema.fields}["score"] == "value double"
    (source / "one.parquet").unlink()
    assert ingest(lake, source, "events", options=options).committed is False
    dropped = ingest(lake, source, "events", options=IngestOptions(key="id", split="train=0.5,test=0.5", sync=True))
    assert (dropped.dropped, dropped.samples) == (30, 30)
    assert verify_lake(lake).problems == []
    assert sorted(rows(lake.dataset("events@1"))) == sorted(f"row-{i}" for i in range(60))


def test_other_settings_read_everything_again(source, lake):
    put_parquet(source, "one.parquet", 0, 30)
    ingest(lake, source, "events", options=IngestOptions(key="id", split="train=0.5,test=0.5"))
    result = ingest(lake, source, "events", options=IngestOptions(key="id"))
    assert (result.samples, result.dropped) == (30, 0)
    assert lake.dataset("events").splits == ("train",)
    assert len(rows(lake.dataset("events"))) == 30


def test_bad_files_are_listed_and_good_ones_go_in(source, lake):
    put_parquet(source, "a.parquet", 0, 20)
    put_parquet(source, "b.parquet", 10, 20)
    (source / "c.parquet").write_bytes((source / "a.parquet").read_bytes()[:-9])
    (source / "d.csv").write_text("id,other\nx,1\n")
    (source / "e.parquet").touch()
    pq.write_table(table(90, 5).set_column(1, "score", pa.array(["text"] * 5)), source / "f.parquet")
    (source / "g.jsonl").write_text('{"id": "x"\n')
    pq.write_table(table(90, 0), source / "h.parquet")
    (source / "notes.md").write_text("x")
    result = ingest(lake, source, "events", options=IngestOptions(key="id"))
    reasons = {bad.source: bad.reason for bad in result.bad}
    assert result.samples == 20
    assert sorted(reasons) == ["b.parquet", "c.parquet", "d.csv", "e.parquet", "f.parquet", "g.jsonl", "h.parquet", "notes.md"]
    assert reasons["b.parquet"] == "10 of its keys come twice, 'row-10' for one"
    assert "cannot be read as parquet" in reasons["c.parquet"]
    assert reasons["d.csv"] == "it has the columns id, other; a.parquet has id, score, kind, tokens"
    assert reasons["e.parquet"] == "it is empty"
    assert reasons["f.parquet"] == "its column 'score' holds string, and int64 in the files before it"
    assert reasons["h.parquet"] == "it has no rows"
    assert "no table: its name ends in none of" in reasons["notes.md"]
    strict = IngestOptions(key="id", strict=True)
    with pytest.raises(BadSources, match="--strict allows none"):
        ingest(lake, source, "other", options=strict)
    missing = ingest(lake, source, "events2", options=IngestOptions(key="id", label_from="column:id"))
    assert missing.samples == 20


def test_keys_that_come_twice_in_different_tasks_are_told(source, lake):
    put_parquet(source, "a.parquet", 0, 20)
    put_parquet(source, "b.parquet", 15, 20)
    result = ingest(lake, source, "events", options=IngestOptions(key="id", shard_bytes=1))
    assert result.samples == 35
    assert [(bad.source, bad.reason) for bad in result.bad] == [
        ("b.parquet", "5 of its rows have keys that files before it have already; those were left out")
    ]


def test_a_missing_key_column(source, lake):
    put_parquet(source, "a.parquet", 0, 20)
    with pytest.raises(BadSources) as caught:
        ingest(lake, source, "events", options=IngestOptions(key="nope"))
    assert caught.value.bad[0].reason == "it has no column 'nope', which --key names; its columns are id, score, kind, tokens"
    with pytest.raises(NotFound):
        lake.dataset("events")


@pytest.mark.parametrize("workers", [1, 2])
def test_many_shards_and_splits(source, lake, workers):
    for number in range(6):
        put_parquet(source, f"{number}.parquet", 1000 * number, 1000)
    options = IngestOptions(key="id", split="train=0.8,val=0.1,test=0.1", shard_bytes=8_000, workers=workers)
    result = ingest(lake, source, "events", options=options)
    assert (result.samples, len(rows(lake.dataset("events")))) == (6000, 6000)
    assert result.shards > 10
    for split in ("train", "val", "test"):
        sizes = [shard.row.bytes for shard in lake.dataset("events")[split].shards]
        assert max(sizes) < 80_000


def test_a_run_that_failed_is_taken_over(source, lake):
    for number in range(4):
        put_parquet(source, f"{number}.parquet", 100 * number, 100)
    options = IngestOptions(key="id", shard_bytes=1500, workers=1)
    broken = Lake(FaultStore(lake.store, [Fault("put", "full", path="/log/")]))
    with pytest.raises(StorageFull):
        ingest(broken, source, "events", options=options)
    before = {meta["path"]: meta["last_modified"] for chunk in lake.store.list("objects") for meta in chunk}
    result = ingest(lake, source, "events", options=options)
    assert result.samples == result.resumed + (result.samples - result.resumed) == 400
    assert result.resumed > 0
    after = {meta["path"]: meta["last_modified"] for chunk in lake.store.list("objects") for meta in chunk}
    assert all(after[path] == before[path] for path in before)
    assert len(rows(lake.dataset("events"))) == 400


def test_arrays_and_their_labels(source, lake):
    for number in range(12):
        folder = source / ("low", "high")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{number}.npy", np.full((4, 6, 3), number, np.float32))
    np.save(source / "low" / "odd.npy", np.zeros((4, 6, 2), np.float32))
    np.save(source / "low" / "text.npy", np.array(["a"]))
    (source / "low" / "cut.npy").write_bytes((source / "low" / "0.npy").read_bytes()[:100])
    result = ingest(lake, source, "arrays", options=IngestOptions(label_from="folder"))
    assert (result.kind, result.samples) == ("arrays", 12)
    assert {bad.source: bad.reason.split(":")[0] for bad in result.bad} == {
        "low/odd.npy": "'low/odd'",
        "low/text.npy": "its array 'array' holds <U1, not numbers",
        "low/cut.npy": "it is no NumPy file",
    }
    dataset = lake.dataset("arrays")
    assert dataset.schema.classes == ("high", "low")
    for sample in dataset["train"]:
        number = int(sample.key.split("/")[1])
        assert np.array_equal(sample.fields["array"], np.full((4, 6, 3), number, np.float32))
        assert int(sample.fields["cls"]) == 1 - number % 2
    assert verify_lake(lake).problems == []


def test_npz_fields(source, lake):
    source.mkdir()
    np.savez(source / "a.npz", volume=np.ones((2, 3)), vector=np.arange(3), number=np.float64(2.5))
    ingest(lake, source, "arrays")
    (sample,) = lake.dataset("arrays")["train"]
    assert np.array_equal(sample.fields["volume"], np.ones((2, 3)))
    assert sample.fields["vector"].tolist() == [0, 1, 2]
    assert sample.fields["number"] == 2.5


def test_files_as_they_are(source, lake):
    source.mkdir()
    (source / "one.WAV").write_bytes(b"RIFF....WAVE")
    (source / "two.wav").write_bytes(b"RIFF")
    (source / "three").write_bytes(b"\x00")
    (source / "empty.wav").touch()
    result = ingest(lake, source, "sounds")
    assert (result.kind, result.to_json()["format"], [(bad.source, bad.reason) for bad in result.bad]) == (
        "files",
        "tar",
        [("empty.wav", "it is empty")],
    )
    assert rows(lake.dataset("sounds")) == {"one": {"wav": b"RIFF....WAVE"}, "two": {"wav": b"RIFF"}, "three": {"bin": b"\x00"}}


def test_the_kind_can_be_said(source, lake):
    source.mkdir()
    (source / "a.jpg").write_bytes(jpeg(1))
    (source / "b.jpg").write_bytes(b"no picture")
    assert ingest(lake, source, "pictures").samples == 1
    assert ingest(lake, source, "files", options=IngestOptions(kind="files")).samples == 2


def test_from_s3(s3):
    source, url = s3.url("tables"), s3.url("lake")
    store = open_store(source)
    sink = io.BytesIO()
    pq.write_table(table(0, 25), sink)
    store.put("deep/one.parquet", sink.getvalue())
    result = ingest(url, source, "events", options=IngestOptions(key="id"))
    assert result.samples == 25
    assert len(rows(Lake(url).dataset("events"))) == 25
    assert ingest(url, source, "events", options=IngestOptions(key="id")).committed is False
    one = ingest(url, f"{source}/deep/one.parquet", "one")
    assert (one.samples, Lake(url).dataset("one")["train"].key("one.parquet#3").fields["score"]) == (25, 3)


def test_the_column_of_keys_and_columns_that_cannot_be_fields(source, lake):
    source.mkdir()
    pq.write_table(pa.table({"__key__": ["a", "b"], "n": [1, 2]}), source / "a.parquet")
    (source / "b.csv").write_text("n,n\n1,2\n")
    (source / "c.csv").write_text("n,a/b\n1,2\n")
    result = ingest(lake, source, "events")
    assert rows(lake.dataset("events")) == {"a": {"n": 1}, "b": {"n": 2}}
    assert {bad.source: bad.reason for bad in result.bad} == {
        "b.csv": "two of its columns are named 'n'",
        "c.csv": "a column is named 'a/b'; fields have names, without '/'",
    }
    with pytest.raises(BadSources) as caught:
        ingest(lake, source / "a.parquet", "other", options=IngestOptions(key="n"))
    assert caught.value.bad[0].reason == "it has a column '__key__', which can only be the key; leave --key out, or rename it"


def test_the_command_says_what_it_did(source, tmp_path):
    put_parquet(source, "one.parquet", 0, 5)
    command = [sys.executable, "-m", "dataplane.cli", "--lake", str(tmp_path / "lake"), "ingest", str(source), "events"]
    script = [sys.executable, "-c", "from dataplane.cli import main; main()", *command[3:]]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert "Rows of tables went into Parquet shards" in done.stdout
    told = json.loads(subprocess.run([*script, "--json"], capture_output=True, text=True, check=True).stdout)
    assert (told["kind"], told["format"], told["samples"]) == ("tables", "parquet", 5)


@pytest.mark.parametrize("shard_bytes", [1, 64 << 20])
def test_files_that_do_not_go_together_are_listed_whatever_task_they_are_in(source, lake, shard_bytes):
    put_parquet(source, "a.parquet", 0, 20)
    put_parquet(source, "b.parquet", 20, 20, wide=True)
    pq.write_table(table(40, 5).rename_columns(["id", "points", "kind", "tokens"]), source / "c.parquet")
    pq.write_table(table(50, 5).set_column(1, "score", pa.array(["text"] * 5)), source / "d.parquet")
    result = ingest(lake, source, "events", options=IngestOptions(key="id", shard_bytes=shard_bytes))
    assert ({bad.source for bad in result.bad}, result.samples) == ({"c.parquet", "d.parquet"}, 40)
    assert {field.name: str(field) for field in lake.dataset("events").schema.fields}["score"] == "value double"
    assert max(lake.dataset("events").metadata(["score"]).column("score").to_pylist()) == 19.5
    put_parquet(source, "e.parquet", 60, 5)
    pq.write_table(table(70, 5).set_column(1, "score", pa.array(["text"] * 5)), source / "f.parquet")
    assert ingest(lake, source, "events", options=IngestOptions(key="id", shard_bytes=shard_bytes)).samples == 45
    assert verify_lake(lake).problems == []


def test_a_file_that_became_bad_keeps_the_samples_that_it_had(source, lake):
    put_parquet(source, "a.parquet", 0, 20)
    put_parquet(source, "b.parquet", 20, 20)
    ingest(lake, source, "events", options=IngestOptions(key="id"))
    (source / "b.parquet").write_bytes(b"PAR1")
    result = ingest(lake, source, "events", options=IngestOptions(key="id"))
    assert ([bad.source for bad in result.bad], result.committed, result.samples) == (["b.parquet"], False, 40)
    put_parquet(source, "a.parquet", 10, 10)
    result = ingest(lake, source, "events", options=IngestOptions(key="id"))
    assert (result.committed, result.samples, result.dropped) == (True, 30, 10)
    assert sorted(rows(lake.dataset("events"))) == sorted(f"row-{i}" for i in range(10, 40))
