"""Ingest from a folder to a version: good pictures go in once, bad ones are listed, and a second run changes nothing."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import re
import socket
import struct
import subprocess
import uuid
import zlib
from pathlib import Path

import pytest
import typer
from blake3 import blake3
from rich.console import Console
from typer.testing import CliRunner

from dataplane import Lake
from dataplane.errors import BadSources, CommitConflict, DataplaneError, InvalidArgument, NotFound, StorageFull
from dataplane.ingest import IngestOptions, ingest
from dataplane.ingest.command import ingest as command
from dataplane.journal import leftovers
from dataplane.store import open_store
from dataplane.upkeep import rm, verify_lake
from tests.folders import all_shown, encode, jpeg, nobody, noise, shown, write_folder

FOLDER = IngestOptions(label_from="folder")


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    return root


@pytest.fixture
def lake(tmp_path):
    return Lake.init(str(tmp_path / "lake"))


def samples(lake, name):
    """Every sample of the newest version, by key: what its picture shows, its class id and its split."""
    dataset = lake.dataset(name)
    found = {}
    for split in dataset.splits:
        for sample in dataset[split]:
            fields = dict(sample.fields)
            number = fields.pop("cls", None)
            (picture,) = fields.values()
            assert sample.key not in found
            found[sample.key] = (shown(picture), number and int(number), split)
    return found


def pictures(lake, name):
    return {key: picture for key, (picture, _, _) in samples(lake, name).items()}


def check_lake(lake):
    report = verify_lake(lake)
    assert report.problems == []


def no_journal_is_left(lake):
    return not [meta for chunk in lake.store.list("writers") for meta in chunk]


def test_a_folder_becomes_a_version(source, tmp_path):
    made = write_folder(source, 30)
    result = ingest(str(tmp_path / "lake"), source, "pets", options=IngestOptions(label_from="folder", split="train=0.7,test=0.3"))
    assert (result.version, result.committed, result.lake_made, result.bad) == (1, True, True, ())
    assert (result.samples, result.added, result.kept) == (30, 30, 0)
    lake = Lake(str(tmp_path / "lake"))
    found = samples(lake, "pets")
    assert pictures(lake, "pets") == all_shown(made)
    dataset = lake.dataset("pets")
    assert {dataset.schema.classes[number]: key.split("/")[0] for key, (_, number, _) in found.items()} == {"cat": "cat", "dog": "dog"}
    assert {name: count.samples for name, count in result.splits.items()} == {name: len(dataset[name]) for name in dataset.splits}
    assert result.bytes == result.pictures.bytes_after + 30
    assert (result.pictures.indexed, result.pictures.left) == (30, {})
    table = dataset.metadata().to_pylist()
    assert {(row["key"], row["split"]) for row in table} == {(key, split) for key, (_, _, split) in found.items()}
    assert all((row["width"], row["height"], row["label"]) == (24, 20, row["key"].split("/")[0]) for row in table)
    assert all(row["source"] == f"{row['key']}.jpg" for row in table)
    assert all(row["source_blake3"] == blake3(made[row["key"]]).digest() for row in table)
    stored = {sample.key: len(sample.fields["jpg"]) for split in dataset.splits for sample in dataset[split]}
    assert all(row["bytes"] == stored[row["key"]] + 1 for row in table)
    assert dataset.version.lineage["parameters"]["source"] == str(source)
    check_lake(lake)
    assert no_journal_is_left(lake)


def test_a_second_run_reads_nothing_and_changes_nothing(source, lake, monkeypatch):
    write_folder(source, 20)
    (source / "cat" / "empty.jpg").touch()
    first = ingest(lake, source, "pets", options=FOLDER)
    before = sorted(Path(lake.url).rglob("*"))
    for path in source.rglob("*.jpg"):  # its bytes are other ones now, but nothing tells: they are not read
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = ingest(lake, source, "pets", options=FOLDER)
    assert (again.committed, again.version, again.kept, again.added) == (False, 1, 20, 0)
    assert again.bad == first.bad
    assert [bad.source for bad in again.bad] == ["cat/empty.jpg"]
    assert sorted(Path(lake.url).rglob("*")) == before


def test_equal_input_gives_equal_shards_however_many_processes_and_threads(source, tmp_path):
    write_folder(source, 40)
    for number, (form, suffix) in enumerate((("PNG", "png"), ("TIFF", "tif"), ("WEBP", "webp"))):  # whose decoders are not thread-safe
        for i in range(6):
            (source / f"cat/{form}{i}.{suffix}").write_bytes(encode(noise(100 + 10 * number + i), form))
    shards = []
    for workers, check in ((1, "decode"), (3, "decode"), (1, "structure"), (3, "structure")):
        lake = Lake.init(str(tmp_path / f"lake{workers}{check}"))
        options = IngestOptions(label_from="folder", shard_bytes=9000, workers=workers, check=check)
        result = ingest(lake, source, "pets", options=options)
        assert (result.samples, result.bad) == (58, ())
        parts = lake.dataset("pets").parts
        shards.append([row.ref for _, rows in parts for row in rows])
    assert shards[0] == shards[1] == shards[2] == shards[3]
    assert len(shards[0]) > 5


def test_order_source(source, lake):
    made = write_folder(source, 12)
    ingest(lake, source, "pets", options=IngestOptions(order="source"))
    assert [sample.key for sample in lake.dataset("pets")["train"]] == sorted(made)


BAD = {
    "cat/empty.jpg": "an empty file",
    "cat/text.jpg": "not an image (JPEG, PNG, WebP, BMP, TIFF and GIF are)",
    "cat/truncated.jpg": "truncated: premature end of data segment",
    "docs/readme.md": "not an image (JPEG, PNG, WebP, BMP, TIFF and GIF are)",
    "dog/bomb.png": "too large: 30,000 × 30,000 pixels are 900,000,000; 178,956,970 are allowed",
    "dog/pair.png": "two files with one key: dog/pair.jpg has it",
    "dog/nothing.jpg": "a symbolic link to nothing",
    "dog/pipe.jpg": "a FIFO, not a file",
    "dog/socket.jpg": "a socket, not a file",
    "dog/up": "a symbolic link back to a folder that holds it: a loop",
    "top.jpg": "no folder to take the label from",
}


def bomb(side):
    """A true PNG of side × side black pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + side // 8) * side), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def write_bad_and_good(root):
    """Every kind of bad input, and every kind of odd but good one. The bytes of the good ones by key."""
    from PIL import Image

    for folder in ("cat", "dog", "docs"):
        (root / folder).mkdir(parents=True)
    large = encode(noise(1, (100, 100)))
    (root / "cat" / "empty.jpg").touch()
    (root / "cat" / "text.jpg").write_text("hello")
    (root / "cat" / "truncated.jpg").write_bytes(large[: len(large) // 2] + b"\xff\xd9")
    (root / "docs" / "readme.md").write_text("hello")
    (root / "dog" / "bomb.png").write_bytes(bomb(30_000))
    (root / "dog" / "pair.png").write_bytes(encode(noise(2), "PNG"))
    (root / "dog" / "nothing.jpg").symlink_to("gone.jpg")
    os.mkfifo(root / "dog" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "dog" / "socket.jpg"))
    (root / "dog" / "up").symlink_to("..")
    (root / "top.jpg").write_bytes(jpeg(3))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = noise(4, (60, 40))
    good = {
        "dog/pair.jpg": jpeg(5),
        "cat/really a png.jpg": encode(noise(6), "PNG"),
        "cat/cmyk.jpg": encode(picture.convert("CMYK")),
        "cat/16 bit.png": encode(picture.convert("L").convert("I").convert("I;16"), "PNG"),
        "cat/palette.png": encode(picture.convert("P"), "PNG", transparency=3),
        "cat/turned.jpg": encode(picture, exif=exif),
        "cat/turned.tif": encode(picture, "TIFF", tiffinfo={274: 6}),
        "cat/one.webp": encode(picture, "WEBP"),
        "cat/one.two.bmp": encode(picture, "BMP"),
        "cat/moving.gif": encode(picture.convert("P"), "GIF", save_all=True, append_images=[picture.rotate(180).convert("P")]),
        "dog/with space.jpg": jpeg(7),
        "dog/new\nline.jpg": jpeg(8),
    }
    for name, data in {**good, "cat/turned.tif": good["cat/turned.tif"]}.items():
        (root / name).write_bytes(data)
    (root / "cat" / "turned.tif").rename(root / "cat" / "turned too.tif")
    good["cat/turned too.tif"] = good.pop("cat/turned.tif")
    with open(os.fsencode(root / "dog") + b"/b\xff.jpg", "wb") as file:
        file.write(jpeg(9))
    good["dog/b\\xff.jpg"] = jpeg(9)
    return {name.rsplit(".", 1)[0]: data for name, data in good.items()}


def test_every_kind_of_bad_input_is_listed_and_the_rest_goes_in(source, lake):
    good = write_bad_and_good(source)
    result = ingest(lake, source, "pets", options=FOLDER)
    assert {bad.source: bad.reason for bad in result.bad} == BAD
    assert result.renamed == 1
    assert pictures(lake, "pets") == all_shown(good)
    dataset = lake.dataset("pets")
    assert dataset.schema.classes == ("cat", "dog")  # docs has no picture, and no class
    assert {field.name: field.kind for field in dataset.schema.fields} == {
        **dict.fromkeys(("bmp", "gif", "jpg", "png", "tif", "webp"), "image"),
        "cls": "class",
    }
    sizes = {row["key"]: (row["width"], row["height"]) for row in dataset.metadata(["key", "width", "height"]).to_pylist()}
    assert sizes["cat/turned"] == sizes["cat/turned too"] == (40, 60)
    turned = next(sample for sample in dataset["train"] if sample.key == "cat/turned")
    assert (turned.metadata["jpg.width"], turned.metadata["jpg.height"], turned.metadata["jpg.orientation"]) == (60, 40, 6)
    listed = dataset.version.bad
    assert listed["count"] == len(BAD)
    assert {row["source"]: row["reason"] for row in listed["samples"]} == BAD
    check_lake(lake)
    again = ingest(lake, source, "pets", options=FOLDER)
    assert (again.committed, again.bad) == (False, result.bad)


def test_nothing_good_makes_no_version(source, lake):
    (source / "a.jpg").write_text("hello")
    with pytest.raises(BadSources, match="none of the 1 files") as caught:
        ingest(lake, source, "pets")
    assert [bad.source for bad in caught.value.bad] == ["a.jpg"]
    assert lake.datasets() == []


def test_an_empty_folder(source, tmp_path):
    with pytest.raises(NotFound, match="holds no files"):
        ingest(str(tmp_path / "lake"), source, "pets")
    assert not (tmp_path / "lake").exists()


def test_strict_fails_before_committing_and_what_was_finished_is_taken_over(source, lake):
    write_folder(source, 10)
    (source / "cat" / "empty.jpg").touch()
    with pytest.raises(BadSources, match="1 of the files"):
        ingest(lake, source, "pets", options=IngestOptions(label_from="folder", strict=True))
    assert lake.datasets() == []
    assert sum(len(left.finished) for left in leftovers(lake.store, "pets")) == 1
    result = ingest(lake, source, "pets", options=FOLDER)
    assert (result.resumed, result.samples) == (10, 10)
    assert no_journal_is_left(lake)


def test_only_what_changed_is_replaced(source, lake):
    made = write_folder(source, 20)
    ingest(lake, source, "pets", options=IngestOptions(label_from="folder", shard_bytes=8000))
    before = {row.ref for _, rows in lake.dataset("pets").parts for row in rows}
    (source / "cat" / "00000.jpg").write_bytes(jpeg(100))
    (source / "dog" / "00001.jpg").unlink()
    (source / "dog" / "new.jpg").write_bytes(jpeg(101))
    os.utime(source / "cat" / "00002.jpg", ns=(5, 5))
    result = ingest(lake, source, "pets", options=IngestOptions(label_from="folder", shard_bytes=8000))
    assert (result.added, result.replaced, result.dropped, result.kept, result.samples) == (1, 1, 0, 18, 21)
    assert pictures(lake, "pets") == all_shown({**made, "cat/00000": jpeg(100), "dog/new": jpeg(101)})
    after = {row.ref for _, rows in lake.dataset("pets").parts for row in rows}
    assert before < after
    assert pictures(lake, "pets@1") == all_shown(made)
    result = ingest(lake, source, "pets", options=IngestOptions(label_from="folder", sync=True))
    assert (result.dropped, result.added, result.replaced, result.samples) == (1, 0, 0, 20)
    assert "dog/00001" not in pictures(lake, "pets")
    again = ingest(lake, source, "pets", options=IngestOptions(label_from="folder", sync=True))
    assert (again.committed, again.kept) == (False, 20)
    check_lake(lake)


def test_a_shard_that_nothing_is_wanted_of_any_more_is_not_needed(source, lake):
    options = IngestOptions(label_from="folder", shard_bytes=8000, order="source", sync=True)
    write_folder(source, 20)
    ingest(lake, source, "pets", options=options)
    first = lake.dataset("pets").parts[0][1]
    for path in (source / "cat").iterdir():
        path.unlink()
    result = ingest(lake, source, "pets", options=options)
    dataset = lake.dataset("pets")
    ((_, rows),) = dataset.parts
    assert result.dropped == 10
    needed = {ref for ref in rows.refs() if ref.suffix == ".tar"}
    assert 0 < len(needed) < len(first)
    assert needed == {row.ref for row in rows if row.live} == {shard.row.ref for shard in dataset["train"].shards}
    assert set(pictures(lake, "pets")) == {f"dog/{n:05d}" for n in range(1, 20, 2)}
    assert sorted(dataset.metadata(["key"]).column("key").to_pylist()) == sorted(pictures(lake, "pets"))
    for path in (source / "dog").iterdir():
        path.write_bytes(jpeg(int(path.stem) + 1000))
    ingest(lake, source, "pets", options=options)
    assert len(lake.dataset("pets").parts) == 1  # the old part had nothing left
    check_lake(lake)


def test_other_labels_and_splits_make_samples_anew(source, lake):
    write_folder(source, 12)
    ingest(lake, source, "pets", options=FOLDER)
    rows = [f"{path.relative_to(source)},{('even', 'odd')[int(path.stem) % 2]}" for path in source.rglob("*.jpg")]
    (source / "labels.csv").write_text("\n".join(["path,label", *rows]))
    result = ingest(lake, source, "pets", options=IngestOptions(label_from=f"csv:{source}/labels.csv"))
    assert (result.replaced, result.bad, result.notes, result.ignored) == (12, (), (), 1)
    assert lake.dataset("pets").schema.classes == ("cat", "dog", "even", "odd")
    assert {number for _, number, _ in samples(lake, "pets").values()} == {2, 3}
    result = ingest(lake, source, "pets", options=IngestOptions(label_from=f"csv:{source}/labels.csv", split="train=0.5,test=0.5"))
    moved = result.splits["test"].samples
    assert (result.replaced, result.kept) == (moved, 12 - moved)
    assert 0 < moved < 12


def test_a_bad_file_does_not_drop_the_sample_it_was(source, lake):
    made = write_folder(source, 6)
    ingest(lake, source, "pets", options=FOLDER)
    (source / "cat" / "00000.jpg").write_bytes(b"")
    for _ in range(2):
        result = ingest(lake, source, "pets", options=IngestOptions(label_from="folder", sync=True))
        assert ([bad.source for bad in result.bad], result.committed) == (["cat/00000.jpg"], False)
    assert pictures(lake, "pets") == all_shown(made)


def test_sync_does_not_drop_everything_when_the_source_is_empty(source, lake):
    write_folder(source, 4)
    ingest(lake, source, "pets", options=FOLDER)
    for path in source.rglob("*.jpg"):
        path.unlink()
    (source / "gone").symlink_to("nowhere")
    with pytest.raises(NotFound, match="--sync would drop all"):
        ingest(lake, source, "pets", options=IngestOptions(label_from="folder", sync=True))
    assert lake.dataset("pets").version.samples == 4


def test_sync_drops_nothing_from_a_folder_that_cannot_be_read():
    with nobody() as folder:
        made, lake, sync = write_folder(folder / "pictures", 6), str(folder / "lake"), IngestOptions(label_from="folder", sync=True)
        ingest(lake, folder / "pictures", "pets", options=sync)
        (folder / "pictures" / "cat" / "00000.jpg").unlink()
        (folder / "pictures" / "dog").chmod(0)
        result = ingest(lake, folder / "pictures", "pets", options=sync)
        assert (result.dropped, [bad.source for bad in result.bad]) == (1, ["dog"])
        assert pictures(Lake(lake), "pets").keys() == made.keys() - {"cat/00000"}
        (folder / "pictures" / "dog").chmod(0o700)
        (folder / "pictures" / "dog" / "00001.jpg").chmod(0)
        for _ in range(2):  # what the file system refused is tried again
            (folder / "pictures" / "dog" / "00001.jpg").touch()
            result = ingest(lake, folder / "pictures", "pets", options=sync)
            assert [bad.reason for bad in result.bad] == ["it cannot be read: Permission denied"]
        (folder / "pictures" / "dog" / "00001.jpg").chmod(0o600)
        assert ingest(lake, folder / "pictures", "pets", options=sync).bad == ()


def test_a_renamed_file_with_the_same_key_is_the_same_sample(source, lake):
    made = write_folder(source, 4)
    ingest(lake, source, "pets", options=FOLDER)
    (source / "cat" / "00000.jpg").rename(source / "cat" / "00000.jpeg")
    result = ingest(lake, source, "pets", options=IngestOptions(label_from="folder", sync=True))
    assert (result.committed, result.kept) == (False, 4)
    assert pictures(lake, "pets") == all_shown(made)


def test_a_finished_shard_that_was_swept_is_made_again(source, lake):
    made = write_folder(source, 4)
    (source / "cat" / "empty.jpg").touch()
    with pytest.raises(BadSources):
        ingest(lake, source, "pets", options=IngestOptions(label_from="folder", strict=True))
    ((finished,),) = (left.finished for left in leftovers(lake.store, "pets"))
    lake.store.delete(finished.shard.index.path)
    result = ingest(lake, source, "pets", options=FOLDER)
    assert (result.resumed, result.samples) == (0, 4)
    assert pictures(lake, "pets") == all_shown(made)
    check_lake(lake)


def test_another_ingest_s_finished_shards_are_left_alone(source, lake, tmp_path):
    write_folder(source, 4)
    (source / "cat" / "empty.jpg").touch()
    with pytest.raises(BadSources):
        ingest(lake, source, "pets", options=IngestOptions(label_from="folder", strict=True))
    write_folder(tmp_path / "other", 4)
    assert ingest(lake, tmp_path / "other", "pets", options=FOLDER).resumed == 0
    assert len(leftovers(lake.store, "pets")) == 1
    assert ingest(lake, source, "pets", options=IngestOptions(label_from="folder", check="structure")).resumed == 0
    assert len(leftovers(lake.store, "pets")) == 1


def test_changed_settings_look_at_bad_files_again(source, lake):
    write_folder(source, 4)
    (source / "cat" / "wide.jpg").write_bytes(encode(noise(1, (90, 30))))
    result = ingest(lake, source, "pets", options=IngestOptions(label_from="folder", max_pixels=1000))
    assert [bad.source for bad in result.bad] == ["cat/wide.jpg"]
    result = ingest(lake, source, "pets", options=FOLDER)
    assert (result.bad, result.added) == ((), 1)


def test_a_source_that_vanishes_mid_way(source, lake):
    made = write_folder(source, 10)

    def watch(progress):
        if progress.stage == "reading" and not progress.read:
            (source / "cat" / "00004.jpg").unlink()

    result = ingest(lake, source, "pets", options=FOLDER, watch=watch)
    assert [(bad.source, bad.reason) for bad in result.bad] == [("cat/00004.jpg", "it vanished while the ingest was running")]
    del made["cat/00004"]
    assert pictures(lake, "pets") == all_shown(made)
    assert ingest(lake, source, "pets", options=FOLDER).bad == ()


def test_another_ingest_commits_in_between(tmp_path, lake):
    """The other one has a class that ours has not, one file of ours, and another picture under a key of ours."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    made = write_folder(mine, 12, classes=("dog", "cat"))
    write_folder(other, 6, classes=("ant",), first=50)
    (other / "dog").mkdir()
    (other / "dog" / "00000.jpg").write_bytes(made["dog/00000"])
    (other / "dog" / "00002.jpg").write_bytes(jpeg(99))
    seen = []

    def watch(progress):
        seen.append(progress.stage)
        if progress.stage == "committing" and seen.count("committing") == 1:
            assert ingest(lake, other, "pets", options=FOLDER).version == 1

    result = ingest(lake, mine, "pets", options=FOLDER, watch=watch)
    assert seen.count("committing") == 2  # ids 0 and 1 had gone to ant and dog
    assert (result.version, result.added, result.replaced, result.samples) == (2, 10, 1, 18)
    classes = lake.dataset("pets").schema.classes
    assert classes == ("ant", "dog", "cat")
    found = samples(lake, "pets")
    assert {key for key in found if not key.startswith("ant")} == set(made)
    assert all(found[key][0] == shown(made[key]) for key in made)
    assert all(classes[number] == key.split("/")[0] for key, (_, number, _) in found.items())
    check_lake(lake)
    assert no_journal_is_left(lake)


def test_the_same_ingest_twice_at_once_makes_one_version(source, lake):
    made = write_folder(source, 8)
    done = []

    def watch(progress):
        if progress.stage == "committing" and not done:
            done.append(True)
            assert ingest(lake, source, "pets", options=FOLDER).committed

    result = ingest(lake, source, "pets", options=FOLDER, watch=watch)
    assert (result.committed, result.version, result.samples) == (False, 1, 8)
    assert pictures(lake, "pets") == all_shown(made)
    assert no_journal_is_left(lake)


def test_sources_and_lakes_in_memory():
    url, lake = f"memory://{uuid.uuid4().hex}", f"memory://{uuid.uuid4().hex}"
    store = open_store(url)
    made = {f"cat/{n}": jpeg(n) for n in range(20)}
    for key, data in made.items():
        store.put(f"{key}.jpg", data)
    options = IngestOptions(label_from="folder", workers=2, shard_bytes=10_000)  # the processes cannot be had: memory stays in this one
    assert ingest(lake, url, "pets", options=options).samples == 20
    assert ingest(lake, url, "pets", options=options).kept == 20
    assert pictures(Lake(lake), "pets") == all_shown(made)


def test_the_lake_inside_the_source(source):
    made = write_folder(source, 4)
    for _ in range(2):
        result = ingest(str(source / "lake"), source, "pets", options=FOLDER)
        assert (result.bad, result.ignored, result.version) == ((), result.ignored, 1)
    assert pictures(Lake(str(source / "lake")), "pets") == all_shown(made)
    with pytest.raises(InvalidArgument, match="inside the lake"):
        ingest(str(source / "lake"), source / "lake", "pets")


def test_a_killed_worker_is_an_error_that_says_so(source, lake):
    write_folder(source, 12)

    def watch(progress):
        if progress.read and progress.samples < 6:
            for process in multiprocessing.active_children():
                process.kill()

    with pytest.raises(DataplaneError, match=r"SIGKILL.*run the same command again"):
        ingest(lake, source, "pets", options=IngestOptions(workers=2, shard_bytes=3000), watch=watch)
    assert multiprocessing.active_children() == []
    assert ingest(lake, source, "pets").samples == 12


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(("workers", "check"), [(1, "decode"), (2, "decode"), (2, "structure")])
def test_a_full_disk_stops_cleanly_and_the_rest_is_done_later(source, small_disk, workers, check):
    made = write_folder(source, 150)
    options = IngestOptions(label_from="folder", shard_bytes=20_000, workers=workers, check=check)
    with pytest.raises(StorageFull, match="run the same command again"):
        ingest(str(small_disk / "lake"), source, "pets", options=options)
    lake = Lake(str(small_disk / "lake"))
    check_lake(lake)
    kept = sum(item.shard.live for left in leftovers(lake.store, "pets") for item in left.finished)
    assert kept > 0
    subprocess.run(["mount", "-o", "remount,size=3m", str(small_disk)], check=True)
    result = ingest(lake, source, "pets", options=options)
    assert (result.resumed, result.samples) == (kept, 150)
    assert pictures(lake, "pets") == all_shown(made)
    check_lake(lake)


def run(*arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command(source, tmp_path):
    write_folder(source, 10)
    (source / "cat" / "bad\n.jpg").touch()
    lake = tmp_path / "lake"
    asked = (source, "pets", "--label-from", "folder", "--split", "train=0.5,test=0.5", "--shard-bytes", "64 MiB", "--lake", lake)
    first = run(*asked)
    assert first.exit_code == 3, first.output
    for part in (
        f"Made the lake {lake}",
        "pets@1: 10 samples, 10 added",
        "train",
        "1 bad file:",
        "cat/bad\\n.jpg: an empty file",
        "show pets",
    ):
        assert part in first.output
    again = run(*asked)
    assert again.exit_code == 3
    assert "Nothing to do" in again.output
    document = json.loads(run(*asked, "--json").stdout)
    assert {"name": "pets", "version": 1, "samples": 10, "shards": 2, "committed": False}.items() <= document.items()
    assert document["bad"] == [{"source": "cat/bad\n.jpg", "reason": "an empty file"}]
    assert document["bytes"] == sum(count["bytes"] for count in document["splits"].values())
    told = run(*asked, "--strict")
    assert told.exit_code == 1
    assert "1 bad file:" in told.output
    assert "--strict allows none" in told.output
    strict = run(*asked, "--strict", "--json")
    assert strict.exit_code == 1
    refused = json.loads(strict.stdout)
    assert (refused["error"]["kind"], refused["bad"]) == ("bad-sources", document["bad"])
    (source / "cat" / "bad\n.jpg").unlink()
    assert run(*asked, "--strict").exit_code == 0
    for wrong in ("--order", "--check"):
        assert isinstance(run(*asked, wrong, "x").exception, InvalidArgument)


def test_the_progress_bar_says_how_many_how_fast_and_how_long_still(source, tmp_path, monkeypatch):
    write_folder(source, 12)
    (source / "cat" / "00000.jpg").rename(source / "cat" / "00000.png")
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr("dataplane.ingest.command.err", screen)
    asked = (source, "pets", "--lake", tmp_path / "lake", "--shard-bytes", "2000")
    assert "1 of another format than the name says" in run(*asked).output
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.file.getvalue())
    assert re.search(r"12 of 12, [\d,]+/s, [\d.]+ [KM]iB/s \d:\d\d:\d\d", shown)
    assert "committing" in shown
    screen.file.truncate(0)
    run(*asked, "--quiet")
    run(*asked, "--json")
    assert screen.file.getvalue() == ""


def test_a_long_bad_list_is_shortened_on_the_screen_and_kept_in_the_lake(source, lake):
    write_folder(source, 2)
    for number in range(1100):
        (source / f"{number:04d}.jpg").touch()
    shown = run(source, "pets", "--lake", lake.url)
    assert f"and 1,080 more; all of them: dataplane --lake {lake.url} show pets@1 --json" in shown.output
    body = lake.catalog.version("pets").bad
    assert (body["count"], len(body["samples"])) == (1100, 1000)
    again = ingest(lake, source, "pets")
    assert (len(again.bad), again.committed) == (1100, False)
    check_lake(lake)


def test_the_photographs(photos, tmp_path):
    options = IngestOptions(label_from=r"name:n\d+_(.+)\.jpg", split="train=0.8,test=0.2", check="structure")
    result = ingest(str(tmp_path / "lake"), photos, "photos", options=options)
    assert (result.samples, result.bad) == (240, ())
    lake = Lake(str(tmp_path / "lake"))
    assert len(lake.dataset("photos").schema.classes) == 240
    assert pictures(lake, "photos") == all_shown({path.stem: path.read_bytes() for path in photos.iterdir()})
    check_lake(lake)


def test_a_dataset_that_is_removed_meanwhile_does_not_come_back(source, lake):
    write_folder(source, 6)
    ingest(lake, source, "pets", options=IngestOptions(label_from="folder"))
    (source / "cat" / "new.jpg").write_bytes(jpeg(99))

    def watch(progress):
        if progress.stage == "committing":
            rm(lake, "pets")

    with pytest.raises(
        CommitConflict, match="pets was removed while this ingest was at work; to begin it anew, run the same command again"
    ):
        ingest(lake, source, "pets", options=IngestOptions(label_from="folder"), watch=watch)
    assert lake.datasets() == []
    assert ingest(lake, source, "pets", options=IngestOptions(label_from="folder")).samples == 7
    check_lake(lake)
