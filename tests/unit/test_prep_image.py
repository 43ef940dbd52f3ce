"""Pictures are known by their content, measured by their header, and refused with a plain reason when they cannot be used."""

import io
import random
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from dataplane.errors import BadSample
from dataplane.prep.image import EXTENSIONS, FORMATS, SNIFF_BYTES, decode, examine, sniff
from dataplane.prep.jpeg import plain_header
from tests.folders import encode, noise

PICTURE = noise(0, (60, 40))
GREY = PICTURE.convert("L")
LIMIT = 1_000_000


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


GOOD = {
    "rgb.jpg": encode(PICTURE),
    "grey.jpg": encode(GREY),
    "cmyk.jpg": encode(PICTURE.convert("CMYK")),
    "progressive.jpg": encode(PICTURE, progressive=True),
    "untransformed.jpg": encode(PICTURE, keep_rgb=True),
    "turned.jpg": encode(PICTURE, exif=exif(6)),
    "two.jpg": encode(PICTURE, "MPO", save_all=True, append_images=[GREY]),
    "rgb.png": encode(PICTURE, "PNG"),
    "turned.png": encode(PICTURE, "PNG", exif=exif(8)),
    "16 bit.png": encode(GREY.convert("I").convert("I;16"), "PNG"),
    "palette with transparency.png": encode(PICTURE.convert("P"), "PNG", transparency=3),
    "grey and alpha.png": encode(PICTURE.convert("LA"), "PNG"),
    "bits.png": encode(PICTURE.convert("1"), "PNG"),
    "lossy.webp": encode(PICTURE, "WEBP"),
    "lossless.webp": encode(PICTURE, "WEBP", lossless=True),
    "turned.webp": encode(PICTURE, "WEBP", exif=exif(3)),
    "moving.webp": encode(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(180)]),
    "rgb.bmp": encode(PICTURE, "BMP"),
    "rgb.tif": encode(PICTURE, "TIFF"),
    "turned.tif": encode(PICTURE, "TIFF", tiffinfo={274: 6}),
    "16 bit.tif": encode(GREY.convert("I").convert("I;16"), "TIFF"),
    "packed.tif": encode(PICTURE, "TIFF", compression="tiff_lzw"),
    "still.gif": encode(PICTURE.convert("P"), "GIF"),
    "moving.gif": encode(PICTURE.convert("P"), "GIF", save_all=True, append_images=[PICTURE.rotate(180).convert("P")]),
}
TURNED = {"turned.jpg": 6, "turned.png": 8, "turned.webp": 3, "turned.tif": 6}


def reason(data, *, decode=True, max_pixels=LIMIT):
    with pytest.raises(BadSample) as caught:
        examine(data, decode=decode, max_pixels=max_pixels)
    return str(caught.value)


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("name", GOOD)
def test_good_pictures(name, decode):
    found = examine(GOOD[name], decode=decode, max_pixels=LIMIT)
    assert found.format == name.rsplit(".", 1)[1]
    assert (found.info.width, found.info.height, found.info.orientation) == (60, 40, TURNED.get(name, 1))
    assert found.upright == ((40, 60) if TURNED.get(name, 1) >= 5 else (60, 40))


def test_formats_and_extensions_agree():
    assert {sniff(data[:SNIFF_BYTES]) for data in GOOD.values()} == set(FORMATS) == set(EXTENSIONS.values())
    assert sniff(b"BMI is a measure") is None
    assert sniff(b"") is None


def test_what_is_no_picture():
    assert reason(b"") == "an empty file"
    assert reason(b"hello").startswith("not an image")
    assert reason(bytes(1000)).startswith("not an image")
    assert reason(b"\xff\xd8\xff").startswith(("truncated", "damaged"))


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("name", ["rgb.jpg", "cmyk.jpg", "progressive.jpg", "rgb.png", "bits.png", "lossy.webp", "lossless.webp"])
def test_truncation_is_found_everywhere(name, decode):
    data = GOOD[name]
    for end in range(0, len(data), 37):
        assert reason(data[:end], decode=decode)
    assert reason(data[:-2], decode=decode).startswith(("truncated", "damaged"))


@pytest.mark.parametrize("name", ["rgb.bmp", "rgb.tif", "packed.tif", "still.gif"])
def test_truncation_of_the_rarer_formats_is_found(name):
    for end in range(0, len(GOOD[name]) - 2, 61):
        assert reason(GOOD[name][:end])


def test_a_png_that_ends_between_two_chunks():
    assert reason(GOOD["rgb.png"][:-12]) == "truncated: it ends before its IEND chunk"


