"""The kernels against Pillow and torch at identical boxes, against the definition of their random parameters, and against damage."""

import hashlib
import io
import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from dataplane.errors import InvalidArgument
from dataplane.philox import uniforms
from loaders.kernels.draws import draw, draw_crop, draw_erasure, draw_flip
from loaders.kernels.jpeg import frame
from loaders.kernels.resample import resample
from loaders.kernels.taps import ANTIALIASED, AREA, CUBIC, LINEAR, NEAREST, reach, taps

patient = settings(deadline=None, max_examples=150)
ONES, ZEROS, HALVES = np.ones(3, np.float32), np.zeros(3, np.float32), np.full(3, 0.5, np.float32)
sides = st.integers(1, 90)
kinds = st.sampled_from([ANTIALIASED, LINEAR, NEAREST, CUBIC, AREA])


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def whole(length: int, size: int) -> tuple[int, int, int, int, int]:
    return 0, length, size, 0, size


def as_float(source, axes, kind=ANTIALIASED, flip=False, levels=(ONES, ZEROS), *, flip_rows=False) -> np.ndarray:
    out = np.full((3, axes[0][4], axes[1][4]), np.nan, np.float32)
    resample(source, axes, (kind, flip_rows, flip, False), levels, out)
    return out


def as_uint8(source, axes, kind=ANTIALIASED, flip=False) -> np.ndarray:
    out = np.zeros((3, axes[0][4], axes[1][4]), np.uint8)
    resample(source, axes, (kind, False, flip, False), (ONES, HALVES), out)
    return out.transpose(1, 2, 0)


def levels_apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@st.composite
def crops(draw):
    """An image, a box of it and the size that the box is resized to."""
    height, width = draw(sides), draw(sides)
    h, w = draw(st.integers(1, height)), draw(st.integers(1, width))
    y, x = draw(st.integers(0, height - h)), draw(st.integers(0, width - w))
    return noise(height, width), (y, x, h, w), (draw(sides), draw(sides))


@patient
@given(crops(), st.booleans())
def test_antialiased_equals_pillow(crop, flip):
    image, (y, x, h, w), (oh, ow) = crop
    got = as_uint8(image, ((y, h, oh, 0, oh), (x, w, ow, 0, ow)), flip=flip)
    expected = np.asarray(Image.fromarray(image).crop((x, y, x + w, y + h)).resize((ow, oh), Image.Resampling.BILINEAR))
    assert levels_apart(got[:, ::-1] if flip else got, expected) <= 1


@patient
@given(crops())
def test_nearest_takes_the_pixel_under_the_center(crop):
    image, (y, x, h, w), (oh, ow) = crop
    rows, columns = (2 * np.arange(oh) + 1) * h // (2 * oh), (2 * np.arange(ow) + 1) * w // (2 * ow)
    got = as_uint8(image, ((y, h, oh, 0, oh), (x, w, ow, 0, ow)), NEAREST)
    assert np.array_equal(got, image[y : y + h, x : x + w][rows][:, columns])


@patient
@given(crops(), st.sampled_from([(ANTIALIASED, True), (LINEAR, False)]))
def test_bilinear_equals_torch(crop, kind_and_antialias):
    image, (y, x, h, w), (oh, ow) = crop
    kind, antialias = kind_and_antialias
    assume(ow > 1)  # torch 2.13 repeats the first row of an antialiased image of one column
    got = as_float(image, ((y, h, oh, 0, oh), (x, w, ow, 0, ow)), kind)
    planes = torch.from_numpy(image[y : y + h, x : x + w].transpose(2, 0, 1).astype(np.float32, order="C"))[None]
    expected = torch.nn.functional.interpolate(planes, (oh, ow), mode="bilinear", antialias=antialias, align_corners=False)[0]
    assert np.abs(got - expected.numpy()).max() < 0.02  # of 255


@patient
@given(crops())
def test_cubic_equals_pillow_in_floats(crop):
    image, (y, x, h, w), (oh, ow) = crop
    got = as_float(image, ((y, h, oh, 0, oh), (x, w, ow, 0, ow)), CUBIC)
    for plane, channel in zip(got, image.transpose(2, 0, 1), strict=True):
        exact = Image.fromarray(channel.astype(np.float32)).crop((x, y, x + w, y + h)).resize((ow, oh), Image.Resampling.BICUBIC)
        assert np.abs(plane - np.asarray(exact)).max() < 0.01


