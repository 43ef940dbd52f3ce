"""Adopting in place: what a source names, what becomes of it, again and again, and what a user is told."""

import gzip
import io
import json
import os
import re
import tarfile
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from typer import Typer
from typer.testing import CliRunner

from dataplane import Lake, journal
from dataplane.adopt import AdoptOptions, adopt
from dataplane.adopt.command import adopt as command
from dataplane.adopt.pattern import expand, parse
from dataplane.adopt.source import find
from dataplane.errors import BadSources, CommitConflict, InvalidArgument, NotFound, SourceChanged
from dataplane.ingest.badlist import from_commit
from dataplane.store import open_store
from dataplane.store.obs import ObstoreStore
from dataplane.upkeep import expire, gc, rm
from dataplane.versions import split


def tar_of(samples, form="w"):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=form) as archive:
        for key, fields in samples.items():
            for name, data in fields.items():
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def samples(first, count):
    return {f"{n:05d}": {"cls": b"%d" % (n % 3), "jpg": b"\xff\xd8 picture %d" % n} for n in range(first, first + count)}


def read(lake, spec):
    dataset = lake.dataset(spec)
    return {sample.key: dict(sample.fields) for split in dataset.splits for sample in dataset[split]}


@pytest.fixture
def tars(tmp_path):
    """A folder with three tars of ten samples each."""
    folder = tmp_path / "tars"
    folder.mkdir()
    for n in range(3):
        (folder / f"x-{n:03d}.tar").write_bytes(tar_of(samples(10 * n, 10)))
    return folder


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


# ------------------------------------------------------------------ patterns


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("x-{008..010}.tar", ["x-008.tar", "x-009.tar", "x-010.tar"]),
        ("{8..10}", ["8", "9", "10"]),
        ("{10..8}", ["10", "9", "8"]),
        ("{0..10..5}", ["0", "5", "10"]),
        ("{a..c}{1,2}", ["a1", "a2", "b1", "b2", "c1", "c2"]),
        ("{a,b{1..2}}/c", ["a/c", "b1/c", "b2/c"]),
        ("{x}{}{", ["{x}{}{"]),
        ("{x{1..2}}", ["{x1}", "{x2}"]),
        ("{,a}b", ["b", "ab"]),
    ],
)
def test_braces(text, names):
    assert expand(text) == names


@pytest.mark.parametrize("text", ["{0..9999999}", "{1..2..0}"])
def test_braces_that_name_too_much(text):
    with pytest.raises(InvalidArgument):
        expand(text)


@pytest.mark.parametrize(
    ("pattern", "folder", "yes", "no"),
    [
        ("s3://b/p/x-*.tar", "s3://b/p", ["x-.tar", "x-12.tar"], ["y/x-1.tar", "x-1.tar.gz"]),
        ("/d/**/x?.tar", "/d", ["x1.tar", "a/x1.tar", "a/b/x1.tar"], ["x12.tar", "ax1.tar"]),
        ("d/[a-c]/*", "d", ["a/x", "c/.y"], ["d/x", "a/x/y"]),
        ("*[!0-9].tar", "", ["a.tar"], ["a1.tar"]),
        ("a**", "", ["a/b/c", "abc"], ["b"]),
    ],
)
def test_wildcards(pattern, folder, yes, no):
    parsed = parse(pattern)
    assert parsed.folder == folder
    assert [text for text in (*yes, *no) if parsed.regex.match(text)] == yes


# ------------------------------------------------------------------ what a source names


def put(url, *paths):
    store = open_store(url)
    for path in paths:
        store.put(path, path.encode())


