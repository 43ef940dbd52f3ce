"""Pictures made pixels, and what users do with them: add to them, load them, read them with other tools, kill it, keep it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image
from typer.testing import CliRunner

from dataplane import Lake, WriteOptions, write
from dataplane.cli import build
from dataplane.errors import AlreadyExists, BadSources, InvalidArgument, NotFound
from dataplane.ingest import IngestOptions, ingest
from dataplane.journal import leftovers
from dataplane.materialize import MaterializeOptions, materialize
from dataplane.upkeep import gc, rm, verify_lake
from dataplane.versions import lineage, where
from loaders import CenterCrop, HorizontalFlip, Int64, Loader, RandomResizedCrop, Resize
from tests.folders import encode, noise, write_folder

SIZE = MaterializeOptions(size=16)
LABELS = IngestOptions(label_from="folder", split="train=0.8,test=0.2")
ORIENTATION = 0x0112

CHILD = """
import sys
from dataplane import Lake
from dataplane.materialize import MaterializeOptions, materialize

def watch(progress):
    print(progress.stage, progress.samples, flush=True)

if __name__ == "__main__":
    lake, spec, options = sys.argv[1:4]
    result = materialize(Lake(lake), spec, options=MaterializeOptions(**eval(options)), watch=watch)
    print("result", result.resumed, flush=True)