@patient
@given(crops())
def test_area_is_the_mean_of_what_a_pixel_covers(crop):
    image, (y, x, h, w), (oh, ow) = crop
    got = as_float(image, ((y, h, oh, 0, oh), (x, w, ow, 0, ow)), AREA)
    fine = image[y : y + h, x : x + w].astype(float).repeat(oh, axis=0).reshape(oh, h, w, 3).mean(1)
    fine = fine.repeat(ow, axis=1).reshape(oh, ow, w, 3).mean(2)
    assert np.abs(got.transpose(1, 2, 0) - fine).max() < 0.01


@patient
@given(crops())
def test_area_equals_opencv_where_it_shrinks(crop):
    image, (y, x, h, w), (oh, ow) = crop
    assume(oh <= h and ow <= w)
    got = as_float(image, ((y, h, oh, 0, oh), (x, w, ow, 0, ow)), AREA)
    expected = cv2.resize(image[y : y + h, x : x + w].astype(np.float32), (ow, oh), interpolation=cv2.INTER_AREA)
    assert np.abs(got.transpose(1, 2, 0) - expected).max() < 0.01


@patient
@given(crops(), kinds, st.booleans())
def test_rows_are_mirrored_as_columns_are(crop, kind, flip):
    image, (y, x, h, w), (oh, ow) = crop
    axes = (y, h, oh, 0, oh), (x, w, ow, 0, ow)
    plain = as_float(image, axes, kind, flip)
    assert np.allclose(as_float(image, axes, kind, flip, flip_rows=True), plain[:, ::-1], rtol=0, atol=1e-3)


@patient
@given(crops(), kinds, st.booleans(), st.data())
def test_a_window_is_a_part_of_the_whole(crop, kind, flip, data):
    image, (y, x, h, w), (oh, ow) = crop
    top, left = data.draw(st.integers(0, oh - 1)), data.draw(st.integers(0, ow - 1))
    rows, columns = data.draw(st.integers(1, oh - top)), data.draw(st.integers(1, ow - left))
    full = as_float(image, ((y, h, oh, 0, oh), (x, w, ow, 0, ow)), kind)[:, top : top + rows, left : left + columns]
    axes = (y, h, oh, top, rows), (x, w, ow, left, columns)
    assert np.allclose(as_float(image, axes, kind, flip), full[..., ::-1] if flip else full, rtol=0, atol=1e-3)

    (low, high), (first, last) = reach(axes[0], kind), reach(axes[1], kind)
    moved = (y - low, *axes[0][1:]), (x - first, *axes[1][1:])
    seen = np.ascontiguousarray(image[low:high, first:last])
    assert np.array_equal(as_float(seen, moved, kind, flip), as_float(image, axes, kind, flip)), "something outside the reach was used"


@patient
@given(st.integers(1, 500), st.integers(1, 300), kinds, st.booleans(), st.data())
def test_taps(length, size, kind, reverse, data):
    offset = data.draw(st.integers(0, size - 1))
    axis = (7, length, size, offset, data.draw(st.integers(1, size - offset)))
    first, weights = taps(axis, kind, reverse)
    low, high = reach(axis, kind)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-6)
    assert kind == CUBIC or weights.min() >= 0
    assert 7 <= low <= first.min()
    assert first.max() + weights.shape[1] <= high <= 7 + length
    assert np.all(np.diff(first[::-1] if reverse else first) >= 0)


@pytest.mark.parametrize("kind", [ANTIALIASED, LINEAR, NEAREST, CUBIC, AREA])
def test_the_same_size_changes_nothing(kind):
    image = noise(37, 53)
    assert np.array_equal(as_uint8(image, (whole(37, 37), whole(53, 53)), kind), image)


@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_flat_images_stay_flat(value):
    image = np.full((61, 83, 3), value, np.uint8)
    assert np.all(as_uint8(image, (whole(61, 17), whole(83, 200))) == value)


def test_levels_belong_to_their_channels():
    image = noise(40, 50)
    axes = whole(40, 24), whole(50, 24)
    scale, bias = np.array([1, 2, 0.5], np.float32), np.array([-3, 0, 7], np.float32)
    plain = as_float(image, axes)
    assert np.allclose(as_float(image, axes, levels=(scale, bias)), plain * scale[:, None, None] + bias[:, None, None], atol=1e-3)


