"""Statistics of versions: labels, sizes, objects, and the colours of pictures, in every store and without writing anything."""

import io
import json
import uuid

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dataplane import Lake
from dataplane.catalog import Change
from dataplane.errors import CorruptObject, InvalidArgument, NotFound
from dataplane.formats.index import ImageInfo
from dataplane.manifest import METADATA
from dataplane.parts import reselected, split_counts, store_part
from dataplane.refs import Digest, Foreign
from dataplane.schema import Field, Schema
from dataplane.shards import ShardRow
from dataplane.stats import statistics
from dataplane.stats.pixels import Pixels, choose
from dataplane.stats.version import ObjectCount, count_objects
from dataplane.store import open_store
from dataplane.testing import RecordingStore
from dataplane.testing.samples import Made, sample_lake, write_dataset

SCHEMA = Schema((Field("cls", "class"), Field("jpg", "image"), Field("png", "image")), ("a", "b", "unused"))


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def pictures(count, seed=0):
    """Arrays of pixels, lossless as PNG."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*rng.integers(1, 40, 2), 3), np.uint8) for _ in range(count)]


def made(key, data, label="a", size=(1, 1)):
    return Made(key, {"png": data, "cls": b"0"}, {"png": ImageInfo(*size)}, label)


@pytest.fixture
def lake():
    return Lake.init(f"memory://{uuid.uuid4().hex}")


@pytest.fixture(params=["local", "memory", "s3"])
def url(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("s3").url()
    return str(tmp_path / "lake") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def test_the_same_in_every_store_and_nothing_is_written(url):
    sample_lake(url)
    store = RecordingStore(open_store(url))
    found = statistics(Lake(store), "pictures@1", images=20)
    assert {call.verb for call in store.calls} <= {"get", "get_range", "get_ranges", "head", "list", "list_with_delimiter"}
    assert found.labels == {name: {"test": 4, "train": 16} for name in ("blue", "green", "red")}
    assert found.tally.samples == 60
    assert found.pixels.images == 20
    assert found.pixels.bad == ()
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["columns"]["width"]["null_rate"] == 0
    assert sum(each["count"] for each in document["bytes"]) == sum(each["count"] for each in document["shapes"]) == 60
    assert document["images"]["channels"].keys() == {"red", "green", "blue"}
    assert found == statistics(Lake(store), "pictures", images=20)  # the same pictures each time


def test_mean_and_deviation_are_those_of_all_pixels(lake):
    images = pictures(40)
    samples = [made(f"{number}", png(image)) for number, image in enumerate(images)]
    write_dataset(lake, "noise", [("train", samples[:25]), ("test", samples[25:])], schema=SCHEMA)
    heard = []
    found = statistics(lake, "noise", images="all", watch=lambda *progress: heard.append(progress)).pixels
    flat = np.concatenate([image.reshape(-1, 3) for image in images]) / 255
    assert found.images == 40
    assert found.mean == pytest.approx(flat.mean(0))
    assert found.deviation == pytest.approx(flat.std(0))
    assert heard[-1] == ("looking at pictures", 40, 40)
    one = statistics(lake, "noise", images=7).pixels
    assert one.images == 7
    assert one.mean != found.mean


def test_pixels_add_up():
    images = pictures(5, seed=1)
    added = Pixels()
    for image in images:
        added += Pixels.of(image)
    flat = np.concatenate([image.reshape(-1, 3) for image in images])
    assert added.levels == tuple(tuple(np.bincount(flat[:, channel], minlength=256).tolist()) for channel in range(3))
    assert added.images == 5
    assert Pixels().mean == Pixels().deviation == (0, 0, 0)
    assert Pixels().to_json() == {"count": 0, "channels": {}, "bad": []}


def test_pictures_of_several_formats_and_shards_without_any(lake):
    white, black = np.full((2, 2, 3), 255, np.uint8), np.zeros((2, 2, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(black).save(out, "JPEG")
    shards = [
        ("train", [made("white", png(white))]),
        ("train", [Made("black", {"jpg": out.getvalue()}, {}, "b")]),
        ("train", [Made("none", {"cls": b"1"}, {}, "b")]),
    ]
    write_dataset(lake, "mixed", shards, schema=SCHEMA)
    found = statistics(lake, "mixed")
    assert (found.pixels.images, found.pixels.mean) == (2, (0.5, 0.5, 0.5))
    assert found.absent == ("unused",)


def test_bad_pictures_are_listed(lake):
    good = png(pictures(1)[0])
    samples = [made("good", good), made("cut", good[:-20]), made("text", b"hello")]
    write_dataset(lake, "some", [("train", samples)], schema=SCHEMA)
    found = statistics(lake, "some").pixels
    assert found.images == 1
    assert {bad.key: bad.reason.split(":")[0] for bad in found.bad} == {"cut": "png", "text": "png"}
    assert "truncated" in found.bad[0].reason


def test_damaged_samples_are_listed_and_the_others_counted(tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    images = pictures(6, seed=2)
    dataset = write_dataset(lake, "some", [("train", [made(f"{n}", png(image)) for n, image in enumerate(images)])], schema=SCHEMA)
    shard = dataset["train"].shards[0]
    file = lake.store.root / shard.row.ref.path
    data = bytearray(file.read_bytes())
    data[shard.index.placed(3)["png"].offset + 30] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    found = statistics(lake, "some").pixels
    assert found.images == 5
    (bad,) = found.bad
    assert bad.key == "sample 3 of some@1/train"
    assert "checksum" in bad.reason


def test_only_what_a_version_wants_is_counted(lake):
    samples = [made(f"{n}", png(image), label="ab"[n % 2], size=(n + 1, 10)) for n, image in enumerate(pictures(10))]
    dataset = write_dataset(lake, "all", [("train", samples[:6]), ("test", samples[6:])], schema=SCHEMA)
    ((part, shards),) = dataset.parts
    fewer = reselected(lake.objects, part, shards.without({0: [0, 2, 4], 1: [0, 1, 2, 3]}))
    change = Change("where", {}, SCHEMA, (fewer[0], part), split_counts([fewer, (part, shards)]))
    lake.catalog.commit("all", lambda _: change)
    found = statistics(lake, "all", images="all")
    assert found.labels == {"b": {"train": 6, "test": 2}, "a": {"train": 3, "test": 2}}
    assert found.tally.columns["width"].moments.low == 1
    assert found.pixels.images == found.tally.samples == 13
    (objects,) = count_objects(lake.dataset("all"))
    assert (objects.format, objects.count) == ("tar", 3)  # nothing is wanted of the fourth


def test_further_columns_and_missing_values(lake):
    dataset = write_dataset(
        lake, "plain", [("train", [Made("a", {"txt": b"x"}), Made("b", {"txt": b"y"})])], schema=Schema((Field("txt", "bytes"),))
    )
    ((part, shards),) = dataset.parts
    table = dataset.part_metadata(part, shards, None).drop_columns(["split"])
    more = table.append_column("score", pa.array([1.5, None])).append_column("note", pa.array([None, "n"]))
    scored = store_part(lake.objects, shards, more)
    lake.catalog.commit("plain", lambda _: Change("append", {}, dataset.schema, (part, scored[0]), split_counts([(part, shards), scored])))
    found = statistics(lake, "plain")
    assert found.pixels is None
    assert found.labels == {None: {"train": 4}}
    document = found.to_json()
    assert document["unlabelled"] == {"train": 4}
    assert document["columns"]["score"] == {
        "type": "double", "nulls": 3, "null_rate": 0.75, "min": 1.5, "max": 1.5, "mean": 1.5, "deviation": 0.0, "not_finite": 0,
    }  # fmt: skip
    assert document["columns"]["note"]["null_rate"] == 0.75
    assert document["columns"]["width"]["mean"] is None
    assert "shard" not in document["columns"]


def test_objects_by_format_and_place(lake):
    index = Digest("0" * 64, ".idx", 1)
    rows = [
        ShardRow("train", "tar", Foreign("s3://elsewhere/a.tar", 100, "e"), index, 1, 10),
        ShardRow("train", "tar", Foreign("s3://elsewhere/b.tar", 11, "e"), index, 1, 10),
        ShardRow("train", "zarr", Digest("1" * 64, ".zip", 7), index, 1, 10, beside=(write_dataset_piece(index),)),
    ]
    empty = pa.table({field.name: pa.array([], field.type) for field in METADATA}, schema=METADATA)
    part = store_part(lake.objects, rows, empty)
    lake.catalog.commit("mixed", lambda _: Change("adopt", {}, Schema(), (part[0],), split_counts([part])))
    assert count_objects(lake.dataset("mixed")) == (
        ObjectCount("parquet", False, 1, 5),
        ObjectCount("tar", True, 2, 111),
        ObjectCount("zarr", False, 1, 7),
    )


def write_dataset_piece(index):
    from dataplane.shards import Piece

    return Piece("parquet", Digest("2" * 64, ".parquet", 5), index)


def test_a_version_without_samples(lake):
    lake.catalog.commit("none", lambda _: Change("write", {}, SCHEMA, (), {}))
    found = statistics(lake, "none")
    assert (found.tally.samples, found.objects, found.pixels.images) == (0, (), 0)
    json.dumps(found.to_json(), allow_nan=False)


def test_a_damaged_part_is_named(tmp_path):
    lake = sample_lake(str(tmp_path / "lake"))
    path = lake.dataset("pictures").parts[0][0].metadata.path
    file = lake.store.root / path
    data = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(data[:200] + bytes(400) + data[600:])
    with pytest.raises(CorruptObject, match=path):
        statistics(lake, "pictures", images=1)


def test_choosing():
    assert choose(5, "all").tolist() == choose(5, 9).tolist() == [0, 1, 2, 3, 4]
    chosen = choose(10**9, 512)
    assert len(np.unique(chosen)) == 512
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, choose(10**9, 512))
    assert chosen[-1] > 9 * 10**8
    assert choose(0, 5).tolist() == []
    with pytest.raises(InvalidArgument, match="above 0, or all"):
        choose(5, 0)


def test_what_is_not_there(lake):
    with pytest.raises(NotFound):
        statistics(lake, "nothing")
