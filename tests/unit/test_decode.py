"""Decoding against Pillow: every format, sampling and cut; and what damage turns into."""

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from dataplane.errors import BadSample
from loaders.decode import Workspace, decode, decode_int64, stored_shape
from loaders.transforms import Box
from tests.images import SAMPLINGS, as_pillow, encoded, jpeg, picture

patient = settings(deadline=None, max_examples=60)


def decoded(data, bottom: int | None = None, size: tuple[int, int] | None = None) -> np.ndarray:
    """All that `decode` gives, copied out of its workspace; `size` (width, height) is the header's unless given."""
    width, height = size or stored_shape(data)[1::-1]
    box = Box(0, 0, height if bottom is None else bottom, width)
    pixels, y, x = decode(data, height=height, width=width, box=box, workspace=Workspace())
    assert (y, x) == (0, 0)
    return pixels.copy()


@patient
@given(st.integers(1, 100), st.integers(1, 100), st.sampled_from(SAMPLINGS), st.booleans(), st.data())
def test_a_cut_jpeg_has_the_same_upper_rows(height, width, sampling, writable, data):
    original = jpeg(picture(height, width), sampling, data.draw(st.sampled_from([40, 90, 100])))
    given_data = bytearray(original) if writable else original
    bottom = data.draw(st.integers(1, height))
    got = decoded(given_data, bottom, (width, height))
    assert bottom <= got.shape[0] <= min(height, bottom + 2)
    assert np.array_equal(got[:bottom], as_pillow(original)[:bottom])
    assert given_data == original, "the height in the header was not restored"


@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_blocks": 2}, {"optimize": True, "keep_rgb": True}])
def test_other_jpegs(options):
    data = encoded(picture(83, 121), "JPEG", quality=92, **options)
    for bottom in (1, 40, 83):
        assert np.array_equal(decoded(data, bottom)[:bottom], as_pillow(data)[:bottom])


def test_cmyk_jpegs_are_converted_by_pillow():
    data = encoded(Image.fromarray(picture(40, 50)).convert("CMYK"), "JPEG")
    assert np.array_equal(decoded(data), as_pillow(data))


def test_a_sampling_that_has_no_name_falls_back_to_pillow():
    data = bytearray(jpeg(picture(32, 32), "444"))
    frame = data.index(b"\xff\xc0")
    data[frame + 14] = data[frame + 17] = 0x12  # chroma of twice the luma's height
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg(data)
    assert decoded(data, 8).shape == (32, 32, 3)


def test_exif_and_other_segments_do_not_matter():
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "a camera" * 500
    data = encoded(picture(60, 70), "JPEG", exif=exif, comment=b"\xff\xc0" * 50, icc_profile=b"\xff\xda" * 99)
    assert np.array_equal(decoded(data, 20)[:20], as_pillow(data)[:20])


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        (kind, mode)
        for kind, modes in {
            "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
            "BMP": ("1", "L", "RGB"),
            "GIF": ("L", "P"),
            "WEBP": ("RGB", "RGBA"),
            "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"),
        }.items()
        for mode in modes
    ],
)
def test_modes_and_formats_are_those_of_pillow(kind, mode):
    image = Image.fromarray(picture(31, 42))
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(np.tile(np.arange(42, dtype=np.uint8) * 6, (31, 1))))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(image.convert(mode), kind, **options)
    got = decoded(data)
    assert np.array_equal(got, as_pillow(data))
    assert got.flags.c_contiguous
    assert got.flags.writeable


def test_alpha_is_dropped_and_nothing_blended():
    pixels = picture(20, 30)
    transparent = np.dstack([pixels, np.zeros((20, 30), np.uint8)])
    assert np.array_equal(decoded(encoded(transparent)), pixels)


def test_palettes_with_transparency():
    palette = Image.fromarray(picture(20, 30)).quantize(16)
    data = encoded(palette, transparency=bytes([0, 128] + [255] * 14))
    assert np.array_equal(decoded(data), np.asarray(palette.convert("RGB")))


def test_sixteen_bits_keep_the_high_byte():
    grey = np.random.default_rng(0).integers(0, 65536, (20, 30)).astype(np.uint16)
    for data in (encoded(Image.fromarray(grey)), encoded(Image.fromarray(grey), "TIFF"), cv2.imencode(".png", grey)[1].tobytes()):
        assert np.array_equal(decoded(data), np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2))
    colour = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    assert np.array_equal(decoded(cv2.imencode(".png", colour)[1].tobytes())[..., ::-1], colour >> 8)


def test_the_first_frame_of_an_animation():
    frames = [Image.fromarray(picture(20, 30, seed)).quantize(32) for seed in range(3)]
    for kind in ("GIF", "WEBP", "TIFF"):
        data = encoded(frames[0].convert("RGB"), kind, save_all=True, append_images=[frame.convert("RGB") for frame in frames[1:]])
        assert np.array_equal(decoded(data), as_pillow(data))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_kinds_of_buffers(kind):
    data = jpeg(picture(60, 50), "420")
    assert np.array_equal(decoded(kind(data), 30), decoded(data, 30))