@pytest.mark.parametrize("shift_bytes", [0, 4, 16])
@pytest.mark.parametrize("width", [224, 220, 8, 5])
def test_every_alignment_and_width_gives_the_same(shift_bytes, width):
    image, axes = noise(50, 60), (whole(50, 30), whole(60, width))
    memory = np.full(3 * 30 * width + 64, np.nan, np.float32)
    start = -memory.ctypes.data % 64 // 4 + shift_bytes // 4
    out = memory[start : start + 3 * 30 * width].reshape(3, 30, width)
    resample(image, axes, (ANTIALIASED, False, False, False), (ONES, ZEROS), out)
    assert np.array_equal(out, as_float(image, axes))
    assert np.isnan(np.delete(memory, np.s_[start : start + out.size])).all(), "memory around the output was touched"


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [(30, 224), (9, 5), (3, 3), (8, 16)])
def test_interleaved_channels_are_the_planes_in_another_order(dtype, size):
    image, axes = noise(50, 60), (whole(50, size[0]), whole(60, size[1]))
    levels = (ONES, HALVES) if dtype == np.uint8 else (np.float32([0.017, 0.0175, 0.0174]), -2 * ONES)
    planes, interleaved = np.zeros((3, *size), dtype), np.zeros((*size, 3), dtype)
    resample(image, axes, (ANTIALIASED, False, True, False), levels, planes)
    resample(image, axes, (ANTIALIASED, False, True, True), levels, interleaved)
    assert np.array_equal(interleaved.transpose(2, 0, 1), planes)
    with pytest.raises(InvalidArgument):
        resample(image, axes, (ANTIALIASED, False, True, True), levels, np.zeros((*size, 4), dtype))


def test_the_same_bits_everywhere():
    """Committed: additions and multiplications are never fused, so no CPU may give another result."""
    image = (np.arange(97 * 131 * 3, dtype=np.uint32) * 2654435761 >> 24).astype(np.uint8).reshape(97, 131, 3)
    out = as_float(image, ((3, 91, 56, 2, 50), (5, 120, 70, 1, 64)), flip=True, levels=(np.float32([0.017, 0.0175, 0.0174]), -2 * ONES))
    assert hashlib.blake2b(out.astype("<f4").tobytes(), digest_size=8).hexdigest() == "b62693886dc720f7"


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ((whole(41, 24), whole(50, 24)), (3, 24, 24)),
        ((whole(40, 24), whole(51, 24)), (3, 24, 24)),
        (((-1, 40, 24, 0, 24), whole(50, 24)), (3, 24, 24)),
        ((whole(40, 24), (-1, 50, 24, 0, 24)), (3, 24, 24)),
        ((whole(40, 24), whole(50, 24)), (3, 24, 25)),
        ((whole(40, 24), whole(50, 24)), (1, 24, 24)),
    ],
)
def test_what_does_not_fit_is_refused(axes, shape):
    with pytest.raises(InvalidArgument):
        resample(noise(40, 50), axes, (ANTIALIASED, False, False, False), (ONES, ZEROS), np.zeros(shape, np.float32))


def torchvision_crop(u, height, width, scale, ratio):
    """RandomResizedCrop.get_params of torchvision 0.2x, with its draws taken from u."""
    log_ratio = math.log(ratio[0]), math.log(ratio[1])
    for t in range(10):
        area, aspect, down, right = u[4 * t : 4 * t + 4]
        target_area = height * width * (scale[0] + (scale[1] - scale[0]) * area)
        aspect_ratio = math.exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * aspect)
        w = round(math.sqrt(target_area * aspect_ratio))
        h = round(math.sqrt(target_area / aspect_ratio))
        if 0 < w <= width and 0 < h <= height:
            return math.floor(down * (height - h + 1)), math.floor(right * (width - w + 1)), h, w
    in_ratio = width / height
    if in_ratio < min(ratio):
        w, h = width, round(width / min(ratio))
    elif in_ratio > max(ratio):
        w, h = round(height * max(ratio)), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@patient