"""


@pytest.fixture
def pets(tmp_path):
    """A lake with 30 small pictures: `photographs` of it are what Pillow makes of them."""
    write_folder(tmp_path / "pets", 30)
    Image.open(tmp_path / "pets/cat/00000.jpg").save(tmp_path / "pets/cat/png.png")
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    noise(100).save(tmp_path / "pets/dog/turned.jpg", exif=exif, quality=95)
    lake = Lake.init(str(tmp_path / "lake"))
    ingest(lake, tmp_path / "pets", "pets", options=LABELS)
    return lake


def everything(dataset):
    return {sample.key: sample for split in dataset.splits for sample in dataset[split]}


def pixels(sample):
    return np.load(io.BytesIO(sample.fields["npy"]))


def upright(data):
    image = Image.open(io.BytesIO(data))
    turned = image.getexif().get(ORIENTATION, 1) == 6
    image = image.convert("RGB")
    return image.transpose(Image.Transpose.ROTATE_270) if turned else image


def expected(data, size=16):
    image = upright(data)
    shorter = min(image.size)
    columns, rows = (size * side // shorter for side in image.size)
    left, top = round((columns - size) / 2), round((rows - size) / 2)
    return np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size)))


def near(made, other):
    """Resizing all and then cropping rounds at other places."""
    return np.abs(made.astype(int) - other).max() <= 1


def picture(sample):
    return next(sample.fields[name] for name in ("jpg", "png") if name in sample.fields)


def test_pixels_labels_and_metadata(pets):
    result = materialize(pets, "pets", options=SIZE)
    assert (result.name, result.version, result.samples, result.added, result.bad) == ("pets-16", 1, 32, 32, ())
    before, after = (everything(pets.dataset(name)) for name in ("pets", "pets-16"))
    assert before.keys() == after.keys()
    for key, sample in after.items():
        made = pixels(sample)
        assert (made.shape, made.dtype) == ((16, 16, 3), np.uint8)
        assert near(made, expected(picture(before[key])))
        assert sample.fields.keys() == {"npy", "cls"}
        assert sample.fields["cls"] == before[key].fields["cls"]
        assert sample.metadata == {"npy.width": 16, "npy.height": 16, "npy.orientation": 1}
    source, made = pets.dataset("pets"), pets.dataset("pets-16")
    assert made.schema.classes == source.schema.classes
    assert {field.name: field.kind for field in made.schema.fields} == {"npy": "image", "cls": "class"}
    same = ["key", "label", "split", "source", "source_etag", "source_blake3"]
    rows = [sorted(dataset.metadata(same).to_pylist(), key=lambda row: row["key"]) for dataset in (source, made)]
    assert rows[0] == rows[1]
    assert set(made.metadata(["width", "height"]).to_pylist()[0].values()) == {16}
    assert [len(made[split]) for split in made.splits] == [len(source[split]) for split in source.splits]
    assert verify_lake(pets, "pets-16", deep=True).problems == []


def test_lineage(pets):
    made = pets.materialize("pets", max_side=20, to="small")
    told, *above = lineage(pets, "small")
    assert (told.operation, told.parents, told.source) == ("materialize", ("pets@1",), "pets@1")
    assert told.parameters["max_side"] == 20
    assert told.counts["added"] == 32
    assert told.tool.startswith("dataplane ")
    assert [ancestor.version for ancestor in above] == ["pets@1"]
    assert {pixels(sample).shape for sample in everything(made).values()} == {(17, 20, 3), (20, 17, 3)}


def test_what_grows_is_added_to(pets, tmp_path):
    materialize(pets, "pets", options=SIZE)
    again = materialize(pets, "pets", options=SIZE)
    assert (again.committed, again.kept, again.version) == (False, 32, 1)
    write_folder(tmp_path / "pets", 4, first=30)
    noise(7).save(tmp_path / "pets/cat/00000.jpg")
    (tmp_path / "pets/dog/00001.jpg").unlink()
    Image.open(tmp_path / "pets/dog/00003.jpg").save(tmp_path / "pets/dog/other.gif")
    ingest(pets, tmp_path / "pets", "pets", options=IngestOptions(label_from="folder", split=LABELS.split, sync=True))
    result = materialize(pets, "pets", options=SIZE)
    assert (result.kept, result.added, result.replaced, result.dropped) == (30, 5, 1, 1)
    source, made = (everything(pets.dataset(name)) for name in ("pets", "pets-16"))
    assert source.keys() == made.keys()
    assert near(pixels(made["cat/00000"]), expected(picture(source["cat/00000"])))
    assert verify_lake(pets, deep=True).problems == []
    assert list(pets.store.list("writers")) == []


def test_processes_make_the_same_objects(pets):
    for name, workers in (("one", 1), ("two", 2)):
        materialize(pets, "pets", options=MaterializeOptions(size=16, shard_bytes=16_000, workers=workers), to=name)
    one, two = (pets.dataset(name) for name in ("one", "two"))
    assert len(one["train"].shards) == 2
    assert one.version.parts == two.version.parts


def test_a_view_some_splits_and_pixels_again(pets):
    where(pets, "pets", "label = 'cat'", to="cats")
    result = materialize(pets, "cats", options=MaterializeOptions(size=16, splits=("train",)))
    keys = {sample.key for sample in pets.dataset("cats")["train"]}
    assert everything(pets.dataset("cats-16")).keys() == keys
    assert result.splits.keys() == {"train"}
    smaller = pets.materialize("cats-16", size=8)
    assert smaller.name == "cats-16-8"
    assert {pixels(sample).shape for sample in everything(smaller).values()} == {(8, 8, 3)}


def test_other_fields_stay(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    mask, deep = encode(noise(1), "PNG"), np.arange(12, dtype=np.float32).reshape(3, 4)
    samples = [
        {"__key__": f"s{n}", "__label__": "x", "jpg": encode(noise(n)), "mask.png": mask, "txt": f"text {n}", "score": n / 2, "deep": deep}
        for n in range(5)
    ]
    write(lake, "many", samples, options=WriteOptions())
    made = everything(lake.materialize("many", size=16))
    before = everything(lake.dataset("many"))
    for key, sample in made.items():
        assert sample.fields.keys() == before[key].fields.keys() - {"jpg"} | {"npy"}
        assert all(np.array_equal(value, before[key].fields[name]) for name, value in sample.fields.items() if name != "npy")
    columns = ["key", "label", "score", "txt"]
    assert lake.dataset("many-16").metadata(columns).sort_by("key") == lake.dataset("many").metadata(columns).sort_by("key")
    assert verify_lake(lake, deep=True).problems == []


def test_values_keep_their_types(tmp_path):
    """Small shards: one has nulls only, or empty lists only, where another has values."""
    columns = {
        "jpg": pa.array([encode(noise(n)) for n in range(6)]),
        "score": pa.array([0.1] * 6, pa.float32()),
        "count": pa.array([None, 1, 2, 3, 4, 5], pa.uint8()),
        "taken": pa.array([1] * 6, pa.timestamp("ms")),
        "words": pa.array([[]] * 3 + [["a"]] * 3, pa.list_(pa.string())),
        "box": pa.array([{"side": 1, "name": name} for name in (None, None, None, "x", "y", "z")]),
        "late": pa.array([None] * 3 + [1.5] * 3),
    }
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    lake = Lake.init(str(tmp_path / "lake"))
    ingest(lake, tmp_path / "table.parquet", "table", options=IngestOptions())
    with pytest.raises(InvalidArgument, match=r"no field of pictures.*name it \(--field\)"):
        materialize(lake, "table", options=SIZE)
    result = materialize(lake, "table", options=MaterializeOptions(size=16, field="jpg", shard_bytes=3 * 768))
    assert (result.bad, result.splits["train"].shards) == ((), 2)
    before, made = lake.dataset("table"), lake.dataset("table-16")
    types = [{field.name: field for field in dataset.schema.fields if field.name not in ("jpg", "npy")} for dataset in (before, made)]
    assert types[0] == types[1]
    source = everything(before)
    for key, sample in everything(made).items():
        values = [{name: value for name, value in fields.items() if name in types[0]} for fields in (source[key].fields, sample.fields)]
        assert values[0] == values[1]
    assert verify_lake(lake, deep=True).problems == []


def test_what_has_become_bad_goes(tmp_path):
    write_folder(tmp_path / "pets", 3, classes=("cat",))
    lake = Lake.init(str(tmp_path / "lake"))
    options = IngestOptions(check="structure", jpeg="keep", sync=True)
    ingest(lake, tmp_path / "pets", "pets", options=options)
    materialize(lake, "pets", options=SIZE)
    spoil(tmp_path / "pets/cat/00000.jpg")
    ingest(lake, tmp_path / "pets", "pets", options=options)
    with pytest.raises(BadSources):
        materialize(lake, "pets", options=MaterializeOptions(size=16, strict=True))
    result = materialize(lake, "pets", options=SIZE)
    assert (result.committed, result.kept, result.dropped, result.samples) == (True, 2, 1, 2)
    assert [bad.source for bad in result.bad] == ["cat/00000"]
    assert everything(lake.dataset("pets-16")).keys() == {"cat/00001", "cat/00002"}
    again = materialize(lake, "pets", options=SIZE)
    assert (again.committed, again.samples, len(again.bad)) == (False, 2, 1)


def test_shards_with_ids_of_other_classes_are_not_taken_over(tmp_path):
    """The source was made anew meanwhile: the same pictures, and a class before theirs."""
    write_folder(tmp_path / "pets", 4)
    lake = Lake.init(str(tmp_path / "lake"))
    ingest(lake, tmp_path / "pets", "pets", options=IngestOptions(label_from="folder"))

    def stop(progress):
        if progress.stage == "committing":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        materialize(lake, "pets", options=SIZE, watch=stop)
    assert [len(left.finished) for left in leftovers(lake.store, "pets-16")] == [1]
    rm(lake, "pets")
    write_folder(tmp_path / "pets", 2, classes=("ant",))
    ingest(lake, tmp_path / "pets", "pets", options=IngestOptions(label_from="folder"))
    result = materialize(lake, "pets", options=SIZE)
    source, made = (everything(lake.dataset(name)) for name in ("pets", "pets-16"))
    assert result.resumed == 0
    assert lake.dataset("pets").schema.classes == ("ant", "cat", "dog")
    assert {key: sample.fields["cls"] for key, sample in made.items()} == {key: sample.fields["cls"] for key, sample in source.items()}


def spoil(path):
    """A picture whose header and end are sound, and whose pixels are not."""
    data = encode(noise(50, (200, 200)))
    path.write_bytes(data[: len(data) // 2] + b"\xff\xd9")


def damaged(tmp_path, *, good):
    """A lake with a picture whose header is sound and whose pixels are not."""
    write_folder(tmp_path / "pets", good, classes=("cat",))
    (tmp_path / "pets/cat").mkdir(parents=True, exist_ok=True)
    spoil(tmp_path / "pets/cat/bad.jpg")
    lake = Lake.init(str(tmp_path / "lake"))
    ingest(lake, tmp_path / "pets", "pets", options=IngestOptions(check="structure", jpeg="keep"))
    return lake


def test_bad_samples_are_listed(tmp_path):
    lake = damaged(tmp_path, good=3)
    result = materialize(lake, "pets", options=SIZE)
    assert [bad.source for bad in result.bad] == ["cat/bad"]
    assert result.bad[0].reason.startswith("damaged: Corrupt JPEG data")
    assert (result.samples, result.committed) == (3, True)
    assert lake.dataset("pets-16").version.bad["samples"][0]["source"] == "cat/bad"
    with pytest.raises(BadSources, match="1 of the samples of pets@1"):
        materialize(lake, "pets", options=MaterializeOptions(size=16, strict=True), to="strict")
    assert "strict" not in lake.datasets()


def test_damaged_objects_are_bad_samples_too(pets, tmp_path):
    source = pets.dataset("pets")
    (shard,) = source["train"].shards
    field = shard.index.field("jpg")
    row = next(row for row in range(len(shard)) if field.size[row] > 0)
    path = tmp_path / "lake" / shard.row.ref.path
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(int(field.offset[row]) + 20)
        file.write(b"\0\1\2\3")
    result = materialize(pets, "pets", options=SIZE)
    assert [bad.source for bad in result.bad] == [shard.index.key(row)]
    assert "checksum" in result.bad[0].reason
    assert result.samples == 31


def test_nothing_good_is_nothing_committed(tmp_path):
    lake = damaged(tmp_path, good=0)
    with pytest.raises(BadSources, match="none of the 1 samples"):
        materialize(lake, "pets", options=SIZE)
    assert lake.datasets() == ["pets"]


def test_what_cannot_be(pets, tmp_path):
    with pytest.raises(NotFound, match="has no split 'nine'; it has test, train"):
        materialize(pets, "pets", options=MaterializeOptions(size=16, splits=("nine",)))
    with pytest.raises(NotFound, match="no field 'tif'"):
        materialize(pets, "pets", options=MaterializeOptions(size=16, field="tif"))
    with pytest.raises(NotFound, match="no dataset 'none'"):
        materialize(pets, "none", options=SIZE)
    write(pets, "numbers", [{"__key__": "a", "x": 1}])
    with pytest.raises(InvalidArgument, match="has no field of pictures; its fields are x"):
        materialize(pets, "numbers", options=SIZE)
    write(pets, "both", [{"__key__": "a", "npy": b"x", "jpg": encode(noise(1))}])
    with pytest.raises(InvalidArgument, match="field 'npy' already"):
        materialize(pets, "both", options=SIZE)
    with pytest.raises(AlreadyExists, match="comes from 'ingest'"):
        materialize(pets, "pets", options=SIZE, to="pets")
    materialize(pets, "pets", options=SIZE, to="small")
    with pytest.raises(AlreadyExists, match="size=16, and asked for is size=8"):
        materialize(pets, "pets", options=MaterializeOptions(size=8), to="small")


def test_two_pictures_in_a_sample(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    write(lake, "two", [{"__key__": "a", "jpg": encode(noise(1)), "png": encode(noise(2), "PNG")}])
    with pytest.raises(BadSources) as raised:
        materialize(lake, "two", options=SIZE)
    assert raised.value.bad[0].reason == "it has jpg and png, and one picture a sample becomes pixels; say which with field (--field)"
    materialize(lake, "two", options=MaterializeOptions(size=16, field="png"))
    (sample,) = everything(lake.dataset("two-16")).values()
    assert sample.fields.keys() == {"npy", "jpg"}
    assert near(pixels(sample), expected(encode(noise(2), "PNG")))


# ------------------------------------------------------------------ read by others


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # which it leaves to the garbage collector
def test_webdataset_and_numpy_read_it(pets, tmp_path):
    made = pets.materialize("pets", size=16)
    paths = [str(tmp_path / "lake" / shard.row.ref.path) for split in made.splits for shard in made[split].shards]
    read = list(webdataset.WebDataset(paths, shardshuffle=False, empty_check=False).decode())
    assert len(read) == 32
    expect = sorted(pixels(sample).tobytes() for sample in everything(made).values())
    assert sorted(sample["npy"].tobytes() for sample in read) == expect
    assert {sample["npy"].shape for sample in read} == {(16, 16, 3)}


@pytest.mark.parametrize("transform", [[Resize(12), CenterCrop(12)], [RandomResizedCrop(12), HorizontalFlip()]], ids=["centre", "random"])
def test_the_loader_gives_the_transforms_of_the_pixels(pets, transform):
    """The same samples as PNG files, in the same order, say what comes out."""
    made = pets.materialize("pets", size=16)
    samples = [
        {"__key__": key, "__split__": "train", "png": encode(Image.fromarray(pixels(sample)), "PNG"), "cls": sample.fields["cls"]}
        for key, sample in everything(made).items()
    ]
    write(pets, "pngs", samples)
    found = {}
    for dataset, field in ((made, "npy"), (pets.dataset("pngs"), "png"), (made, "jpg;npy"), (pets.dataset("pngs"), "png;jpg")):
        mine = found[dataset.name, field] = {}
        for split in dataset.splits:
            for batch in Loader(
                dataset[split], batch_size=4, transform={field: transform, "cls": Int64()}, shuffle=False, tail="short", threads=1
            ):
                mine.update(
                    {key: (value, cls) for key, value, cls in zip(batch.sample_keys, batch[field].copy(), batch["cls"], strict=True)}
                )
    same = [("pets-16", "npy"), ("pets-16", "jpg;npy")]
    assert all(np.array_equal(found[same[0]][key][0], found[same[1]][key][0]) for key in found[same[0]])
    assert all(found[name].keys() == everything(made).keys() for name in found)
    if isinstance(transform[0], Resize):  # nothing drawn: places in the order do not matter
        assert all(np.array_equal(found["pngs", "png"][key][0], value) for key, (value, _) in found["pets-16", "npy"].items())
    assert all(found["pngs", "png"][key][1] == cls for key, (_, cls) in found["pets-16", "npy"].items())


# ------------------------------------------------------------------ what lasts


def test_gc_keeps_it(pets):
    made = pets.materialize("pets", size=16)
    gc(pets, grace_seconds=0)
    assert verify_lake(pets, deep=True).problems == []
    assert len(everything(made)) == 32


def start(folder, lake, **options):
    script = folder / "child.py"
    script.write_text(CHILD)
    return subprocess.Popen(
        [sys.executable, str(script), lake, "pets", repr(options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def kill_behind(process, samples, how=signal.SIGKILL):
    """End a run once so many samples are made."""
    while True:
        words = process.stdout.readline().split()
        assert words, process.stderr.read()
        if words[0] == "reading" and int(words[1]) >= samples:
            break
    os.killpg(process.pid, how)
    return process.communicate(timeout=60)


OF_TWO = {"size": 16, "shard_bytes": 1600, "workers": 1}


def kill_and_go_on(lake, folder, how):
    process = start(folder, lake.url, **OF_TWO)
    _, errors = kill_behind(process, 12, how)
    assert process.returncode != 0
    finished = [item.shard for left in leftovers(lake.store, "pets-16") for item in left.finished]
    assert finished
    assert lake.datasets() == ["pets"]
    result = materialize(lake, "pets", options=MaterializeOptions(**OF_TWO))
    assert (result.resumed, result.samples) == (sum(shard.live for shard in finished), 32)
    assert {shard.ref for shard in finished} <= {row.ref for _, rows in lake.dataset("pets-16").parts for row in rows}
    assert verify_lake(lake, deep=True).problems == []
    assert list(lake.store.list("writers")) == []
    return errors


def test_killed_it_goes_on(pets, tmp_path):
    kill_and_go_on(pets, tmp_path, signal.SIGKILL)


def test_interrupted_it_goes_on(pets, tmp_path):
    errors = kill_and_go_on(pets, tmp_path, signal.SIGINT)
    assert errors.count("KeyboardInterrupt") == 1


def test_on_s3(s3, tmp_path):
    write_folder(tmp_path / "pets", 12)
    lake = Lake.init(s3.url("lake"))
    ingest(lake, tmp_path / "pets", "pets", options=IngestOptions(label_from="folder"))
    result = materialize(lake, "pets", options=MaterializeOptions(size=16, shard_bytes=4000, workers=2))
    assert (result.samples, result.bad) == (12, ())
    before, after = (everything(lake.dataset(name)) for name in ("pets", "pets-16"))
    assert all(near(pixels(sample), expected(picture(before[key]))) for key, sample in after.items())
    loader = Loader(lake.dataset("pets-16")["train"], batch_size=4, transform={"npy": [RandomResizedCrop(8)]}, threads=2)
    assert [batch["npy"].shape for batch in loader] == [(4, 3, 8, 8)] * 3
    assert verify_lake(lake, deep=True).problems == []


# ------------------------------------------------------------------ the command


def call(*arguments):
    done = CliRunner().invoke(build(), [*arguments], catch_exceptions=False)
    return done.exit_code, done.stdout


def test_the_command(pets):
    code, said = call("--lake", pets.url, "materialize", "pets", "--size", "16", "--json")
    document = json.loads(said)
    assert code == 0
    assert [document[name] for name in ("name", "version", "source", "samples", "bad", "committed")] == [
        "pets-16",
        1,
        "pets@1",
        32,
        [],
        True,
    ]
    code, said = call("--lake", pets.url, "materialize", "pets", "--size", "16")
    assert (code, said.splitlines()[0]) == (0, "Nothing to do: pets-16@1 has every good picture of pets@1 already.")
    code, said = call("--lake", pets.url, "materialize", "pets", "--max-side", "9", "--as", "tiny", "--split", "train")
    assert code == 0
    assert "tiny@1, pixels of pets@1" in said
    assert said.splitlines()[-1] == f"Next: dataplane --lake {pets.url} lineage tiny"


def test_the_command_lists_bad_samples(tmp_path):
    lake = damaged(tmp_path, good=3)
    code, said = call("--lake", lake.url, "materialize", "pets", "--size", "16")
    assert code == 3
    assert "1 bad sample:" in said
    assert "cat/bad: damaged" in said
    code, said = call("--lake", lake.url, "materialize", "pets", "--size", "16", "--as", "other", "--strict", "--json")
    document = json.loads(said)
    assert (code, document["error"]["kind"], document["bad"][0]["source"]) == (1, "bad-sources", "cat/bad")
