"""JPEGs through an ingest: indexed without changing a pixel, kept, or made smaller; from folders and from S3."""

from __future__ import annotations

import io
import json

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image
from sklearn.datasets import load_sample_images
from typer.testing import CliRunner

from dataplane import Lake
from dataplane.cli import build
from dataplane.errors import BadSources, InvalidArgument
from dataplane.formats.jpeg import Area, Segments, cut
from dataplane.ingest import IngestOptions, ingest
from dataplane.journal import leftovers
from dataplane.store import open_store
from dataplane.upkeep import verify_lake
from tests.folders import all_shown, encode, shown, write_folder

KEEP = IngestOptions(jpeg="keep")


@pytest.fixture
def files():
    """Pictures by file name: two photographs in several encodings, and what cannot have an index."""
    china, flower = (Image.fromarray(pixels) for pixels in load_sample_images().images)
    turned = Image.Exif()
    turned[0x0112], turned[0x013B] = 6, "somebody"
    return {
        "china.jpg": encode(china, quality=90),
        "grey.jpg": encode(china.convert("L"), quality=75),
        "fine.jpg": encode(flower, quality=95, subsampling="4:4:4"),
        "turned.jpg": encode(flower, exif=turned),
        "really a jpeg.png": encode(flower.resize((333, 222))),
        "progressive.jpg": encode(china, progressive=True),
        "cmyk.jpg": encode(flower.convert("CMYK")),
        "flower.png": encode(flower.resize((64, 48)), "PNG"),
    }


@pytest.fixture
def source(tmp_path, files):
    root = tmp_path / "pictures"
    root.mkdir()
    for name, data in files.items():
        (root / name).write_bytes(data)
    return root


def stored(lake, name):
    """By key: the bytes of the picture, and what the index says of it."""
    found = {}
    for shard in lake.dataset(name)["train"].shards:
        index = shard.index
        for row in range(len(index)):
            ((field, place),) = ((field, place) for field, place in index.placed(row).items() if field != "cls")
            found[index.key(row)] = (lake.dataset(name)["train"].key(index.key(row)).fields[field], place)
    return found


def by_key(files):
    return {name.rsplit(".", 1)[0]: data for name, data in files.items()}