def damaged() -> dict[str, bytes]:
    good = jpeg(picture(64, 64), "420")
    png = encoded(picture(64, 64))
    return {
        "empty": b"",
        "text": b"not an image at all",
        "a start only": good[:2],
        "a header only": good[:300],
        "half a JPEG": good[: len(good) // 2],
        "no end": good[:-2],
        "half a PNG": png[: len(png) // 2],
        "a broken PNG": png[:60] + bytes(40) + png[100:],
        "a format nobody asked for": encoded(picture(64, 64), "PPM"),
        "32-bit integers": encoded(Image.fromarray(np.zeros((64, 64), np.int32)), "TIFF"),
        "floats": encoded(Image.fromarray(np.zeros((64, 64), np.float32)), "TIFF"),
    }


@pytest.mark.parametrize("name", damaged())
@pytest.mark.parametrize("size", [(64, 64), None])
def test_damage_is_a_bad_sample(name, size):
    with pytest.raises(BadSample):
        decoded(damaged()[name], size=size)


def test_damage_in_the_rows_that_are_needed():
    data = bytearray(jpeg(picture(64, 64), "444"))
    scan = data.index(b"\xff\xda") + 14
    data[scan + 200 : scan + 202] = b"\xff\xd9"
    original = bytes(data)
    with pytest.raises(BadSample, match="Corrupt JPEG data"):
        decoded(data, 32, (64, 64))
    assert bytes(data) == original


@patient
@given(st.integers(0, 2000), st.integers(1, 255), st.sampled_from(["420", "444"]))
def test_any_flipped_byte_decodes_or_is_a_bad_sample(at, flip, sampling):
    data = bytearray(jpeg(picture(40, 56), sampling))
    data[at % len(data)] ^= flip
    try:
        got = decoded(data, size=(56, 40))
    except BadSample:
        return
    assert got.shape == (40, 56, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_index_and_the_bytes_have_to_agree(kind):
    data = encoded(picture(40, 50), kind)
    for size in ((50, 41), (49, 40), (40, 50), (20, 100), (500, 400)):
        with pytest.raises(BadSample, match=rf"50 × 40 pixels, the index says {size[0]} × {size[1]}"):
            decoded(data, size=size)


def test_bombs_are_refused_before_memory_is_taken():
    data = bytearray(jpeg(picture(40, 50), "420"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\x75\x30\x75\x30"
    with pytest.raises(BadSample, match="30000 × 30000"):
        decoded(data, size=(30000, 30000))
    with pytest.raises(BadSample):
        decoded(data)


def test_scratch_is_used_again_unless_it_is_huge():
    workspace = Workspace()
    first = workspace.pixels((40, 50, 3))
    assert np.shares_memory(first, workspace.pixels((30, 60, 3)))
    assert not np.shares_memory(workspace.pixels((5000, 5000, 3)), workspace.pixels((5000, 5000, 3)))
    assert np.shares_memory(first, workspace.pixels((1, 1, 3)))


def test_bytes_between_the_segments_of_a_header():
    data = jpeg(picture(40, 50), "444")
    with pytest.raises(BadSample, match="extraneous bytes"):
        decoded(data[:20] + b"\x00\x00\x00" + data[20:], 8, (50, 40))  # behind the JFIF segment


def test_numbers():
    assert [decode_int64(text) for text in (b"7", b" -12\n", b"+3", bytearray(b"007"))] == [7, -12, 3, 7]
    assert decode_int64(np.frombuffer(b"9223372036854775807", np.uint8)) == 2**63 - 1
    for text in (b"", b"7.0", b"1_000", b"seven", "٣".encode(), b"9223372036854775808", b"-9223372036854775809"):
        with pytest.raises(BadSample, match="decimal"):
            decode_int64(text)


def test_photographs(photos):
    """Cut photographs are the upper part of whole ones."""
    for position, path in enumerate(sorted(photos.glob("*.jpg"))[::6]):
        data = path.read_bytes()
        whole = as_pillow(data)
        bottom = 1 + position * 7919 % whole.shape[0]
        assert np.array_equal(decoded(data, bottom)[:bottom], whole[:bottom]), path.name


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_the_shape_in_the_header(kind):
    exif = Image.Exif()
    for orientation, read in ((1, 1), (6, 6), (8, 8), (9, 1)):
        exif[ExifTags.Base.Orientation] = orientation
        assert stored_shape(encoded(picture(61, 83), kind, exif=exif)) == (61, 83, read)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_pixels_come_as_they_are_stored(orientation, kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels = picture(61, 83)
    data = encoded(pixels, kind, exif=exif)
    stored = as_pillow(data) if kind == "JPEG" else pixels
    assert np.array_equal(decoded(data, size=(83, 61)), stored), "orientation was applied"
