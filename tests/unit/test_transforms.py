"""Descriptions are checked, survive JSON, and plan what torchvision would do; random parameters depend on the op's own stream only."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loaders.transforms
from dataplane.errors import BadSample, InvalidArgument
from dataplane.philox import sample_stream
from loaders.kernels.draws import draw
from loaders.kernels.taps import ANTIALIASED, AREA, CUBIC, LINEAR, NEAREST
from loaders.transforms import (
    Box,
    CenterCrop,
    ColorJitter,
    Grayscale,
    HorizontalFlip,
    ImageTransforms,
    Int64,
    Normalize,
    RandAugment,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomGrayscale,
    RandomResizedCrop,
    RandomRotation,
    Resize,
    ToFloat,
    ToLayout,
    VerticalFlip,
    from_dict,
    to_dict,
)
from loaders.transforms.plan import Colour, Erasure, Warp
from loaders.transforms.warps import affine, rotation

patient = settings(deadline=None)
lengths = st.integers(1, 700)
sizes = lengths | st.tuples(lengths, lengths)
shares = st.floats(0.01, 1).map(lambda share: (share, 1.0))
triples = st.tuples(*[st.floats(0.01, 1)] * 3)
paddings = st.none() | st.integers(0, 9) | st.tuples(*[st.integers(0, 9)] * 2) | st.tuples(*[st.integers(0, 9)] * 4)
fills = st.integers(0, 255) | st.tuples(*[st.integers(0, 255)] * 3)
turns = st.floats(0, 90) | st.tuples(st.floats(-90, 0), st.floats(0, 90))
amounts = st.none() | st.floats(0, 0.5) | st.tuples(st.floats(0, 0.2), st.floats(0.2, 0.5))
modes = st.sampled_from(["constant", "edge", "reflect", "symmetric"])
samplings = st.sampled_from(["nearest", "bilinear"])
floats = st.sampled_from(["float32", "float16"])
transforms = st.one_of(
    st.builds(Resize, sizes, st.sampled_from(["bilinear", "nearest", "area"]), st.booleans()),
    st.builds(CenterCrop, sizes),
    st.builds(RandomCrop, sizes, paddings, st.booleans(), fills, modes),
    st.builds(RandomResizedCrop, sizes, shares, shares, st.just(True), st.sampled_from(["bilinear", "bicubic", "area", "nearest"])),
    st.builds(HorizontalFlip, st.floats(0, 1)),
    st.builds(VerticalFlip, st.floats(0, 1)),
    st.builds(RandomRotation, turns, samplings, st.none() | st.tuples(st.floats(0, 9), st.floats(0, 9)), fills),
    st.builds(
        RandomAffine, turns, st.none() | shares, st.none() | shares, st.none() | st.just(8) | st.just((1, 2, 3, 4)), samplings, fills
    ),
    st.builds(ColorJitter, amounts, amounts, amounts, amounts),
    st.builds(Grayscale, st.sampled_from([1, 3])),
    st.builds(RandomGrayscale, st.floats(0, 1)),
    st.builds(RandAugment, st.integers(0, 5), st.integers(0, 9), st.integers(10, 40), samplings, fills),
    st.builds(ToFloat, floats),
    st.builds(Normalize, triples, triples, floats),
    st.builds(RandomErasing, st.floats(0, 1), shares, shares, st.floats(-2, 2) | triples | st.just("random")),
    st.builds(ToLayout, st.sampled_from(["CHW", "HWC"])),
    st.just(Int64()),
)


def plan(ops, height=375, width=500, position=0, **where):
    return ImageTransforms(tuple(ops)).plan(height, width, **{"seed": 0, "component": 0, "epoch": 0, "position": position} | where)


def test_exported_names():
    assert loaders.transforms.__all__ == sorted(loaders.transforms.__all__)
    assert all(hasattr(loaders.transforms, name) for name in loaders.transforms.__all__)


@patient
@given(transforms)
def test_json_and_back(transform):
    description = to_dict(transform)
    written = json.loads(json.dumps(description))
    assert written == description
    assert from_dict(written) == transform
    assert hash(from_dict(written)) == hash(transform)


def test_what_an_older_release_wrote_is_read():
    assert from_dict({"op": "ToFloat"}) == ToFloat()
    assert from_dict({"op": "Normalize", "mean": [0.5] * 3, "std": [0.2] * 3}) == Normalize((0.5,) * 3, (0.2,) * 3)
    crop = {"op": "RandomResizedCrop", "size": 224, "scale": [0.08, 1.0], "ratio": [0.75, 1.5], "antialias": True}
    assert from_dict(crop) == RandomResizedCrop(224, ratio=(0.75, 1.5))


def test_what_an_older_release_can_do_is_written_as_it_reads_it():
    assert to_dict(ToFloat()) == {"op": "ToFloat"}
    assert sorted(to_dict(Normalize.imagenet())) == ["mean", "op", "std"]
    assert sorted(to_dict(RandomResizedCrop(224))) == ["antialias", "op", "ratio", "scale", "size"]
    assert to_dict(ToFloat("float16")) == {"op": "ToFloat", "dtype": "float16"}


@pytest.mark.parametrize("data", [{}, {"op": "Sharpen"}, {"op": "Resize"}, {"op": "Resize", "size": 8, "colour": 1}, {"op": ["Resize"]}])
def test_unknown_descriptions(data):
    with pytest.raises(InvalidArgument):
        from_dict(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Resize(0),
        lambda: Resize(True),
        lambda: Resize((224,)),
        lambda: Resize((224, 0)),
        lambda: Resize(224.0),
        lambda: Resize(224, "lanczos"),
        lambda: CenterCrop(-1),
        lambda: RandomResizedCrop("224"),
        lambda: RandomResizedCrop(224, scale=(0, 1)),
        lambda: RandomResizedCrop(224, scale=(0.5, 0.4)),
        lambda: RandomResizedCrop(224, scale=(0.5, 1.5)),
        lambda: RandomResizedCrop(224, scale=(0.5,)),
        lambda: RandomResizedCrop(224, ratio=(2, 1)),
        lambda: RandomResizedCrop(224, ratio=(1, float("inf"))),
        lambda: HorizontalFlip(1.1),
        lambda: HorizontalFlip(float("nan")),
        lambda: Resize(224, "bicubic", antialias=False),
        lambda: RandomResizedCrop(224, interpolation="lanczos"),
        lambda: RandomCrop(0),
        lambda: RandomCrop(4, padding=-1),
        lambda: RandomCrop(4, padding=(1, 2, 3)),
        lambda: RandomCrop(4, padding=1.5),
        lambda: RandomCrop(4, fill=256),
        lambda: RandomCrop(4, fill=(1, 2)),
        lambda: RandomCrop(4, padding_mode="wrap"),
        lambda: VerticalFlip(-0.1),
        lambda: RandomRotation(-5),
        lambda: RandomRotation((5, -5)),
        lambda: RandomRotation(float("inf")),
        lambda: RandomRotation(5, interpolation="bicubic"),
        lambda: RandomRotation(5, center=(1,)),
        lambda: RandomRotation(5, fill=-1),
        lambda: RandomAffine("5"),
        lambda: RandomAffine(5, translate=(0.1, 1.1)),
        lambda: RandomAffine(5, translate="ab"),
        lambda: RandomAffine(5, center=5),
        lambda: RandomRotation([-5, 5]),
        lambda: RandomAffine(5, scale=(0, 1)),
        lambda: RandomAffine(5, shear=(1, 2, 3)),
        lambda: RandomAffine(5, shear=(1, 2, 4, 3)),
        lambda: RandomAffine(5, shear=(-95, 3)),
        lambda: ColorJitter(brightness=-0.1),
        lambda: ColorJitter(contrast=(-0.1, 1)),
        lambda: ColorJitter(saturation=(2, 1)),
        lambda: ColorJitter(hue=0.6),
        lambda: ColorJitter(hue=(-0.6, 0)),
        lambda: ColorJitter(hue="0.1"),
        lambda: Grayscale(2),
        lambda: RandomGrayscale(2),
        lambda: RandAugment(-1),
        lambda: RandAugment(2, 31),
        lambda: RandAugment(2, 0, 1),
        lambda: RandAugment(2, 9.0),
        lambda: RandomErasing(1.5),
        lambda: RandomErasing(scale=(0.5, 1.5)),
        lambda: RandomErasing(ratio=(0, 1)),
        lambda: RandomErasing(value="noise"),
        lambda: RandomErasing(value=(1, 2)),
        lambda: RandomErasing(value=float("nan")),
        lambda: ToFloat("float64"),
        lambda: ToLayout("NCHW"),
        lambda: Normalize((0, 0, 0), (1, 1, 1), "bfloat16"),
        lambda: Normalize((0, 0, 0), (1, 0, 1)),
        lambda: Normalize((0, 0), (1, 1, 1)),
        lambda: Normalize((0, float("nan"), 0), (1, 1, 1)),
    ],
)
def test_impossible_descriptions(make):
    with pytest.raises(InvalidArgument, match="must be"):
        make()


@pytest.mark.parametrize(
    ("ops", "named"),
    [
        ([], "one shape"),
        ([HorizontalFlip()], "one shape"),
        ([Resize(224)], "one shape"),
        ([CenterCrop(224), Resize(100)], "one shape"),
        ([HorizontalFlip(), Resize((8, 8))], r"Resize\(.*after HorizontalFlip"),
        ([Resize((8, 8)), HorizontalFlip(), HorizontalFlip()], "HorizontalFlip"),
        ([Resize((8, 8)), Normalize.imagenet(), ToFloat()], r"ToFloat\(.*\) cannot come after Normalize"),
        ([Resize((8, 8)), ToFloat(), ToFloat()], "ToFloat"),
        ([Resize((8, 8)), RandomResizedCrop(4)], "resample"),
        ([Resize((8, 8)), CenterCrop(9)], "larger"),
        ([Resize(8), CenterCrop((9, 9))], "larger"),
        ([CenterCrop(8), CenterCrop((4, 9))], "larger"),
        ([RandomCrop(9), RandomCrop(9), Resize(8), RandomCrop(9)], "larger"),
        ([RandomCrop(9, padding=1), CenterCrop(4)], r"CenterCrop.*after RandomCrop.*pads is the last"),
        ([RandomCrop(9, pad_if_needed=True), Resize((4, 4))], r"Resize.*after RandomCrop"),
        ([CenterCrop(8), VerticalFlip(), HorizontalFlip(), VerticalFlip()], "VerticalFlip"),
        ([CenterCrop(8), ColorJitter(), HorizontalFlip()], r"HorizontalFlip.*after ColorJitter.*allowed are"),
        ([CenterCrop(8), ToFloat(), RandAugment()], r"RandAugment.*after ToFloat"),
        ([CenterCrop(8), RandomErasing(), ToFloat()], r"ToFloat.*after RandomErasing"),
        ([CenterCrop(8), RandomErasing(), RandomErasing()], "RandomErasing"),
        ([CenterCrop(8), ToLayout("HWC"), RandomErasing()], r"RandomErasing.*after ToLayout"),
        ([CenterCrop(8), Grayscale(), Normalize.imagenet()], "for 3 channels, and the images have 1"),
        ([CenterCrop(8), Grayscale(3), Normalize((0.5,), (0.2,))], "for 1 channels, and the images have 3"),
        ([CenterCrop(8), Grayscale(), RandomErasing(value=(1, 2, 3))], "3 values.*1 channels"),
        ([CenterCrop(8), RandomErasing(value="random")], "uint8"),
        ([CenterCrop(8), RandomErasing(value=0.5)], "uint8"),
        ([CenterCrop(8), RandomErasing(value=256)], "uint8"),
        ([ColorJitter()], "one shape"),
        ([Resize((8, 8)), Int64()], "not a transform of images"),
        ([Resize((8, 8)), "flip"], "not a transform of images"),
    ],
)
def test_impossible_combinations(ops, named):
    with pytest.raises(InvalidArgument, match=named):
        ImageTransforms(tuple(ops))


@pytest.mark.parametrize(
    ("ops", "size", "dtype"),
    [
        ([RandomResizedCrop(224), HorizontalFlip(), Normalize.imagenet()], (224, 224), np.float32),
        ([Resize(256), CenterCrop((200, 224)), ToFloat()], (200, 224), np.float32),
        ([Resize(256), CenterCrop((200, 300))], (200, 300), np.uint8),
        ([CenterCrop(64), CenterCrop(32), Resize((20, 30)), CenterCrop((10, 11)), ToFloat(), Normalize.imagenet()], (10, 11), np.float32),
        ([CenterCrop(64), HorizontalFlip()], (64, 64), np.uint8),
    ],
)
def test_what_comes_out(ops, size, dtype):
    checked = ImageTransforms(tuple(ops))
    assert checked.size == size
    assert checked.dtype == dtype
    assert list(checked) == ops
    assert checked.shape == (3, *size)
    assert plan(ops).window[2:] == size


@pytest.mark.parametrize(
    ("ops", "shape", "dtype"),
    [
        ([Grayscale(), ToFloat("float16")], (1, 20, 30), np.float16),
        ([Grayscale(3), ToLayout("HWC")], (20, 30, 3), np.uint8),
        ([Grayscale(), ColorJitter(0.5), Normalize((0.5,), (0.5,)), ToLayout("HWC")], (20, 30, 1), np.float32),
        ([ToFloat("float16"), Normalize.imagenet()], (3, 20, 30), np.float32),
        ([ToFloat(), Normalize.imagenet("float16"), ToLayout("CHW")], (3, 20, 30), np.float16),
    ],
)
def test_shapes_layouts_and_types(ops, shape, dtype):
    checked = ImageTransforms((Resize((20, 30)), *ops))
    assert checked.shape == shape
    assert checked.dtype == dtype


@patient
@given(lengths, lengths, lengths, lengths)
def test_resize_and_center_crop_are_those_of_torchvision(height, width, shorter, side):
    side = min(side, shorter)
    got = plan([Resize(shorter), CenterCrop(side)], height, width)
    resized = (shorter, int(shorter * width / height)) if height < width else (int(shorter * height / width), shorter)
    assert min(resized) == shorter
    top, left = int(round((resized[0] - side) / 2.0)), int(round((resized[1] - side) / 2.0))  # noqa: RUF046 - as torchvision has it
    if resized == (height, width):  # nothing is resampled: the same pixels, said as a box of the image
        assert got.resized == (side, side)
        assert got.box == (top, left, side, side)
        assert got.window == (0, 0, side, side)
    else:
        assert got.resized == resized
        assert got.box == (0, 0, height, width)
        assert got.window == (top, left, side, side)
    assert 0 <= got.reach.y <= got.reach.y + got.reach.height <= height


def test_crops_before_a_resize_narrow_the_box():
    got = plan([CenterCrop((300, 400)), Resize((30, 40)), CenterCrop(20)])
    assert got.box == Box(38, 50, 300, 400)
    assert got.resized == (30, 40)
    assert got.window == Box(5, 10, 20, 20)
    assert got.reach.y > 38
    assert got.reach.height < 300

    inner = plan([CenterCrop((300, 400)), RandomResizedCrop(20)])
    assert inner.box.y >= 38
    assert inner.box.y + inner.box.height <= 338
    assert inner.box.x >= 50
    assert inner.box.x + inner.box.width <= 450


def test_filters():
    for op in (Resize((9, 9)), RandomResizedCrop(9)):
        assert plan([op]).filter == ANTIALIASED
        assert plan([replace(op, antialias=False)]).filter == LINEAR
    for interpolation, kind in (("nearest", NEAREST), ("bicubic", CUBIC), ("area", AREA)):
        assert plan([Resize((9, 9), interpolation)]).filter == kind
        assert plan([RandomResizedCrop(9, interpolation=interpolation)]).filter == kind


def test_images_smaller_than_their_crop_are_bad_samples():
    with pytest.raises(BadSample, match=r"100 × 300.*Resize"):
        plan([CenterCrop(224)], 100, 300)


@patient
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**48 - 1))
def test_random_crops_lie_in_the_image(height, width, position):
    got = plan([RandomResizedCrop((7, 9)), HorizontalFlip()], height, width, position)
    assert 0 <= got.box.y <= got.box.y + got.box.height <= height
    assert 0 <= got.box.x <= got.box.x + got.box.width <= width
    assert got.resized == (7, 9)
    assert got.reach == got.box


def test_an_op_reads_its_own_stream():
    boxes = [plan([RandomResizedCrop(64)], position=p).box for p in range(50)]
    assert [plan([RandomResizedCrop(64), HorizontalFlip(), ToFloat()], position=p).box for p in range(50)] == boxes
    flips = [plan([CenterCrop(64), HorizontalFlip()], position=p).flip for p in range(50)]
    assert [plan([RandomResizedCrop(64), HorizontalFlip()], position=p).flip for p in range(50)] == flips
    assert [plan([CenterCrop(64), CenterCrop(64), HorizontalFlip()], position=p).flip for p in range(50)] != flips


def test_every_coordinate_of_a_sample_counts():
    ops = [RandomResizedCrop(64), HorizontalFlip()]
    plans = {plan(ops, **{word: value}) for word in ("seed", "component", "epoch", "position") for value in (1, 2, 3)}
    assert len(plans) == 12
    assert plan(ops, seed=5, epoch=2, position=9) == plan(ops, seed=5, epoch=2, position=9)


def test_crops_and_flips_are_spread():
    plans = [plan([RandomResizedCrop(64), HorizontalFlip()], position=p) for p in range(2000)]
    area = np.array([p.box.height * p.box.width for p in plans]) / (375 * 500)
    aspect = np.array([p.box.width / p.box.height for p in plans])
    assert 0.07 < area.min() < 0.1
    assert 0.4 < area.mean() < 0.5  # below (0.08 + 1) / 2, since large boxes of another aspect do not fit
    assert 0.7 < aspect.min() < 0.8
    assert 1.25 < aspect.max() < 1.4
    assert abs(np.mean([p.flip for p in plans]) - 0.5) < 0.05


def many(op, count=3000, size=(40, 60)):
    """What `op` does at each of many positions."""
    return [plan([CenterCrop(size), op], 40, 60, position=p) for p in range(count)]


def spread_over(values, low, high):
    """Uniform over low … high, as far as a few thousand values show."""
    values = np.sort(values)
    assert low <= values[0] <= values[-1] <= high
    return np.abs((values - low) / (high - low) - np.linspace(0, 1, len(values))).max() < 1.95 / len(values) ** 0.5  # one in 1,000


def test_random_crops_are_uniform_and_whole():
    plans = [plan([RandomCrop((20, 30))], 40, 70, p) for p in range(4000)]
    assert {p.box[2:] for p in plans} == {(20, 30)}
    counts = np.bincount([p.box.y for p in plans], minlength=21)
    assert counts.size == 21
    assert counts.min() > 4000 / 21 - 5 * (4000 / 21) ** 0.5
    assert {p.box.x for p in plans} == set(range(41))
    assert all(p.frame is None and p.reach == p.box for p in plans)


def test_random_crops_of_a_resized_image_are_windows():
    got = plan([Resize(32), RandomCrop(24), HorizontalFlip()], 64, 128)
    assert got.box == (0, 0, 64, 128)
    assert got.resized == (32, 64)
    assert got.window[2:] == (24, 24)
    assert {plan([Resize(32), RandomCrop(24)], 64, 128, p).window.x for p in range(600)} == set(range(41))


@patient
@given(
    lengths,
    lengths,
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    paddings,
    st.sampled_from(["constant", "edge", "reflect", "symmetric"]),
)
def test_padded_crops_are_those_of_torchvision(height, width, size, padding, mode):
    op = RandomCrop(size, padding=padding, pad_if_needed=True, padding_mode=mode)
    got = plan([op], height, width)
    left, top, right, bottom = op.sides
    tall, wide = height + top + bottom, width + left + right
    if tall < size[0]:
        top, tall = top + size[0] - tall, tall + 2 * (size[0] - tall)
    if wide < size[1]:
        left, wide = left + size[1] - wide, wide + 2 * (size[1] - wide)
    u = draw(sample_stream(0, 0, 0, 0, 0), 2)
    y, x = int(u[0] * (tall - size[0] + 1)) - top, int(u[1] * (wide - size[1] + 1)) - left
    if got.frame is None:
        assert got.box == (y, x, *size)
    else:
        assert got.frame.box == (y, x, *size)
        assert got.frame.size == (height, width)
        assert got.frame.part == got.box, "nothing is decoded that is not shown"
        assert y < 0 or x < 0 or y + size[0] > height or x + size[1] > width
    assert 0 <= got.box.y < got.box.y + got.box.height <= height
    assert 0 <= got.box.x < got.box.x + got.box.width <= width


def test_crops_larger_than_the_image_need_padding():
    with pytest.raises(BadSample, match=r"10 × 10 pixels with its padding where RandomCrop takes 12 × 4.*pad_if_needed"):
        plan([RandomCrop((12, 4), padding=1)], 8, 8)


def test_vertical_flips():
    plans = [plan([CenterCrop(8), HorizontalFlip(0.3), VerticalFlip(0.7)], position=p) for p in range(3000)]
    down, across = np.array([p.flip_rows for p in plans]), np.array([p.flip for p in plans])
    assert abs(down.mean() - 0.7) < 0.05
    assert abs(across.mean() - 0.3) < 0.05
    assert abs((down & across).mean() - 0.21) < 0.04, "they do not depend on each other"


def test_rotations_are_spread():
    steps = [p.steps[0] for p in many(RandomRotation((-30, 90), "bilinear", fill=(1, 2, 3)))]
    angles = [np.degrees(np.arctan2(-step.matrix[1], step.matrix[0])) for step in steps]
    assert spread_over(angles, -30, 90)
    assert np.allclose(steps[0].matrix, rotation(angles[0], (40, 60)))
    assert all(step.bilinear and step.fill == (1, 2, 3) for step in steps)


def test_affine_parameters_are_spread():
    op = RandomAffine(45, translate=(0.5, 0.25), scale=(0.5, 2), shear=(-20, 10, 5, 30))
    for position, planned in enumerate(many(op, 300)):
        u = draw(sample_stream(0, 0, 0, position, 1), 6)
        expected = affine(
            (40, 60),
            angle=-45 + 90 * u[0],
            translate=(round(-30 + 60 * u[1]), round(-10 + 20 * u[2])),
            scale=0.5 + 1.5 * u[3],
            shear=(-20 + 30 * u[4], 5 + 25 * u[5]),
        )
        assert planned.steps == (Warp(expected, False, (0, 0, 0)),)
    still = many(RandomAffine(0), 5)
    assert {p.steps for p in still} == {(Warp(affine((40, 60)), False, (0, 0, 0)),)}


def test_colours_are_spread_and_come_in_every_order():
    plans = many(ColorJitter(0.4, (0.5, 2), 2, (-0.1, 0.3)))
    orders = [tuple(step.kind for step in p.steps) for p in plans]
    counts = {order: orders.count(order) for order in set(orders)}
    assert len(counts) == 24
    assert min(counts.values()) > 3000 / 24 - 5 * (3000 / 24) ** 0.5
    for kind, low, high in (("brightness", 0.6, 1.4), ("contrast", 0.5, 2), ("saturation", 0, 3), ("hue", -0.1, 0.3)):
        amounts = [step.amount for p in plans for step in p.steps if step.kind == kind]
        assert len(amounts) == 3000
        assert spread_over(amounts, low, high)
    assert many(ColorJitter(), 2)[0].steps == ()
    assert {step.kind for p in many(ColorJitter(hue=0.5), 9) for step in p.steps} == {"hue"}


def test_grey():
    assert many(Grayscale(), 2)[0].steps == (Colour("grey"),)
    greys = [bool(p.steps) for p in many(RandomGrayscale(0.2))]
    assert abs(np.mean(greys) - 0.2) < 0.04


def test_rand_augment_draws_all_of_torchvisions_operations():
    plans = many(RandAugment(1, 10), 6000)
    found = {p.steps for p in plans}
    size, share = (40, 60), 1 / 3
    degrees = float(np.degrees(np.arctan(0.1)))
    signed = {
        Colour(kind, 1 + sign * 0.9 * share) for kind in ("brightness", "saturation", "contrast", "sharpness") for sign in (-1.0, 1.0)
    }
    fixed = {Colour("posterize", 7), Colour("solarize", 170), Colour("autocontrast"), Colour("equalize")}
    matrices = [affine(size, shear=(sign * degrees, 0), center=(0, 0)) for sign in (-1, 1)]
    matrices += [affine(size, shear=(0, sign * degrees), center=(0, 0)) for sign in (-1, 1)]
    matrices += [affine(size, translate=(sign * 9, 0)) for sign in (-1, 1)] + [affine(size, translate=(0, sign * 6)) for sign in (-1, 1)]
    matrices += [rotation(sign * 10, size) for sign in (-1, 1)]
    got_matrices = [steps[0].matrix for steps in found if steps and isinstance(steps[0], Warp)]
    assert found - {(Warp(m, False, (0, 0, 0)),) for m in got_matrices} == {()} | {(colour,) for colour in signed | fixed}
    assert np.allclose(sorted(got_matrices), sorted(matrices))
    dimmed = [p.steps[0].amount < 1 for p in plans if p.steps and p.steps[0] in signed]
    assert abs(np.mean(dimmed) - 0.5) < 0.06
    identity = sum(p.steps == () for p in plans) / 6000
    assert abs(identity - 1 / 14) < 0.017
    assert {len(p.steps) for p in many(RandAugment(3), 200)} <= {0, 1, 2, 3}
    assert many(RandAugment(0), 1)[0].steps == ()


def test_erasures():
    plans = many(RandomErasing(0.6, scale=(0.1, 0.2), value=(1, 2, 3)))
    done = [p.erasure for p in plans if p.erasure]
    assert abs(len(done) / len(plans) - 0.6) < 0.05
    shares = np.array([e.box.height * e.box.width / 2400 for e in done])
    assert 0.08 < shares.min() < shares.max() < 0.22
    assert all(0 <= e.box.y <= e.box.y + e.box.height <= 40 and 0 <= e.box.x <= e.box.x + e.box.width <= 60 for e in done)
    assert {e.values for e in done} == {(1.0, 2.0, 3.0)}

    last = plan([CenterCrop((40, 60)), Normalize.imagenet(), RandomErasing(1, value="random"), ToLayout("HWC")], position=4).erasure
    assert last == Erasure(last.box, None, sample_stream(0, 0, 0, 4, 2))
    assert plan([CenterCrop(8), ToFloat(), RandomErasing(1, value=0.5)]).erasure.values == (0.5,) * 3


ALL = [
    RandomCrop((30, 40), padding=8),
    HorizontalFlip(),
    VerticalFlip(),
    RandomRotation(10),
    RandomAffine(10, (0.1, 0.1), (0.9, 1.1), 5),
    ColorJitter(0.4, 0.4, 0.4, 0.1),
    RandomGrayscale(),
    RandAugment(),
    ToFloat(),
    RandomErasing(value="random"),
]


def test_plans_of_every_op_are_pure_and_apart():
    plans = [plan(ALL, position=p) for p in range(200)]
    backwards = [plan(ALL, position=p) for p in reversed(range(200))]
    assert plans == backwards[::-1]
    assert len(set(plans)) == 200
    assert plan(ALL, epoch=1) != plans[0]


def test_what_is_added_behind_changes_nothing_before():
    for n in range(1, len(ALL)):
        shorter, longer = plan(ALL[:n], position=9), plan(ALL, position=9)
        assert longer.box == shorter.box
        assert longer.frame == shorter.frame
        assert longer.steps[: len(shorter.steps)] == shorter.steps