def check_segments(data, place):
    """The segments in the index are those of the stored bytes: what is cut out of them shows the same as the whole."""
    segments = Segments.unpack(place.image.segments)
    assert (segments.width, segments.height) == (place.image.width, place.image.height)
    assert (
        place.size
        == len(data)
        == segments.header_bytes
        + int(np.frombuffer(segments.lengths, f"<u{segments.length_bytes}").sum())
        + 2 * (segments.columns * segments.rows)
    )
    box = Area(segments.width // 4, segments.height // 4, segments.width // 2, segments.height // 2)
    window, out = segments.window(box), np.empty(len(data), np.uint8)
    part = simplejpeg.decode_jpeg(out[: cut(data, segments, window, out)].tobytes(), colorspace="RGB")
    x0, y0, x1, y1 = window.place(box)
    whole = simplejpeg.decode_jpeg(data, colorspace="RGB")
    assert np.array_equal(part[y0:y1, x0:x1], whole[box.y0 : box.y1, box.x0 : box.x1])
    return segments


@pytest.mark.parametrize("check", ["decode", "structure"])
def test_jpegs_are_indexed_and_show_the_same(source, files, tmp_path, check):
    lake = Lake.init(str(tmp_path / "lake"))
    result = ingest(lake, source, "p", options=IngestOptions(check=check))
    assert (result.samples, result.bad, result.renamed) == (len(files), (), 1)
    found = stored(lake, "p")
    assert all_shown({key: data for key, (data, _) in found.items()}) == all_shown(by_key(files))
    indexed = {key for key, (_, place) in found.items() if place.image.segments}
    assert indexed == {"china", "grey", "fine", "turned", "really a jpeg", "progressive"}
    for key in indexed:
        assert check_segments(*found[key]).columns > 4
        for flags in (cv2.IMREAD_COLOR, cv2.IMREAD_UNCHANGED):
            before, after = (cv2.imdecode(np.frombuffer(data, np.uint8), flags) for data in (by_key(files)[key], found[key][0]))
            assert np.array_equal(before, after)
    assert found["turned"][1].image.orientation == 6
    assert {key for key, (data, _) in found.items() if data == by_key(files)[key]} == {"cmyk", "flower"}
    assert (result.pictures.indexed, result.pictures.encoded, result.pictures.left) == (6, 0, {"4 components": 1})
    assert result.pictures.bytes_before == sum(len(by_key(files)[key]) for key in indexed)
    assert result.pictures.bytes_after == sum(len(found[key][0]) for key in indexed)
    assert verify_lake(lake).problems == []


def test_a_bucket(s3, files):
    source, lake = s3.url("pictures"), s3.url("lake")
    store = open_store(source)
    for name, data in files.items():
        store.put(name, data)
    assert ingest(lake, source, "p").pictures.indexed == 6
    found = stored(Lake(lake), "p")
    assert all_shown({key: data for key, (data, _) in found.items()}) == all_shown(by_key(files))
    assert sum(bool(check_segments(*kept)) for kept in found.values() if kept[1].image.segments) == 6
    assert ingest(lake, source, "p").kept == len(files)


def test_keep_keeps_every_byte(source, files, tmp_path):
    result = ingest(str(tmp_path / "lake"), source, "p", options=KEEP)
    found = stored(Lake(str(tmp_path / "lake")), "p")
    assert {key: data for key, (data, _) in found.items()} == by_key(files)
    assert not any(place.image.segments for _, place in found.values())
    assert (result.pictures.indexed, result.pictures.left) == (0, {})


def test_another_way_to_store_makes_no_new_version(source, files, tmp_path):
    lake = str(tmp_path / "lake")
    ingest(lake, source, "p", options=KEEP)
    for options in (IngestOptions(), IngestOptions(max_side=100), KEEP):
        again = ingest(lake, source, "p", options=options)
        assert (again.committed, again.kept) == (False, len(files))
    (source / "china.jpg").touch()  # its bytes are read, and are those of the sample's source, whatever was stored of them
    again = ingest(lake, source, "p")
    assert (again.committed, again.kept) == (False, len(files))
    parameters = Lake(lake).catalog.version("p").lineage["parameters"]
    assert (parameters["jpeg"], parameters["metadata"], parameters["progressive"]) == ("keep", "keep", "baseline")
    other = str(tmp_path / "other")
    ingest(other, source, "p")
    assert described(Lake(other)) == described(Lake(lake))


def described(lake):
    rows = lake.dataset("p").metadata(["key", "source", "source_blake3", "width", "height"]).to_pylist()
    return {row["key"]: row for row in rows}


def test_metadata_can_be_left_out(source, tmp_path):
    ingest(str(tmp_path / "lake"), source, "p", options=IngestOptions(metadata="drop"))
    data, place = stored(Lake(str(tmp_path / "lake")), "p")["turned"]
    assert dict(Image.open(io.BytesIO(data)).getexif()) == {0x0112: 6}
    assert place.image.orientation == 6


def test_smaller_pictures(source, files, tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    result = ingest(lake, source, "p", options=IngestOptions(max_side=200, jpeg_quality=80))
    found = stored(lake, "p")
    reduced = {key: (place.image.width, place.image.height) for key, (_, place) in found.items() if place.image.segments}
    wide = (200, 133)
    assert reduced == {**dict.fromkeys(("china", "grey", "fine", "really a jpeg", "progressive"), wide), "turned": (133, 200)}
    sizes = {row["key"]: (row["width"], row["height"]) for row in lake.dataset("p").metadata(["key", "width", "height"]).to_pylist()}
    assert sizes == {**reduced, "cmyk": (640, 427), "flower": (64, 48)}
    for key in reduced:
        check_segments(*found[key])
    assert (result.pictures.indexed, result.pictures.encoded, result.pictures.left) == (6, 6, {"4 components": 1})
    assert result.pictures.bytes_after < 0.3 * result.pictures.bytes_before
    assert result.bytes == sum(len(data) for data, _ in found.values())


def test_damaged_files_are_bad_and_odd_ones_are_kept(source, files, tmp_path):
    half = files["china.jpg"][: len(files["china.jpg"]) // 2]
    (source / "half.jpg").write_bytes(half + b"\xff\xd9")
    (source / "none.jpg").touch()
    result = ingest(str(tmp_path / "decoded"), source, "p")
    assert [bad.source for bad in result.bad] == ["half.jpg", "none.jpg"]
    assert result.pictures.indexed == 6
    trusted = ingest(str(tmp_path / "trusted"), source, "p", options=IngestOptions(check="structure"))
    assert [bad.source for bad in trusted.bad] == ["none.jpg"]
    assert trusted.pictures.indexed == 6
    assert sum(trusted.pictures.left.values()) == 2
    assert stored(Lake(str(tmp_path / "trusted")), "p")["half"][0] == half + b"\xff\xd9"


def test_what_a_run_with_other_options_left_is_not_taken_over(tmp_path):
    write_folder(tmp_path / "pictures", 6)
    (tmp_path / "pictures/cat/empty.jpg").touch()
    lake = Lake.init(str(tmp_path / "lake"))
    with pytest.raises(BadSources):
        ingest(lake, tmp_path / "pictures", "p", options=IngestOptions(strict=True))
    assert len(leftovers(lake.store, "p")) == 1
    result = ingest(lake, tmp_path / "pictures", "p", options=IngestOptions(max_side=10))
    assert (result.resumed, result.pictures.encoded) == (0, 6)
    assert {place.image.width for _, place in stored(lake, "p").values()} == {10}


def run(*arguments):
    return CliRunner().invoke(build(), ["ingest", *map(str, arguments)])


def test_the_command_tells(source, tmp_path):
    shown_ = run(source, "p", "--lake", tmp_path / "lake")
    assert shown_.exit_code == 0
    said = " ".join(shown_.output.split())
    assert "Note: JPEGs: 6 indexed;" in said
    assert "Note: stored as they are: 1 (4 components)." in said
    document = json.loads(run(source, "q", "--lake", tmp_path / "lake", "--json", "--progressive", "keep").output)
    assert (document["pictures"]["indexed"], document["pictures"]["left"]) == (5, {"4 components": 1, "progressive": 1})
    assert document["pictures"]["bytes_after"] > document["pictures"]["bytes_before"] > 0
    less = run(source, "r", "--lake", tmp_path / "lake", "--max-side", "100", "--jpeg-quality", "50", "--metadata", "drop", "--json")
    assert json.loads(less.output)["pictures"]["encoded"] == 6
    kept = run(source, "s", "--lake", tmp_path / "lake", "--jpeg", "keep")
    assert "indexed" not in kept.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"jpeg": "crop"}, "jpeg is 'crop'; allowed are index and keep"),
        ({"max_side": 0}, "max_side is 0; it must be at least 1"),
        ({"jpeg_quality": 200}, "jpeg_quality is 200; allowed are 1 to 100"),
        ({"metadata": "drop", "jpeg": "keep"}, "leave one of the two out"),
        ({"kind": "files", "jpeg": "keep"}, r"jpeg \(--jpeg\) is not for files, .* leave it out"),
        ({"kind": "text", "max_side": 10}, r"max_side \(--max-side\) is not for text, which go into parquet shards"),
        (
            {"codecs": "zstd:3"},
            r"codecs \(--codec\) is not for pictures, .* allowed is jpeg, jpeg_quality, max_side, metadata, progressive",
        ),
    ],
)
def test_what_cannot_be(source, tmp_path, options, said):
    with pytest.raises(InvalidArgument, match=said):
        ingest(str(tmp_path / "lake"), source, "p", options=IngestOptions(**options))
    assert not (tmp_path / "lake").exists()


def test_several_processes_and_threads_store_the_same(tmp_path):
    write_folder(tmp_path / "pictures", 60)
    refs = set()
    for number, (check, workers) in enumerate((("decode", 1), ("decode", 2), ("structure", 1), ("structure", 2))):
        lake = Lake.init(str(tmp_path / f"{number}"))
        options = IngestOptions(check=check, workers=workers, shard_bytes=20_000)
        assert ingest(lake, tmp_path / "pictures", "p", options=options).pictures.indexed == 60
        refs.add(tuple((shard.row.ref, shard.row.index) for shard in lake.dataset("p")["train"].shards))
    assert len(refs) == 1
    assert len(refs.pop()) > 2


def test_every_photograph(photos, tmp_path):
    lake = Lake.init(str(tmp_path / "lake"))
    result = ingest(lake, photos, "p", options=IngestOptions(check="structure"))
    assert (result.pictures.indexed, result.pictures.left) == (240, {})
    assert result.pictures.bytes_after < 1.03 * result.pictures.bytes_before
    for key, (data, place) in stored(lake, "p").items():
        check_segments(data, place)
        assert shown(data) == shown((photos / f"{key}.jpg").read_bytes())
