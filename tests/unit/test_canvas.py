"""The steps of plans against the functions of Pillow that torchvision calls: equal, bit for bit."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from dataplane.philox import derive
from loaders.canvas import erase, framed, stepped
from loaders.transforms.places import padded
from loaders.transforms.plan import Box, Colour, Erasure, Frame, Warp
from loaders.transforms.warps import affine, rotation
from tests.images import picture

patient = settings(deadline=None, max_examples=150)
factors = st.sampled_from([0.0, 1.0]) | st.floats(0, 3)
FILL = (3, 250, 77)


def planes(image: np.ndarray) -> np.ndarray:
    return image.transpose(2, 0, 1).copy()


def after(image: np.ndarray, *steps) -> np.ndarray:
    """What the steps make of an image [height, width, 3]."""
    return stepped(planes(image), steps).transpose(1, 2, 0)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@st.composite
def images(draw):
    """Noise, pictures, few levels, one level; down to a single pixel."""
    height, width, seed = draw(st.integers(1, 40)), draw(st.integers(1, 40)), draw(st.integers(0, 9))
    kind = draw(st.sampled_from([noise, picture, "few", "flat"]))
    if kind == "few":
        return noise(height, width, seed) // 64 * 50 + 20
    if kind == "flat":
        return np.broadcast_to(noise(1, 1, seed), (height, width, 3)).copy()
    return kind(height, width, seed)


@pytest.mark.parametrize(
    ("kind", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
        ("sharpness", ImageEnhance.Sharpness),
    ],
)
@patient
@given(image=images(), factor=factors)
def test_enhancements(kind, enhance, image, factor):
    assert np.array_equal(after(image, Colour(kind, factor)), np.asarray(enhance(Image.fromarray(image)).enhance(factor)))


@pytest.mark.parametrize(("kind", "function"), [("autocontrast", ImageOps.autocontrast), ("equalize", ImageOps.equalize)])
@patient
@given(image=images())
def test_histograms(kind, function, image):
    assert np.array_equal(after(image, Colour(kind)), np.asarray(function(Image.fromarray(image))))


@patient
@given(images(), st.integers(1, 8), st.floats(0, 256))
def test_tables(image, bits, threshold):
    assert np.array_equal(after(image, Colour("posterize", bits)), np.asarray(ImageOps.posterize(Image.fromarray(image), bits)))
    assert np.array_equal(after(image, Colour("solarize", threshold)), np.asarray(ImageOps.solarize(Image.fromarray(image), threshold)))


@patient
@given(images())
def test_grey(image):
    assert np.array_equal(after(image, Colour("grey")), np.asarray(Image.fromarray(image).convert("L").convert("RGB")))


def turned(image: np.ndarray, turn: float) -> np.ndarray:
    """torchvision's adjust_hue of a Pillow image."""
    hue, saturation, value = Image.fromarray(image).convert("HSV").split()
    moved = np.array(hue) + np.int32(turn * 255).astype(np.uint8)
    return np.asarray(Image.merge("HSV", (Image.fromarray(moved), saturation, value)).convert("RGB"))


@patient
@given(images(), st.floats(-0.5, 0.5))
def test_hue(image, turn):
    assert np.array_equal(after(image, Colour("hue", turn)), turned(image, turn))


@pytest.mark.parametrize("turn", [0.0, 0.3, -0.5])
def test_hue_of_every_sort_of_colour(turn):
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 52, 3)
    assert np.array_equal(after(colours, Colour("hue", turn)), turned(colours, turn))


def warped(image: np.ndarray, matrix, bilinear: bool) -> np.ndarray:
    sampling = Image.Resampling.BILINEAR if bilinear else Image.Resampling.NEAREST
    size = image.shape[1::-1]
    return np.asarray(Image.fromarray(image).transform(size, Image.Transform.AFFINE, matrix, sampling, fillcolor=FILL))


@patient
@given(
    images(),
    st.booleans(),
    st.fixed_dictionaries(
        {
            "angle": st.sampled_from([0.0, 90.0, 180.0]) | st.floats(-180, 180),
            "translate": st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
            "scale": st.just(1.0) | st.floats(0.3, 3),
            "shear": st.just((0.0, 0.0)) | st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
        }
    ),
)
def test_affine_warps(image, bilinear, parameters):
    matrix = affine(image.shape[:2], **parameters)
    assert np.array_equal(after(image, Warp(matrix, bilinear, FILL)), warped(image, matrix, bilinear))


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("shift", [(0.5, 0.0), (-0.5, 0.5), (0.0, -0.5), (3.5, 2.5)])
@pytest.mark.parametrize("turn", [0.0, 1e-9])
def test_centers_on_the_edge(bilinear, shift, turn):
    image = noise(7, 9)
    matrix = (1.0, turn, shift[0], -turn, 1.0, shift[1])
    assert np.array_equal(after(image, Warp(matrix, bilinear, FILL)), warped(image, matrix, bilinear))