@pytest.fixture(params=["folder", "memory", "fsspec"])
def place(request, tmp_path):
    """The URL of a place with some objects."""
    url = {"folder": str(tmp_path / "s"), "memory": f"memory://{uuid.uuid4().hex}", "fsspec": f"file+fsspec://{tmp_path}/s"}[request.param]
    put(
        str(tmp_path / "s") if request.param == "fsspec" else url,
        "a/x-0.tar",
        "a/x-1.tar",
        "a/b/x-2.tar",
        "a/_SUCCESS",
        "c.tar",
        ".git/x.tar",
    )
    return url


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("", ["a/b/x-2.tar", "a/x-0.tar", "a/x-1.tar", "c.tar"]),
        ("/a", ["a/b/x-2.tar", "a/x-0.tar", "a/x-1.tar"]),
        ("/a/x-1.tar", ["a/x-1.tar"]),
        ("/a/x-{1..0}.tar", ["a/x-1.tar", "a/x-0.tar"]),
        ("/a/*.tar", ["a/x-0.tar", "a/x-1.tar"]),
        ("/**/x-?.tar", ["a/b/x-2.tar", "a/x-0.tar", "a/x-1.tar"]),
        ("/{c,a/x-1}.tar", ["c.tar", "a/x-1.tar"]),
    ],
)
def test_find(place, pattern, paths):
    found = find(place + pattern, apart="nowhere://").found
    assert [item.url for item in found] == [f"{place}/{path}" for path in paths]
    assert all(item.size == len(path) and item.etag for item, path in zip(found, paths, strict=True))


def test_what_is_named_and_missing(place):
    listing = find(f"{place}/a/x-{{0..2}}.tar", apart="nowhere://")
    assert [bad.source for bad in listing.bad] == [f"{place}/a/x-2.tar"]
    assert [bad.source for bad in find(f"{place}/a/x-{{0..9}}.tar", apart="nowhere://").bad] == [
        f"{place}/a/x-{n}.tar" for n in range(2, 10)
    ]
    for pattern in ("/nothing", "/nothing/*.tar", "/a/y-*"):
        with pytest.raises(NotFound):
            find(place + pattern, apart="nowhere://")


def test_a_fifo_is_no_file_and_the_lake_no_source(tmp_path, tars):
    os.mkfifo(tars / "pipe.tar")
    (tars / "lake").mkdir()
    (tars / "lake" / "y.tar").write_bytes(b"x")
    listing = find(str(tars), apart=str(tars / "lake"))
    assert len(listing.found) == 3
    assert [bad.source for bad in listing.bad] == [str(tars / "pipe.tar")]


def test_a_name_with_wildcards_that_is_there_is_meant(tmp_path):
    (tmp_path / "x{1..2}[a].tar").write_bytes(b"x")
    assert len(find(str(tmp_path / "x{1..2}[a].tar"), apart="nowhere://").found) == 1


# ------------------------------------------------------------------ tars


def test_nothing_is_copied_and_all_is_there(lake, tars):
    result = adopt(lake, tars, "x", options=AdoptOptions(label_from_field="cls"))
    assert (result.samples, result.shards, result.added, result.bad, result.committed) == (30, 3, 3, (), True)
    assert read(lake, "x") == samples(0, 30)
    assert not [meta for chunk in lake.store.list("objects") for meta in chunk if meta["path"].endswith(".tar")]
    table = lake.dataset("x").metadata()
    assert table.column("label").to_pylist() == [str(n % 3) for n in range(30)]
    assert set(table.column("source").to_pylist()) == {str(tars / f"x-{n:03d}.tar") for n in range(3)}
    assert lake.dataset("x").schema.to_json()["fields"] == {"cls": {"kind": "class"}, "jpg": {"kind": "image"}}
    assert lake.dataset("x")["train"].key("00017").fields["jpg"] == b"\xff\xd8 picture 17"


def test_once_more_changes_nothing_and_then_what_is_new_or_has_changed(lake, tars):
    adopt(lake, tars, "x")
    again = adopt(lake, tars, "x")
    assert (again.version, again.committed, again.kept, again.bytes_read) == (1, False, 3, 0)
    (tars / "x-003.tar").write_bytes(tar_of(samples(30, 10)))
    (tars / "x-001.tar").write_bytes(tar_of(samples(100, 7)))
    with pytest.raises(SourceChanged, match=r"x-001\.tar.*adopt it again"):
        read(lake, "x@1")
    result = adopt(lake, tars, "x")
    assert (result.version, result.added, result.replaced, result.kept, result.samples) == (2, 1, 1, 2, 37)
    assert "1 objects were adopted before and have changed" in result.notes[0]
    assert read(lake, "x@2") == {**samples(0, 10), **samples(20, 20), **samples(100, 7)}
    assert adopt(lake, tars, "x").committed is False


