"""What is stored of pictures: JPEGs with an index and the same pixels, others as they are, smaller ones where that is asked for."""

import io
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from dataplane.errors import BadSample, InvalidArgument
from dataplane.formats.jpeg import Area, Segments, cut, recode
from dataplane.prep.image import decode, examine
from dataplane.prep.options import PictureOptions
from dataplane.prep.stored import stored
from tests.folders import encode, noise, shown

LIMIT = 1 << 24
KEEP = PictureOptions("keep", "keep", "keep", None, None)
INDEX = PictureOptions("index", "keep", "keep", None, None)
ALL = PictureOptions("index", "keep", "baseline", None, None)
BARE = PictureOptions("index", "drop", "baseline", None, None)
ORIENTATION, ARTIST = 0x0112, 0x013B


def smooth(width: int, height: int, grain: int = 8) -> Image.Image:
    """A picture that compresses as photographs do."""
    small = noise(width + height, (width // grain + 2, height // grain + 2))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION], tags[ARTIST] = orientation, "somebody"
    return tags


def store(data, options, *, check=True):
    return stored(data, decode=check, max_pixels=LIMIT, options=options)


def check_index(made):
    """The segments are those of the bytes: a part cut out of them decodes to the same pixels."""
    info = made.picture.info
    segments = Segments.unpack(info.segments)
    assert (segments.width, segments.height) == (info.width, info.height)
    box = Area(info.width // 3, info.height // 3, info.width // 3 + 8, info.height // 3 + 8)
    window = segments.window(box)
    out = np.empty(len(made.data), np.uint8)
    part = simplejpeg.decode_jpeg(out[: cut(made.data, segments, window, out)].tobytes(), colorspace="RGB")
    place = window.place(box)
    whole = simplejpeg.decode_jpeg(made.data, colorspace="RGB")
    assert np.array_equal(part[place.y0 : place.y1, place.x0 : place.x1], whole[box.y0 : box.y1, box.x0 : box.x1])


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    "data",
    [
        encode(smooth(400, 300)),
        encode(smooth(417, 331), subsampling="4:4:4", quality=95),
        encode(smooth(100, 77).convert("L")),
        encode(smooth(64, 48), exif=exif(6)),
        encode(smooth(64, 48), icc_profile=b"profile" * 20, comment=b"words", dpi=(300, 300)) + b"trailing",
        encode(noise(1, (33, 65)), quality=100, restart_marker_blocks=3),
    ],
    ids=["4:2:0", "4:4:4", "grey", "turned", "described", "with restarts"],
)
def test_a_jpeg_is_indexed_and_shows_the_same(data, check):
    made = store(data, INDEX, check=check)
    assert made.indexed
    assert made.left is None
    assert not made.encoded
    assert shown(made.data) == shown(data)
    assert np.array_equal(decode(made.data, max_pixels=LIMIT), decode(data, max_pixels=LIMIT))
    before = examine(data, decode=True, max_pixels=LIMIT)
    assert (made.picture.format, made.picture.upright) == ("jpg", before.upright)
    assert made.picture.info.orientation == before.info.orientation
    check_index(made)
    again = store(data, INDEX, check=check)
    assert (again.data, again.picture) == (made.data, made.picture)  # equal files are stored as equal bytes
    again = store(made.data, INDEX, check=check)
    assert again.indexed
    assert shown(again.data) == shown(data)


def test_photographs(photos):
    for path in sorted(photos.glob("*.jpg"))[::12]:
        data = path.read_bytes()
        made = store(data, ALL)
        assert made.indexed
        assert shown(made.data) == shown(data)
        assert len(made.data) < 1.05 * len(data)
        check_index(made)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("data", "options", "why"),
    [
        (encode(smooth(64, 48)), KEEP, None),
        (encode(smooth(64, 48).convert("CMYK")), ALL, "4 components"),
        (encode(smooth(64, 48), progressive=True), INDEX, "progressive"),
        (encode(smooth(64, 48), "PNG"), ALL, None),
        (encode(smooth(64, 48), "WEBP"), BARE, None),
    ],
    ids=["keep", "CMYK", "progressive", "PNG", "WebP"],
)
def test_others_are_stored_as_they_are(data, options, why, check):
    made = store(data, options, check=check)
    assert (made.data, made.left, made.indexed) == (data, why, False)
    assert made.picture == examine(data, decode=check, max_pixels=LIMIT)


def test_a_progressive_jpeg_becomes_a_sequential_one():
    data = encode(smooth(200, 150), progressive=True, exif=exif(3))
    made = store(data, ALL)
    assert made.indexed
    assert made.left is None
    assert shown(made.data) == shown(data)
    assert "progressive" not in Image.open(io.BytesIO(made.data)).info
    check_index(made)


def test_a_transcoder_that_fails_is_found_out(monkeypatch):
    data, other = encode(smooth(64, 48)), encode(smooth(64, 48).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    wrong, broken = recode(other, metadata="keep"), replace(recode(data, metadata="keep"), data=data[:-20])
    for result in (wrong, broken):
        monkeypatch.setattr("dataplane.formats.jpeg.recode", lambda *_, result=result, **__: result)
        made = store(data, ALL)
        assert (made.data, made.left, made.indexed) == (data, "it would not decode to the same pixels", False)


def test_damage_is_found_as_without_an_index():
    good = encode(smooth(400, 300), quality=95)
    cut_off = good[: len(good) // 2] + b"\xff\xd9"
    for data, options in ((cut_off, KEEP), (cut_off, ALL), (good[:-300], ALL), (b"", ALL), (b"\xff\xd8\xff", ALL)):
        with pytest.raises(BadSample) as caught:
            store(data, options)
        with pytest.raises(BadSample) as before:
            examine(data, decode=True, max_pixels=LIMIT)
        assert str(caught.value) == str(before.value)
    unseen = store(cut_off, ALL, check=False)  # nobody has looked at it; it is not touched
    assert (unseen.data, unseen.indexed) == (cut_off, False)
    assert unseen.left
    for data, check in product((good, encode(smooth(400, 300), progressive=True)), (True, False)):
        with pytest.raises(BadSample, match="too large"):
            stored(data, decode=check, max_pixels=100, options=ALL)


def test_a_picture_to_be_refused_gets_no_memory():
    """A restart interval of one MCU takes the most: some thirty times the file's bytes."""
    data = encode(Image.new("RGB", (2000, 2000)), subsampling="4:4:4", restart_marker_blocks=1)
    tracemalloc.start()
    try:
        with pytest.raises(BadSample, match="too large: 2,000 × 2,000 pixels"):
            stored(data, decode=True, max_pixels=2000 * 2000 - 1, options=ALL)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data)
    finally:
        tracemalloc.stop()


def test_metadata_can_be_left_out():
    data = encode(smooth(64, 48), exif=exif(6), icc_profile=b"profile" * 20, comment=b"words")
    made = store(data, BARE)
    assert made.indexed
    assert made.picture.info.orientation == 6
    image = Image.open(io.BytesIO(made.data))
    assert dict(image.getexif()) == {ORIENTATION: 6}
    assert not {"icc_profile", "comment"} & image.info.keys()
    assert np.array_equal(decode(made.data, max_pixels=LIMIT), decode(data, max_pixels=LIMIT))


def reduced(max_side=None, quality=None, jpeg="index"):
    return PictureOptions(jpeg, "keep", "baseline", quality, max_side)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_smaller_picture_is_upright_once(orientation, check):
    data = encode(smooth(400, 240, 50), exif=exif(orientation), quality=95)
    made = store(data, reduced(100, 95), check=check)
    assert made.encoded
    assert made.indexed
    assert made.left is None
    turned = orientation >= 5
    assert (made.picture.info.width, made.picture.info.height) == made.picture.upright == ((60, 100) if turned else (100, 60))
    assert made.picture.info.orientation == 1
    tags = Image.open(io.BytesIO(made.data)).getexif()
    assert (tags.get(ORIENTATION, 1), tags[ARTIST]) == (1, "somebody")
    upright = Image.fromarray(decode(data, max_pixels=LIMIT)).resize(made.picture.upright, Image.Resampling.LANCZOS)
    difference = np.asarray(upright, int) - decode(made.data, max_pixels=LIMIT)
    assert np.abs(difference).mean() < 3
    check_index(made)


def test_what_is_small_enough_stays():
    data = encode(smooth(90, 60))
    assert store(data, reduced(90, jpeg="keep")).data == data
    made = store(data, reduced(90))
    assert made.indexed
    assert not made.encoded
    assert shown(made.data) == shown(data)
    worse = store(data, reduced(quality=30))
    assert worse.encoded
    assert worse.indexed
    assert len(worse.data) < len(data)
    better = store(data, reduced(quality=98))  # encoding it so would make it larger, and no better
    assert not better.encoded
    assert shown(better.data) == shown(data)


def test_smaller_without_an_index():
    made = store(encode(smooth(400, 300)), reduced(64, jpeg="keep"))
    assert made.encoded
    assert not made.indexed
    assert made.picture.upright == Image.open(io.BytesIO(made.data)).size == (64, 48)


@pytest.mark.parametrize("data", [encode(smooth(64, 48), "PNG"), encode(smooth(64, 48).convert("CMYK"))], ids=["PNG", "CMYK"])
def test_what_is_not_made_smaller_says_why(data):
    made = store(data, reduced(32, jpeg="keep"))
    assert made.data == data
    assert made.left.endswith("larger than 32 pixels: only grey and RGB JPEGs are made smaller")
    assert store(data, reduced(64, jpeg="keep")).left is None


def test_damaged_exif_does_not_stop_a_picture():
    data = encode(smooth(200, 100), exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    made = store(data, reduced(50))
    assert made.encoded
    assert made.picture.upright == (50, 25)


def test_a_picture_that_cannot_be_decoded_is_not_made_smaller():
    good = encode(smooth(400, 300))
    with pytest.raises(BadSample, match=r"truncated|damaged"):
        store(good[: len(good) // 2] + b"\xff\xd9", reduced(50))
    with pytest.raises(BadSample, match="truncated"):
        store(good[: len(good) // 2], reduced(50), check=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("crop", "keep", "keep", None, None), "jpeg is 'crop'; allowed are index and keep"),
        (("index", "some", "keep", None, None), "metadata is 'some'; allowed are keep and drop"),
        (("index", "keep", "no", None, None), "progressive is 'no'; allowed are baseline and keep"),
        (("keep", "drop", "keep", None, None), "metadata='drop' changes files"),
        (("keep", "keep", "keep", 0, None), "jpeg_quality is 0"),
        (("keep", "keep", "keep", 101, None), "jpeg_quality is 101"),
        (("keep", "keep", "keep", None, 0), "max_side is 0"),
    ],
)
def test_what_cannot_be(options, said):
    with pytest.raises(InvalidArgument, match=said):
        PictureOptions(*options)


def test_pictures_that_are_no_jpegs_do_not_load_a_compiler():
    code = (
        "import io, sys\n"
        "from PIL import Image\n"
        "from dataplane.prep.options import PictureOptions\n"
        "from dataplane.prep.stored import stored\n"
        "out = io.BytesIO(); Image.new('RGB', (4, 4)).save(out, 'PNG')\n"
        "stored(out.getvalue(), decode=True, max_pixels=100, options=PictureOptions('index', 'keep', 'baseline', None, None))\n"
        "out = io.BytesIO(); Image.new('RGB', (4, 4)).save(out, 'JPEG')\n"
        "stored(out.getvalue(), decode=True, max_pixels=100, options=PictureOptions('keep', 'keep', 'keep', None, None))\n"
        "assert 'numba' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