@given(
    st.integers(0, 2**63 - 1),
    st.integers(1, 2000),
    st.integers(1, 2000),
    st.sampled_from([(0.08, 1.0), (0.9, 1.0), (1.0, 1.0)]),
    st.sampled_from([(3 / 4, 4 / 3), (1.0, 1.0), (0.1, 0.2), (5.0, 9.0)]),
)
def test_crops_are_those_of_torchvision(stream, height, width, scale, ratio):
    u = np.empty(40)
    uniforms(stream, u)
    y, x, h, w = draw_crop(stream, (height, width), scale, ratio)
    assert 0 <= y <= y + h <= height
    assert 0 <= x <= x + w <= width
    assert h > 0
    assert w > 0
    expected = torchvision_crop(u, height, width, scale, ratio)
    if min(expected[2:]) > 0:  # torchvision's fall-back may round a side of a sliver to nothing
        assert (y, x, h, w) == expected


def test_crops_are_committed():
    drawn = [draw_crop(stream, (375, 500), (0.08, 1.0), (3 / 4, 4 / 3)) for stream in (0, 1, 2**63 - 1)]
    assert drawn == [(68, 197, 161, 174), (107, 317, 214, 164), (15, 8, 357, 447)]


def torchvision_erasure(u, height, width, scale, ratio):
    """RandomErasing.make_params of torchvision 0.2x, with its draws taken from u."""
    log_ratio = math.log(ratio[0]), math.log(ratio[1])
    for t in range(10):
        area, aspect, down, right = u[4 * t + 1 : 4 * t + 5]
        erase_area = height * width * (scale[0] + (scale[1] - scale[0]) * area)
        aspect_ratio = math.exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * aspect)
        h, w = round(math.sqrt(erase_area * aspect_ratio)), round(math.sqrt(erase_area / aspect_ratio))
        if h < height and w < width:
            return math.floor(down * (height - h + 1)), math.floor(right * (width - w + 1)), h, w
    return 0, 0, 0, 0


@patient
@given(st.integers(0, 2**63 - 1), st.integers(1, 500), st.integers(1, 500), st.sampled_from([(0.02, 0.33), (0.9, 1.0)]))
def test_erasures_are_those_of_torchvision(stream, height, width, scale):
    y, x, h, w = draw_erasure(stream, (height, width), scale, (0.3, 3.3))
    assert (y, x, h, w) == torchvision_erasure(draw(stream, 41), height, width, scale, (0.3, 3.3))
    assert 0 <= y <= y + h <= height
    assert 0 <= x <= x + w <= width


def test_draws_are_the_uniforms_of_a_stream():
    u = np.empty(9)
    uniforms(7, u)
    assert draw(7, 9) == u.tolist()
    assert draw(7, 4) == u[:4].tolist()


def test_flips_have_their_probability():
    for p in (0.0, 0.1, 0.5, 1.0):
        flips = sum(draw_flip(stream, p) for stream in range(4000))
        assert abs(flips - 4000 * p) < 5 * math.sqrt(4000 * 0.25)
        assert p not in (0.0, 1.0) or flips == 4000 * p


def jpeg(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def header(data: bytes) -> tuple[int, int, int, int, bool]:
    return frame(np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    ("mode", "options", "components", "cuttable"),
    [
        ("RGB", {}, 3, True),
        ("RGB", {"subsampling": 0, "quality": 100}, 3, True),
        ("RGB", {"optimize": True, "comment": b"x" * 3000}, 3, True),
        ("L", {}, 1, True),
        ("CMYK", {}, 4, True),
        ("RGB", {"progressive": True}, 3, False),
        ("RGB", {"restart_marker_blocks": 3}, 3, False),
    ],
)
def test_frame_of_a_jpeg(mode, options, components, cuttable):
    data = jpeg(Image.fromarray(noise(45, 311)).convert(mode), **options)
    height, width, channels, at, cut = header(data)
    assert (height, width, channels, cut) == (45, 311, components, cuttable)
    assert data[at : at + 4] == bytes([0, 45, 1, 55])
    filled = data[:2] + b"\xff\xff" + data[2:]  # fill bytes may precede any marker
    assert header(filled) == (height, width, channels, at + 2, cut)


def test_a_frame_cut_short_is_no_frame():
    data = jpeg(Image.fromarray(noise(45, 31)))
    entropy = data.index(b"\xff\xda") + 4
    for size in range(2, entropy, 7):
        assert header(data[:size]) == (0, 0, 0, 0, False)
    assert header(data[:2] + b"\x00" + data[2:]) == (0, 0, 0, 0, False)


@patient
@given(st.binary(max_size=200))
def test_any_bytes_can_be_asked_for_a_frame(data):
    height, width, _, at, cuttable = header(b"\xff\xd8" + data)
    assert at <= len(data)
    assert not cuttable or (height > 0 and width >= 0)