def test_other_options_look_again(lake, tars):
    adopt(lake, tars, "x")
    result = adopt(lake, tars, "x", options=AdoptOptions(label_from_field="cls"))
    assert (result.committed, result.replaced, result.samples) == (True, 3, 30)
    assert lake.dataset("x").metadata(["label"]).column("label").null_count == 0
    assert adopt(lake, tars, "x", options=AdoptOptions(label_from_field="cls")).committed is False


def test_splits(lake, tars):
    adopt(lake, str(tars / "x-{000..001}.tar"), "x", options=AdoptOptions(split="fit"))
    adopt(lake, str(tars / "x-002.tar"), "x", options=AdoptOptions(split="test"))
    assert {name: count.samples for name, count in lake.dataset("x").version.splits.items()} == {"fit": 20, "test": 10}
    result = adopt(lake, tars, "y", options=AdoptOptions(split_from=r"x-00([01])"))
    assert {name: count.samples for name, count in result.splits.items()} == {"0": 10, "1": 10}
    assert [bad.source for bad in result.bad] == [str(tars / "x-002.tar")]


def test_one_key_in_two_shards(lake, tars):
    (tars / "x-009.tar").write_bytes(tar_of({**samples(5, 2), **samples(90, 2)}))
    result = adopt(lake, tars, "x")
    assert result.samples == 32
    assert read(lake, "x") == {**samples(0, 30), **samples(90, 2)}
    assert [bad.source for bad in result.bad] == [f"{tars / 'x-009.tar'}: 0000{n}" for n in (5, 6)]
    assert "--prefix" in result.notes[0]
    result = adopt(lake, tars, "y", options=AdoptOptions(prefix=True))
    assert (result.samples, result.bad) == (34, ())
    assert f"{tars / 'x-009.tar'}/00005" in read(lake, "y")


def test_verify_records_checksums_and_damage_is_found_then(lake, tars):
    result = adopt(lake, tars, "x", options=AdoptOptions(verify=True))
    assert result.bytes_read >= sum(file.stat().st_size for file in tars.iterdir())
    assert read(lake, "x") == samples(0, 30)
    index = lake.dataset("x")["train"].shards[0].index
    assert min(index.field("jpg").crc32c) >= 0
    assert re.fullmatch("[0-9a-f]{64}", json.loads(index.sections["adopt"])["blake3"])


