"""Tables as they come: what cannot be a sample is listed, by file, and the others go in."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataplane import Lake
from dataplane.ingest import IngestOptions, ingest
from dataplane.ingest.source import Entry
from dataplane.ingest.tables import plan_tables
from dataplane.journal import Journal
from dataplane.upkeep.verify import verify_lake


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


def not_utf8(data):
    return pa.Array.from_buffers(pa.string(), 1, pa.array([data]).buffers())


def values(lake, split="train"):
    return {sample.key: dict(sample.fields) for sample in lake.dataset("x")[split]}


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ("k,n\n,1\nb,2\n", "its column 'k', which is the key, is empty in 1 rows"),
        ("k,n,n\na,1,2\n", "columns are named 'n'"),
        ("k,n,\na,1,2\n", "a column is named ''"),
        ("k,n,a/b\na,1,2\n", "a column is named 'a/b'"),
        (f"k,n\na,{2**60 + 1}\n", "its column 'n' does not go into one of double"),
        (pa.table({"k": ["a"], "n": [1], "__key__": ["a"]}), "it has a column '__key__', which can only be the key"),
        (pa.table({"k": not_utf8(b"\xff\xfe"), "n": [1]}), "cannot be read as parquet: .*UTF8"),
        (pa.table({"k": pa.array([b"a"]), "n": [1]}), "its column 'k' of binary cannot give keys"),
    ],
)
def test_one_odd_file_keeps_no_other_out(source, lake, odd, message):
    name = f"z.{'csv' if isinstance(odd, str) else 'parquet'}"
    if isinstance(odd, str):
        (source / name).write_text(odd)
    else:
        pq.write_table(odd, source / name)
    (source / "a.csv").write_text("k,n\nx,1.5\ny,2.5\n")
    result = ingest(lake, source, "x", options=IngestOptions(key="k"))
    assert [bad.source for bad in result.bad] == [name]
    assert message.split(":")[0] in result.bad[0].reason, result.bad
    assert values(lake) == {"x": {"k": "x", "n": 1.5}, "y": {"k": "y", "n": 2.5}}
    assert verify_lake(lake).problems == []


@pytest.mark.parametrize("shard_bytes", [1, 1 << 20])
def test_texts_are_texts_however_a_file_holds_them(source, lake, shard_bytes):
    pq.write_table(pa.table({"t": pa.array(["a", "b", "a"]).dictionary_encode()}), source / "a.parquet")
    pq.write_table(pa.table({"t": pa.array(["c"], pa.large_string())}), source / "b.parquet")
    pq.write_table(pa.table({"t": pa.array(["d"], pa.string_view())}), source / "c.parquet")
    pq.write_table(pa.table({"t": ["e"]}), source / "d.parquet")
    result = ingest(lake, source, "x", options=IngestOptions(shard_bytes=shard_bytes))
    assert result.bad == ()
    assert sorted(fields["t"] for fields in values(lake).values()) == ["a", "a", "b", "c", "d", "e"]
    assert [str(field) for field in lake.dataset("x").schema.fields] == ["value string"]
    assert "t" in lake.dataset("x").metadata().column_names


def test_a_shard_of_ours_keeps_its_keys(source, lake):
    pq.write_table(pa.table({"__key__": ["q", "r"], "n": [1, 2]}), source / "a.parquet")
    ingest(lake, source, "x")
    assert values(lake) == {"q": {"n": 1}, "r": {"n": 2}}
    assert ingest(lake, source, "x").committed is False


class Killed(BaseException):
    pass


def kill_after(monkeypatch, count):
    """Let an ingest be killed once it has journalled so many shards; what journals do at their end is not done."""
    add, added = Journal.add, []

    def once(self, finished):
        add(self, finished)
        added.append(finished)
        if len(added) == count:
            raise Killed

    monkeypatch.setattr(Journal, "add", once)


def killed(lake, source, monkeypatch, count, **options):
    with monkeypatch.context() as patch:
        kill_after(patch, count)
        with pytest.raises(Killed):
            ingest(lake, source, "x", options=IngestOptions(workers=1, **options))


def test_a_run_of_other_settings_is_not_taken_over(source, lake, monkeypatch):
    (source / "a.csv").write_text("one,two\na,c\nb,d\n")
    killed(lake, source, monkeypatch, 1, key="one")
    result = ingest(lake, source, "x", options=IngestOptions(key="two", label_from="column:one", workers=1))
    assert (result.resumed, sorted(values(lake))) == (0, ["c", "d"])
    assert lake.dataset("x").metadata(["label"]).column("label").to_pylist() != [None, None]


def test_other_labels_are_not_taken_over_and_change_samples(source, lake, tmp_path, monkeypatch):
    (source / "a.csv").write_text("n\n1\n")
    (source / "b.csv").write_text("n\n2\n")
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\na.csv,one\nb.csv,two\n")
    options = {"label_from": f"csv:{labels}", "shard_bytes": 1}
    killed(lake, source, monkeypatch, 1, **options)
    labels.write_text("path,label\na.csv,three\nb.csv,two\n")
    result = ingest(lake, source, "x", options=IngestOptions(**options))
    assert (result.notes, dict(by_key(lake))) == ((), {"a.csv#0": "three", "b.csv#0": "two"})
    labels.write_text("path,label\na.csv,three\nb.csv,four\n")
    result = ingest(lake, source, "x", options=IngestOptions(**options))
    assert (result.notes, result.replaced, dict(by_key(lake))) == ((), 1, {"a.csv#0": "three", "b.csv#0": "four"})


def by_key(lake):
    table = lake.dataset("x").metadata(["key", "label"])
    return zip(*(table.column(name).to_pylist() for name in ("key", "label")), strict=True)


def test_two_runs_that_were_killed_at_one_place_are_not_taken_for_a_whole_one(source, lake, monkeypatch):
    (source / "a.csv").write_text("n\n" + "".join(f"{i}\n" for i in range(100)))
    options = {"split": "train=0.5,test=0.5"}
    for _ in range(2):
        killed(lake, source, monkeypatch, 1, **options)
    result = ingest(lake, source, "x", options=IngestOptions(workers=1, **options))
    assert (result.samples, result.resumed) == (100, 0)
    assert sorted(fields["n"] for split in ("train", "test") for fields in values(lake, split).values()) == list(range(100))


def test_a_run_that_was_killed_behind_a_task_is_taken_over(source, lake, monkeypatch):
    (source / "a.csv").write_text("n\n" + "".join(f"{i}\n" for i in range(100)))
    killed(lake, source, monkeypatch, 2, split="train=0.5,test=0.5")
    result = ingest(lake, source, "x", options=IngestOptions(workers=1, split="train=0.5,test=0.5"))
    assert (result.samples, result.resumed) == (100, 100)


def test_nothing_goes_from_a_folder_that_cannot_be_read():
    columns = {"key": ["a#0", "b/c#0", "d#0"], "source": ["a", "b/c", "d"], "source_etag": ["1", "2", "3"], "label": [None] * 3}
    present = pa.table({**columns, "source_blake3": [b"x"] * 3}).cast(
        pa.schema([*((name, pa.string()) for name in columns), ("source_blake3", pa.binary())])
    )
    plan = plan_tables([Entry("a", "a", 1, "1")], present, sync=True, same_settings=True, unread=["b"])
    assert (plan.todo, plan.kept, sorted(plan.drop)) == ((), 1, ["d#0"])


def test_a_key_of_an_unchanged_file_stays_its(source, lake):
    options = IngestOptions(key="k")
    (source / "a.csv").write_text("k,n\nx,1\ny,2\n")
    ingest(lake, source, "x", options=options)
    (source / "b.csv").write_text("k,n\ny,3\nz,4\n")
    result = ingest(lake, source, "x", options=options)
    assert [(bad.source, bad.reason[:18]) for bad in result.bad] == [("b.csv", "1 of its rows have")]
    assert {key: fields["n"] for key, fields in values(lake).items()} == {"x": 1, "y": 2, "z": 4}
    assert (result.added, result.replaced) == (1, 0)
    (source / "a.csv").write_text("k,n\nx,1\n")
    (source / "b.csv").write_text("k,n\ny,3\nz,5\n")
    ingest(lake, source, "x", options=options)
    assert {key: fields["n"] for key, fields in values(lake).items()} == {"x": 1, "y": 3, "z": 5}
    assert verify_lake(lake).problems == []


def test_a_file_that_is_read_as_another_kind_gives_other_samples(source, lake):
    (source / "a.csv").write_text("n\n1\n2\n")
    ingest(lake, source, "x")
    result = ingest(lake, source, "x", options=IngestOptions(kind="text"))
    assert values(lake) == {f"a.csv#{i}": {"text": text} for i, text in enumerate(("n", "1", "2"))}
    assert (result.added, result.replaced, result.dropped) == (1, 2, 0)
    assert ingest(lake, source, "x", options=IngestOptions(kind="text")).committed is False
    ingest(lake, source, "x")
    assert values(lake) == {f"a.csv#{i}": {"n": i + 1} for i in range(2)}
