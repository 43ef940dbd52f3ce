"""What `materialize` decides without looking at a picture, and the pixels that it makes of one."""

from dataclasses import replace

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dataplane.errors import InvalidArgument
from dataplane.journal import Finished
from dataplane.materialize import MaterializeOptions
from dataplane.materialize.pixels import make_pixels, shape_of
from dataplane.materialize.plan import Stamp, kept, stamps, take_over, tasks
from dataplane.refs import Digest
from dataplane.shards import ShardRow
from tests.pictures import photographs

SIDES = st.integers(1, 400)
CROP = MaterializeOptions(size=64)
STAMP = Stamp("train", "cat", "a.jpg", "etag", b"\1" * 32)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "give one of them"),
        ({"size": 3, "max_side": 3}, "give one of them"),
        ({"size": 0}, "size is 0"),
        ({"max_side": 99_999}, "max_side is 99999"),
        ({"size": 3, "fit": "cover"}, "fit is 'cover'"),
        ({"max_side": 3, "fit": "pad"}, "leave one of the two out"),
        ({"size": 3, "splits": ()}, "splits names no split"),
        ({"size": 3, "workers": 0}, "workers is 0"),
    ],
)
def test_options_that_cannot_be(arguments, said):
    with pytest.raises(InvalidArgument, match=said):
        MaterializeOptions(**arguments)


def test_names():
    assert MaterializeOptions(size=256).name_for("photos") == "photos-256"
    assert MaterializeOptions(max_side=500).name_for("photos") == "photos-max500"


@given(SIDES, SIDES, st.sampled_from(["crop", "stretch", "pad"]), st.integers(1, 70))
def test_a_fixed_size_is_that_size(height, width, fit, size):
    shape = shape_of(height, width, MaterializeOptions(size=size, fit=fit))
    assert shape.canvas == (size, size)
    if shape.box is not None:
        left, top, right, bottom = shape.box
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    assert make_pixels(np.full((height, width, 3), 9, np.uint8), shape).shape == (size, size, 3)


@given(SIDES, SIDES, st.integers(1, 300))
def test_a_largest_side_is_not_passed_and_proportions_stay(height, width, side):
    shape = shape_of(height, width, MaterializeOptions(max_side=side))
    assert shape.canvas == shape.resized
    assert max(shape.resized) == min(side, max(height, width))
    scale = max(shape.resized) / max(height, width)
    assert all(abs(made - was * scale) <= 0.5 or made == 1 for made, was in zip(shape.resized, (height, width), strict=True))


@given(st.integers(20, 300), st.integers(20, 300), st.integers(8, 64), st.integers(0, 9))
def test_a_crop_is_the_centre_of_the_resized_picture(height, width, size, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    shorter = min(height, width)
    rows, columns = size * height // shorter, size * width // shorter
    whole = np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BILINEAR))
    top, left = round((rows - size) / 2), round((columns - size) / 2)
    made = make_pixels(pixels, shape_of(height, width, MaterializeOptions(size=size)))
    assert np.abs(made.astype(int) - whole[top : top + size, left : left + size]).max() <= 1


def test_a_photograph_is_what_others_make_of_it():
    """OpenCV's mean over areas has another filter: near, and never aliased."""
    photograph = photographs()[0]
    made = make_pixels(photograph, shape_of(*photograph.shape[:2], MaterializeOptions(size=128, fit="stretch")))
    area = cv2.resize(photograph, (128, 128), interpolation=cv2.INTER_AREA)
    aliased = cv2.resize(photograph, (128, 128), interpolation=cv2.INTER_NEAREST)
    near, far = (np.abs(made.astype(int) - other).mean() for other in (area, aliased))
    assert near < 3 < far
    padded = make_pixels(photograph, shape_of(*photograph.shape[:2], MaterializeOptions(size=128, fit="pad")))
    rows = round(427 * 128 / 640)
    top = (128 - rows) // 2
    expected = np.asarray(Image.fromarray(photograph).resize((128, rows), Image.Resampling.BILINEAR))
    assert np.array_equal(padded[top : top + rows], expected)
    assert not padded[:top].any()
    assert not padded[top + rows :].any()


def test_a_long_strip_costs_no_more_than_its_centre():
    made = make_pixels(np.zeros((2, 200_000, 3), np.uint8), shape_of(2, 200_000, MaterializeOptions(size=256)))
    assert made.shape == (256, 256, 3)


def test_what_is_the_same_sample():
    assert STAMP.same(replace(STAMP, etag="other", source="b.jpg"))
    assert not STAMP.same(replace(STAMP, digest=b"\2" * 32))
    assert not STAMP.same(replace(STAMP, label=None))
    assert not STAMP.same(replace(STAMP, split="test"))
    adopted = replace(STAMP, digest=None)
    assert adopted.same(STAMP)
    assert not adopted.same(replace(STAMP, etag="other"))
    assert not replace(adopted, etag="").same(replace(STAMP, etag=""))


def test_kept_are_those_that_are_as_wanted():
    changed = replace(STAMP, digest=b"\2" * 32)
    assert kept({"a": STAMP, "b": STAMP, "c": STAMP}, [("a", STAMP), ("b", changed), ("d", STAMP)]) == {"a"}


def metadata(keys, **columns):
    count = len(keys)
    usual = {"label": ["cat"] * count, "source": ["a.jpg"] * count, "source_etag": ["etag"] * count, "source_blake3": [b"\1" * 32] * count}
    return pa.table({"key": keys, **usual, "width": [None] * count, "height": [None] * count, **columns})


def finished(keys):
    row = ShardRow("train", "tar", Digest("0" * 64, ".tar", 1), Digest("1" * 64, ".idx", 1), len(keys), len(keys))
    return Finished(row, metadata(keys))


def test_a_killed_run_gives_what_is_wanted_once():
    wanted = dict.fromkeys("abd", STAMP) | {"c": replace(STAMP, label="dog")}
    taken, have = take_over(wanted, [finished(["a", "b", "c"]), finished(["b", "x"]), finished(["d"])])
    assert have == {"a", "b", "d"}
    assert [item.shard.live for item in taken] == [2, 1]
    assert taken[0].shard.rows.tolist() == [0, 1]
    assert dict(stamps(taken[1].metadata, "train")) == {"d": STAMP}


@given(
    st.lists(st.tuples(st.integers(1, 600), st.integers(1, 600)), max_size=40),
    st.integers(1, 400_000),
    st.sampled_from([CROP, MaterializeOptions(max_side=100)]),
    st.sets(st.integers(0, 40)),
)
def test_tasks_have_each_sample_once_and_keep_within_a_shard(sizes, shard_bytes, options, done):
    keys = [f"k{n}" for n in range(len(sizes))]
    table = metadata(keys, width=[w for w, _ in sizes], height=[h for _, h in sizes])
    left = {key for n, key in enumerate(keys) if n not in done}
    options = replace(options, shard_bytes=shard_bytes)
    made = tasks({"train": table, "test": metadata([])}, left, options)
    rows = [row for task in made for row in task.rows.tolist()]
    assert rows == [n for n in range(len(keys)) if n not in done]
    assert [task.number for task in made] == list(range(len(made)))
    canvases = [shape_of(h, w, options).canvas for w, h in sizes]
    each = [3 * h * w for h, w in canvases]
    for task in made:
        assert task.bytes == sum(each[row] for row in task.rows)
        assert task.bytes <= shard_bytes + 2 * max(each[row] for row in task.rows)