def test_bad_objects_are_listed_and_the_rest_goes_in(lake, tars):
    whole = tar_of(samples(50, 10))
    (tars / "cut.tar").write_bytes(whole[: len(whole) // 4])
    (tars / "empty.tar").write_bytes(b"")
    (tars / "text.tar").write_bytes(b"no tar at all " * 100)
    (tars / "none.tar").write_bytes(bytes(10240))
    with pytest.raises(BadSources) as caught:
        adopt(lake, tars, "x", options=AdoptOptions(strict=True))
    assert lake.datasets() == []
    result = adopt(lake, tars, "x")
    assert result.bad == caught.value.bad
    reasons = {os.path.basename(bad.source.split(": ")[0]): bad.reason for bad in result.bad if ": " not in bad.source}
    assert sorted(reasons) == ["cut.tar", "empty.tar", "none.tar", "text.tar"]
    assert "truncated" in reasons["cut.tar"]
    assert 30 < result.samples < 40
    assert set(from_commit(lake.objects, lake.dataset("x").version.bad)) == {bad.source for bad in result.bad}
    again = adopt(lake, tars, "x")
    assert (again.committed, again.bytes_read) == (False, 0)
    assert again.bad == result.bad
    (tars / "text.tar").unlink()
    assert {bad.source for bad in adopt(lake, tars, "x").bad} == {bad.source for bad in result.bad} - {str(tars / "text.tar")}
    with pytest.raises(BadSources, match="nothing in"):
        adopt(lake, tars / "empty.tar", "y")


def test_compressed(lake, tmp_path):
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "a.tar.gz").write_bytes(gzip.compress(tar_of(samples(0, 10))))
    (folder / "b.wrongly").write_bytes(tar_of(samples(10, 10), "w:bz2"))
    (folder / "c.tar.zst").write_bytes(pa.compress(tar_of(samples(20, 10)), "zstd", asbytes=True))
    (folder / "d.tar.xz").write_bytes(tar_of(samples(30, 10), "w:xz"))
    result = adopt(lake, folder, "x", options=AdoptOptions(verify=True))
    assert "compressed (bz2, gzip, zstd)" in result.notes[0]
    assert [bad.reason for bad in result.bad] == ["an xz archive; decompress it first"]
    assert read(lake, "x") == samples(0, 30)
    train = lake.dataset("x")["train"]
    assert [train[i].key for i in (25, 3, 24, 3)] == ["00025", "00003", "00024", "00003"]


def test_a_gone_or_changed_object_is_named(lake, tars):
    adopt(lake, tars, "x")
    (tars / "x-000.tar").unlink()
    with pytest.raises(NotFound, match=r"x-000\.tar"):
        _ = lake.dataset("x")["train"][0]


def test_what_a_split_has_spread_is_kept_and_replaced_whole(lake, tars):
    adopt(lake, tars, "x")
    splits = split(lake, "x", "train=0.5,val=0.5").splits
    again = adopt(lake, tars, "x")  # nobody asked for other splits
    assert (again.committed, again.kept, again.bytes_read, again.splits) == (False, 3, 0, splits)
    (tars / "x-001.tar").write_bytes(tar_of(samples(100, 7)))
    result = adopt(lake, tars, "x")
    assert (result.replaced, result.samples, result.bad) == (1, 27, ())
    assert read(lake, "x") == {**samples(0, 10), **samples(20, 10), **samples(100, 7)}


def test_an_expire_asks_for_no_second_look(lake, tars):
    adopt(lake, tars / "x-000.tar", "x")
    (tars / "bad.tar").write_bytes(b"no tar at all " * 100)
    first = adopt(lake, tars, "x")
    expire(lake, "x", keep_last=1)
    again = adopt(lake, tars, "x")
    assert (again.committed, again.bytes_read, again.bad) == (False, 0, first.bad)


def test_what_has_become_something_else_goes(lake, tars):
    adopt(lake, tars, "x")
    (tars / "x-001.tar").write_bytes(b"no tar at all " * 100)
    (tars / "x-002.tar").write_bytes(b"")
    result = adopt(lake, tars, "x")
    assert (result.committed, len(result.bad)) == (True, 2)
    assert read(lake, "x") == samples(0, 10)


def test_a_dataset_that_is_removed_meanwhile_does_not_come_back(lake, tars, monkeypatch):
    adopt(lake, tars, "x")
    (tars / "x-003.tar").write_bytes(tar_of(samples(30, 10)))

    def watch(progress):
        if progress.stage == "committing":
            rm(lake, "x")

    with pytest.raises(CommitConflict, match="3 objects that x had"):
        adopt(lake, tars, "x", watch=watch)
    assert lake.datasets() == []
    assert adopt(lake, tars, "x").samples == 40


def test_a_long_scan_keeps_a_journal_that_gc_honours(lake, tars, monkeypatch):
    monkeypatch.setattr("dataplane.adopt.run._TOLD_SECONDS", 0.0)
    kept = []

    def watch(progress):
        if progress.stage == "committing":
            kept.append(gc(lake, grace_seconds=0).objects)
            assert len(journal.writers(lake.store)) == 1

    adopt(lake, tars, "x", options=AdoptOptions(workers=1), watch=watch)
    assert kept == [0]
    assert read(lake, "x") == samples(0, 30)
    assert [meta for chunk in lake.store.list("writers") for meta in chunk] == []


def test_many_patterns_of_one_folder_are_one_listing():
    source = f"memory://{uuid.uuid4().hex}"
    store = open_store(source)
    for n in range(4):
        store.put(f"d/x-{n}.tar", b"x")
    calls = []
    real = ObstoreStore.list

    def listed(self, *arguments, **options):
        calls.append(arguments)
        return real(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ObstoreStore, "list", listed)
        found = find(f"{source}/d/*{{3,1,0}}.tar", apart="/nowhere").found
    assert [each.name for each in found] == ["x-3.tar", "x-1.tar", "x-0.tar"]
    assert len(calls) == 1


def test_in_memory():
    source, lake = f"memory://{uuid.uuid4().hex}", Lake.init(f"memory://{uuid.uuid4().hex}")
    store = open_store(source)
    for n in range(3):
        store.put(f"deep/er/x-{n}.tar", tar_of(samples(10 * n, 10)))
    result = adopt(lake, f"{source}/deep/**/x-{{0..2}}.tar", "x")
    assert (result.samples, result.bad) == (30, ())
    assert read(lake, "x") == samples(0, 30)
    store.put("deep/er/x-1.tar", tar_of(samples(50, 10)))
    with pytest.raises(SourceChanged, match=r"x-1\.tar"):
        read(lake, "x")


# ------------------------------------------------------------------ Parquet and Zarr


def test_parquet(lake, tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    for n in range(2):
        rows = range(5 * n, 5 * n + 5)
        table = pa.table({"id": [f"k{i}" for i in rows], "text": [f"text {i}" for i in rows], "n": list(rows)})
        pq.write_table(table, folder / f"part-{n}.parquet")
    (folder / "broken.parquet").write_bytes(b"PAR1" + bytes(100))
    result = adopt(lake, folder, "t", options=AdoptOptions(key="id", columns=("n",), label_from_field="text"))
    assert (result.samples, [os.path.basename(bad.source) for bad in result.bad]) == (10, ["broken.parquet"])
    got = read(lake, "t")
    assert sorted(got) == sorted(f"k{i}" for i in range(10))
    assert got["k7"]["text"] == "text 7"
    table = lake.dataset("t").metadata(["key", "n", "label"])
    assert table.to_pylist()[7] == {"key": "k7", "n": 7, "label": "text 7"}
    result = adopt(lake, str(folder / "part-*.parquet"), "u", options=AdoptOptions(verify=True))
    assert (result.samples, result.bad) == (10, ())
    assert "part-1.parquet#4" in read(lake, "u")


@pytest.mark.parametrize("version", [2, 3])
def test_zarr(lake, tmp_path, version):
    data = np.arange(5 * 4 * 4, dtype=np.float32).reshape(5, 4, 4)
    group = zarr.open_group(tmp_path / "volumes.zarr", mode="w", zarr_format=version)
    group.create_array("volume", data=data, chunks=(1, 4, 4))
    result = adopt(lake, str(tmp_path / "volumes.zarr"), "v")
    assert (result.samples, result.shards, result.bad) == (5, 1, ())
    assert np.array_equal(lake.dataset("v")["train"][3].fields["volume"], data[3])
    assert adopt(lake, str(tmp_path / "*.zarr"), "v").committed is False


def test_mixed_formats_are_refused_unless_one_is_named(lake, tars):
    pq.write_table(pa.table({"n": [1, 2]}), tars / "t.parquet")
    with pytest.raises(InvalidArgument, match=r"(?s)mixes formats: parquet.*t\.parquet.*tar.*--format"):
        adopt(lake, tars, "x")
    result = adopt(lake, tars, "x", options=AdoptOptions(format="tar"))
    assert (result.samples, result.ignored, result.bad) == (30, 1, ())


# ------------------------------------------------------------------ the command


def run(*words):
    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command(tmp_path, tars, fresh_environment):
    done = run(tars, "x", "--lake", tmp_path / "lake", "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert {name: told[name] for name in ("name", "version", "samples", "shards", "bad", "notes")} == {
        "name": "x",
        "version": 1,
        "samples": 30,
        "shards": 3,
        "bad": [],
        "notes": [],
    }
    assert told["bytes_read"] > 0
    (tars / "empty.tar").write_bytes(b"")
    done = run(tars, "x", "--lake", tmp_path / "lake")
    assert done.exit_code == 3
    assert "Nothing to do" in done.stdout
    assert "an empty file" in done.stdout
    assert run(tars, "y", "--lake", tmp_path / "lake", "--strict").exit_code == 1
    done = run(tars, "y", "--lake", tmp_path / "lake", "--strict", "--json")
    assert json.loads(done.stdout)["error"]["kind"] == "bad-sources"
