"""Descriptions are checked, survive JSON, and plan what torchvision would do; random parameters depend on the op's own stream only."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loaders.transforms
from dataplane.errors import BadSample, InvalidArgument
from loaders.kernels.taps import ANTIALIASED, LINEAR, NEAREST
from loaders.transforms import (
    Box,
    CenterCrop,
    HorizontalFlip,
    ImageTransforms,
    Int64,
    Normalize,
    RandomResizedCrop,
    Resize,
    ToFloat,
    from_dict,
    to_dict,
)

patient = settings(deadline=None)
lengths = st.integers(1, 700)
sizes = lengths | st.tuples(lengths, lengths)
shares = st.floats(0.01, 1).map(lambda share: (share, 1.0))
triples = st.tuples(*[st.floats(0.01, 1)] * 3)
transforms = st.one_of(
    st.builds(Resize, sizes, st.sampled_from(["bilinear", "nearest"]), st.booleans()),
    st.builds(CenterCrop, sizes),
    st.builds(RandomResizedCrop, sizes, shares, shares, st.booleans()),
    st.builds(HorizontalFlip, st.floats(0, 1)),
    st.just(ToFloat()),
    st.builds(Normalize, triples, triples),
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
        ([Resize((8, 8)), Normalize.imagenet(), ToFloat()], r"ToFloat\(\) cannot come after Normalize"),
        ([Resize((8, 8)), ToFloat(), ToFloat()], "ToFloat"),
        ([Resize((8, 8)), RandomResizedCrop(4)], "resample"),
        ([Resize((8, 8)), CenterCrop(9)], "larger"),
        ([Resize(8), CenterCrop((9, 9))], "larger"),
        ([CenterCrop(8), CenterCrop((4, 9))], "larger"),
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
    assert plan(ops).window[2:] == size


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
    assert plan([Resize((9, 9), "nearest")]).filter == NEAREST


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