@patient
@given(images(), st.booleans(), st.floats(-400, 400), st.none() | st.tuples(st.floats(0, 40), st.floats(0, 40)))
def test_rotations(image, bilinear, angle, center):
    sampling = Image.Resampling.BILINEAR if bilinear else Image.Resampling.NEAREST
    expected = Image.fromarray(image).rotate(angle, sampling, center=center, fillcolor=FILL)
    assert np.array_equal(after(image, Warp(rotation(angle, image.shape[:2], center), bilinear, FILL)), np.asarray(expected))


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
@pytest.mark.parametrize("bilinear", [False, True])
def test_quarter_turns_lose_nothing(angle, bilinear):
    image = noise(16, 16)
    turned = after(image, Warp(rotation(angle, (16, 16)), bilinear, FILL))
    assert np.array_equal(turned, np.rot90(image, angle // 90))


def test_a_clockwise_matrix_moves_pixels_as_it_says():
    image = np.zeros((9, 9, 3), np.uint8)
    image[2, 4] = 255
    assert after(image, Warp(affine((9, 9), angle=90), False, (0, 0, 0)))[4, 6].all(), "the top goes to the right"
    assert after(image, Warp(affine((9, 9), translate=(3, 1)), False, (0, 0, 0)))[3, 7].all()
    assert after(image, Warp(affine((9, 9), scale=2), False, (0, 0, 0)))[0, 4].all(), "twice as far from the middle"


def test_steps_follow_each_other():
    image = picture(20, 30)
    steps = [Colour("brightness", 1.3), Warp(rotation(10, (20, 30)), True, FILL), Colour("equalize"), Colour("saturation", 0.2)]
    expected = image
    for step in steps:
        expected = after(expected, step)
    assert np.array_equal(after(image, *steps), expected)
    assert np.array_equal(after(image), image)


@patient
@given(st.integers(1, 9), st.integers(0, 30), st.integers(0, 30), st.sampled_from(["edge", "reflect", "symmetric"]))
def test_padding_is_that_of_numpy(length, before, behind, mode):
    expected = np.pad(np.arange(length), (before, behind), mode=mode)
    assert np.array_equal(padded(-before, before + length + behind, length, mode), expected)
    assert np.array_equal(
        padded(-before, before + length + behind, length, "constant").clip(-1),
        np.pad(np.arange(length), (before, behind), constant_values=-1),
    )


@patient
@given(images(), st.sampled_from(["constant", "edge", "reflect", "symmetric"]), st.integers(0, 12), st.data())
def test_frames(image, mode, padding, data):
    flip_rows, flip_columns = data.draw(st.booleans()), data.draw(st.booleans())
    height, width = image.shape[:2]
    if mode == "constant":
        whole = np.asarray(ImageOps.expand(Image.fromarray(image), padding, FILL))
    else:
        whole = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode=mode)
    h, w = data.draw(st.integers(1, whole.shape[0])), data.draw(st.integers(1, whole.shape[1]))
    y, x = data.draw(st.integers(0, whole.shape[0] - h)), data.draw(st.integers(0, whole.shape[1] - w))
    frame = Frame(Box(y - padding, x - padding, h, w), (height, width), Box(0, 0, height, width), mode, FILL)
    got = framed(planes(image), frame, flip_rows=flip_rows, flip_columns=flip_columns)
    expected = whole[y : y + h, x : x + w][:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    assert np.array_equal(got.transpose(1, 2, 0), expected)


def test_erasing_a_value():
    image = np.zeros((3, 20, 30), np.float32)
    erase(image, Erasure(Box(2, 3, 5, 7), (1.0, -2.0, 0.5), 0))
    assert np.all(image[:, 2:7, 3:10] == np.float32([1, -2, 0.5])[:, None, None])
    image[:, 2:7, 3:10] = 0
    assert not image.any()


def test_erasing_with_noise():
    image = np.full((3, 100, 120), np.nan, np.float32)
    stream = derive(1, 3, 0, 0, 0)
    erase(image, Erasure(Box(10, 0, 90, 119), None, stream))
    noise = image[:, 10:, :119]
    assert np.isnan(image[:, :10]).all()
    assert np.isnan(image[:, :, 119]).all()
    assert abs(noise.mean()) < 5 / math.sqrt(noise.size)
    assert abs(noise.std() - 1) < 0.02
    assert abs((np.abs(noise) < 1).mean() - 0.6827) < 0.01
    assert abs(np.corrcoef(noise[..., :-1].ravel(), noise[..., 1:].ravel())[0, 1]) < 0.03

    again = np.zeros_like(image)
    erase(again, Erasure(Box(10, 0, 90, 119), None, stream))
    assert np.array_equal(again[:, 10:, :119], noise)
