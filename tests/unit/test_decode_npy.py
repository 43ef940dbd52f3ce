"""Pixels that need no decoding, through the loaders' decoder and transforms."""

import io

import numpy as np
import pytest

from dataplane.errors import BadSample
from dataplane.formats import npy
from loaders.decode import Workspace, decode, stored_shape
from loaders.image import ImagePipeline
from loaders.transforms import Box, CenterCrop, HorizontalFlip, Normalize, RandomResizedCrop, Resize
from tests.pictures import photographs

PIXELS = np.ascontiguousarray(photographs()[1][:200, :260])
DATA = npy.pack(PIXELS)
BOX = Box(20, 30, 100, 120)
TRANSFORMS = ([RandomResizedCrop(64), HorizontalFlip()], [Resize(70), CenterCrop(64), Normalize.imagenet()])


def png(pixels):
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def run(pipeline, data, *, height=200, width=260, position=0):
    out = np.empty(pipeline.shape, pipeline.dtype)
    arguments = {"seed": 1, "component": 0, "epoch": 0, "position": position}
    pipeline.run(data, width=width, height=height, orientation=1, out=out, workspace=Workspace(), **arguments)
    return out


def test_memory_of_ones_own_is_used_where_it_lies():
    data = np.frombuffer(DATA, np.uint8).copy()
    decoded = decode(data, height=200, width=260, box=BOX, workspace=Workspace())
    assert np.shares_memory(decoded.pixels, data)
    assert np.array_equal(decoded.pixels, PIXELS)


def test_memory_of_others_is_copied():
    decoded = decode(DATA, height=200, width=260, box=BOX, workspace=Workspace())
    assert decoded.pixels.flags.writeable
    assert np.array_equal(decoded.pixels, PIXELS)


@pytest.mark.parametrize("transforms", TRANSFORMS, ids=str)
@pytest.mark.parametrize("own", [True, False])
def test_the_transforms_give_what_they_give_of_a_picture_with_these_pixels(transforms, own):
    pipeline = ImagePipeline(transforms)
    data = np.frombuffer(DATA, np.uint8).copy() if own else DATA
    for position in range(8):
        assert np.array_equal(run(pipeline, data, position=position), run(pipeline, png(PIXELS), position=position))


def test_without_an_index_the_header_tells_the_size():
    assert stored_shape(DATA) == (200, 260, 1)
    pipeline = ImagePipeline(TRANSFORMS[0])
    assert np.array_equal(run(pipeline, DATA, height=0, width=0), run(pipeline, DATA))


def test_grey_becomes_rgb():
    out = io.BytesIO()
    np.save(out, PIXELS[:, :, 0])
    decoded = decode(out.getvalue(), height=200, width=260, box=BOX, workspace=Workspace())
    assert np.array_equal(decoded.pixels, np.repeat(PIXELS[:, :, :1], 3, axis=2))


@pytest.mark.parametrize(
    ("data", "shape", "said"),
    [
        (DATA, (201, 260), "the image has 260 × 200 pixels, the index says 260 × 201"),
        (DATA, (200, 130), "the image has 260 × 200 pixels, the index says 130 × 200"),
        (DATA[:-5], (200, 260), "5 bytes of 200 × 260 pixels are missing"),
        (DATA[:9], (200, 260), "not a NumPy file"),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_other_bytes_than_the_index_says_are_bad(data, shape, said, own):
    data = np.frombuffer(data, np.uint8).copy() if own else data
    with pytest.raises(BadSample, match=said):
        decode(data, height=shape[0], width=shape[1], box=BOX, workspace=Workspace())