def test_damage_that_only_decoding_finds():
    data = encode(noise(1, (200, 200)))
    cut = data[: len(data) // 2] + b"\xff\xd9"
    assert reason(cut) == "truncated: premature end of data segment"
    assert examine(cut, decode=False, max_pixels=LIMIT).format == "jpg"
    holed = bytearray(encode(noise(2, (200, 200))))
    holed[len(holed) // 2 : len(holed) // 2 + 4096] = bytes(4096)
    assert reason(bytes(holed)).startswith(("truncated", "damaged"))


def test_a_flipped_byte_in_a_png_is_found():
    data = bytearray(GOOD["rgb.png"])
    data[len(data) // 2] ^= 1
    assert reason(bytes(data)) == "damaged: its 'IDAT' chunk fails its checksum"


def png_header(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + bytes(4) + b"IDAT" + bytes(4)


def test_bombs_are_refused_by_their_header():
    assert reason(png_header(30_000, 30_000)) == "too large: 30,000 × 30,000 pixels are 900,000,000; 1,000,000 are allowed"
    assert reason(png_header(30_000, 30_000), decode=False).startswith("too large")
    assert reason(GOOD["rgb.jpg"], max_pixels=60 * 40 - 1).startswith("too large: 60 × 40")
    examine(GOOD["rgb.jpg"], decode=True, max_pixels=60 * 40)
    side = (16_382).to_bytes(3, "little")
    webp = b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + side + side + bytes(100)
    assert reason(webp, max_pixels=1 << 30).startswith("too large")


def test_odd_orientations_and_damaged_exif_are_upright():
    for value in (0, 9, 77):
        assert examine(encode(PICTURE, exif=exif(value)), decode=True, max_pixels=LIMIT).info.orientation == 1
    data = GOOD["turned.jpg"].replace(b"Exif\0\0MM\0*\0\0\0\x08", b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert data != GOOD["turned.jpg"]
    assert examine(data, decode=True, max_pixels=LIMIT).info.orientation == 1


def test_odd_chroma_sampling_is_left_to_pillow():
    data = encode(PICTURE, subsampling="4:4:4")
    frame = data.index(b"\xff\xc0")
    odd = data[: frame + 11] + b"\x31" + data[frame + 12 :]  # three to one
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg_header(odd)
    assert examine(odd, decode=True, max_pixels=LIMIT).format == "jpg"


@settings(deadline=None)
@given(name=st.sampled_from(sorted(GOOD)), seed=st.integers(0, 2**32), decode=st.booleans())
def test_hostile_bytes_raise_nothing_but_bad_sample(name, seed, decode):
    rng = random.Random(seed)
    data = bytearray(GOOD[name])
    for _ in range(rng.randrange(1, 8)):
        data[rng.randrange(min(len(data), rng.choice((32, 200, len(data)))))] = rng.randrange(256)
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]
    try:
        found = examine(bytes(data), decode=decode, max_pixels=LIMIT)
    except BadSample as error:
        assert str(error)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert found.info.width * found.info.height <= LIMIT


def test_libtiff_says_it_in_the_reason_and_not_on_the_terminal(capfd):
    data = bytearray(GOOD["packed.tif"])
    data[20:400] = bytes(random.Random(1).randbytes(380))
    said = reason(bytes(data))
    assert said.startswith("damaged: ")
    assert capfd.readouterr().err == ""


# ------------------------------------------------------------------ decoded


def upright(data):
    """The pixels as Pillow gives them."""
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I;16"):
            return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
        turned = ImageOps.exif_transpose(image) if image.format != "TIFF" else image
        return np.asarray((turned.convert("RGBA") if turned.mode == "P" else turned).convert("RGB"))


@pytest.mark.parametrize("name", GOOD)
def test_pixels_are_those_that_pillow_gives(name):
    found, expected = decode(GOOD[name], max_pixels=LIMIT), upright(GOOD[name])
    assert found.shape == expected.shape == ((60, 40, 3) if TURNED.get(name, 1) >= 5 else (40, 60, 3))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= (4 if name.endswith("jpg") else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation):
    data = encode(PICTURE, "PNG", exif=exif(orientation))
    assert np.array_equal(decode(data, max_pixels=LIMIT), upright(data))


def test_what_does_not_decode():
    data = encode(noise(1, (200, 200)))
    with pytest.raises(BadSample, match=r"truncated|damaged"):
        decode(data[: len(data) // 2] + b"\xff\xd9", max_pixels=LIMIT)
    with pytest.raises(BadSample, match="too large"):
        decode(GOOD["rgb.png"], max_pixels=100)
    with pytest.raises(BadSample, match="not an image"):
        decode(b"hello", max_pixels=LIMIT)


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(sorted(GOOD)), seed=st.integers(0, 2**32))
def test_decoding_hostile_bytes_raises_nothing_but_bad_sample(name, seed):
    rng = random.Random(seed)
    data = bytearray(GOOD[name])
    for _ in range(rng.randrange(1, 8)):
        data[rng.randrange(min(len(data), rng.choice((32, 200, len(data)))))] = rng.randrange(256)
    try:
        pixels = decode(bytes(data), max_pixels=LIMIT)
    except BadSample as error:
        assert str(error)  # noqa: PT017
    else:
        assert pixels.shape[2] == 3
        assert pixels.size <= 3 * LIMIT


@settings(deadline=None)
@given(name=st.sampled_from(sorted(name for name in GOOD if name.endswith(".jpg"))), seed=st.integers(0, 2**32))
def test_a_plain_header_is_what_pillow_says_of_it(name, seed):
    """Whatever happened to the bytes, and where the short look gives up it says so."""
    rng = random.Random(seed)
    data = bytearray(GOOD[name])
    for _ in range(rng.randrange(4)):
        data[rng.randrange(min(len(data), 700))] = rng.choice((0, 1, 0xD8, 0xDA, 0xE1, 0xFF, rng.randrange(256)))
    if rng.random() < 0.3:
        del data[rng.randrange(len(data)) :]
    found = plain_header(bytes(data)) if sniff(bytes(data)) == "jpg" else None
    if found is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = JpegImageFile(io.BytesIO(data))
        assert (*image.size, image.fp.tell()) == found
        assert image.getexif().get(0x0112, 1) == 1


def test_which_headers_are_plain():
    icc = encode(PICTURE, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    plain = {name for name, data in GOOD.items() if name.endswith(".jpg") and plain_header(data)}
    assert plain == {"rgb.jpg", "grey.jpg", "progressive.jpg"}
    assert plain_header(icc)[:2] == PICTURE.size


def test_threads_may_look_at_once():
    """Also at what touches the filters of warnings, which are those of the process."""
    before = list(warnings.filters)
    data = [GOOD[name] for name in sorted(GOOD)] * 20
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda data: examine(data, decode=True, max_pixels=LIMIT), data))
    assert found == [examine(each, decode=True, max_pixels=LIMIT) for each in data]
    assert warnings.filters == before
