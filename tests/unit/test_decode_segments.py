"""Decoding only the segments that a crop looks at gives what decoding everything gives, bit for bit; damage never gives wrong pixels."""

import io
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataplane.errors import BadSample, CorruptObject
from dataplane.formats.jpeg import Segments, Unsupported, recode
from loaders.decode import Workspace, decode
from loaders.image import ImagePipeline
from loaders.transforms import Box, CenterCrop, HorizontalFlip, Normalize, RandomResizedCrop, Resize
from tests import jpegs
from tests.images import SAMPLINGS, as_pillow, jpeg, picture

patient = settings(deadline=None, max_examples=80)
PIPELINES = [
    [RandomResizedCrop(32), HorizontalFlip(), Normalize.imagenet()],
    [RandomResizedCrop((20, 31), antialias=False)],
    [Resize(48), CenterCrop(40)],
    [CenterCrop((9, 30))],
]


def recoded(data):
    """The file with restart markers, and its packed segments."""
    made = recode(data, metadata="keep")
    return made.data, made.segments.pack()


def part(data, segments, size, box):
    """The pixels of a box, decoded with these segments."""
    pixels, y, x = decode(data, height=size[0], width=size[1], box=box, segments=segments, workspace=Workspace())
    assert 0 <= y <= box.y
    assert 0 <= x <= box.x
    inside = pixels[box.y - y : box.y - y + box.height, box.x - x : box.x - x + box.width]
    assert inside.shape == (box.height, box.width, 3)
    return inside.copy()


def run(pipeline, data, size, *, orientation=1, position=0, segments=b""):
    out = np.zeros(pipeline.shape, pipeline.dtype)
    place = {"seed": 3, "component": 0, "epoch": 1, "position": position}
    described = {"height": size[0], "width": size[1], "orientation": orientation, "segments": segments}
    pipeline.run(data, **described, **place, out=out, workspace=Workspace())
    return out


@st.composite
def boxes(draw, height, width):
    y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return Box(y, x, draw(st.integers(1, height - y)), draw(st.integers(1, width - x)))


@patient
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from(SAMPLINGS), st.booleans(), st.data())
def test_boxes_have_the_pixels_of_the_whole(height, width, sampling, writable, data):
    file, segments = recoded(jpeg(picture(height, width), sampling, data.draw(st.sampled_from([40, 90, 100]))))
    box = data.draw(boxes(height, width))
    whole = as_pillow(file)[box.y : box.y + box.height, box.x : box.x + box.width]
    given_file = bytearray(file) if writable else file
    assert np.array_equal(part(given_file, segments, (height, width), box), whole)
    assert np.array_equal(part(given_file, b"", (height, width), box), whole)
    assert given_file == file


@pytest.mark.parametrize("sampling", jpegs.SAMPLINGS)
def test_samplings_that_no_common_encoder_writes(sampling):
    file, segments = recoded(jpegs.write(jpegs.Picture(131, 90, jpegs.SAMPLINGS[sampling])))
    rng = random.Random(sampling)
    for _ in range(10):
        y, x = rng.randrange(90), rng.randrange(131)
        box = Box(y, x, rng.randint(1, 90 - y), rng.randint(1, 131 - x))
        assert np.array_equal(part(file, segments, (90, 131), box), part(file, b"", (90, 131), box))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("sampling", ["444", "420"])
def test_pipelines_give_the_same(orientation, sampling):
    file, segments = recoded(jpeg(picture(101, 163), sampling))
    for pipeline in map(ImagePipeline, PIPELINES):
        for position in range(8):
            expected = run(pipeline, file, (101, 163), orientation=orientation, position=position)
            for packed in (segments, memoryview(segments)):
                found = run(pipeline, file, (101, 163), orientation=orientation, position=position, segments=packed)
                assert np.array_equal(found, expected)


@pytest.mark.parametrize("ops", PIPELINES[:2])
def test_photographs(photos, ops):
    pipeline = ImagePipeline(ops)
    compared = 0
    for position, path in enumerate(sorted(photos.glob("*.jpg"))[::5]):
        original = path.read_bytes()
        try:
            file, segments = recoded(original)
        except Unsupported:
            continue
        height, width = Segments.unpack(segments).height, Segments.unpack(segments).width
        for orientation in (1, 6):
            expected = run(pipeline, original, (height, width), orientation=orientation, position=position)
            found = run(pipeline, file, (height, width), orientation=orientation, position=position, segments=segments)
            assert np.array_equal(found, expected), path.name
        compared += 1
    assert compared > 20


def test_only_the_crop_is_decoded():
    file, segments = recoded(jpeg(picture(400, 640), "420"))
    pixels, y, x = decode(file, height=400, width=640, box=Box(200, 300, 50, 60), segments=segments, workspace=Workspace())
    assert (y, x) == (192, 256)
    assert pixels.shape[0] < 80
    assert pixels.shape[1] < 150


# Damage

SIZE = 120, 180
BOX = Box(30, 40, 60, 70)
FILE, SEGMENTS = recoded(jpeg(picture(*SIZE), "420"))
WHOLE = as_pillow(FILE)[30:90, 40:110]


def test_segments_of_another_file_are_noticed():
    other, _ = recoded(jpeg(picture(*SIZE, seed=1), "420"))
    with pytest.raises(CorruptObject, match="not the one that was indexed"):
        part(other, SEGMENTS, SIZE, BOX)
    with pytest.raises(CorruptObject, match="180 × 120 pixels, the picture has 181 × 120"):
        part(FILE, SEGMENTS, (120, 181), BOX)


@pytest.mark.parametrize("damaged", [b"\x01", SEGMENTS[:40], SEGMENTS + b"\0\0", b"\x01" + bytes(len(SEGMENTS) - 1)])
def test_damaged_segments_are_noticed(damaged):
    with pytest.raises(CorruptObject, match="index of a JPEG"):
        part(FILE, damaged, SIZE, BOX)


@pytest.mark.parametrize("length", [0, 3, 300, 800, len(FILE) // 2])
def test_a_short_file_is_noticed(length):
    with pytest.raises(CorruptObject, match="not the one that was indexed"):
        part(FILE[:length], SEGMENTS, SIZE, BOX)


@pytest.mark.parametrize("code", [b"\xff\xd3", b"\xff\x00\xff\x00\xff\x00", bytes(20)])
def test_what_libjpeg_warns_about_in_the_crop_is_a_bad_sample(code):
    data = bytearray(FILE)
    index = Segments.unpack(SEGMENTS)
    lengths = np.frombuffer(index.lengths, "<u2").astype(int)
    middle = (60 // index.mcu[1]) * index.columns + 80 // (index.interval * index.mcu[0])
    at = index.header_bytes + int(lengths[:middle].sum()) + 2 * middle
    data[at : at + len(code)] = code
    assert len(data) == len(FILE)
    with pytest.raises(BadSample, match="cannot be decoded: Corrupt JPEG data"):
        part(data, SEGMENTS, SIZE, BOX)
    assert np.array_equal(part(data, SEGMENTS, SIZE, Box(0, 0, 8, 8)), as_pillow(FILE)[:8, :8]), "the damage is elsewhere"


@patient
@given(st.integers(0, len(SEGMENTS) - 1) | st.integers(0, 16), st.integers(1, 255))
def test_any_flipped_byte_of_an_index_is_noticed_or_does_no_harm(at, flip):
    damaged = bytearray(SEGMENTS)
    damaged[at] ^= flip
    try:
        found = part(FILE, damaged, SIZE, BOX)
    except (BadSample, CorruptObject):
        return
    assert np.array_equal(found, WHOLE)


def test_segments_of_a_later_release_are_passed_over():
    newer = b"\x02" + SEGMENTS[1:] + b"something"
    assert np.array_equal(part(FILE, newer, SIZE, BOX), WHOLE)


def test_a_size_that_stands_elsewhere_in_the_header_is_noticed():
    """Whoever trusts it reads behind the decoded pixels."""
    comment = (16).to_bytes(2, "big") + (4000).to_bytes(2, "big")
    target = io.BytesIO()
    Image.new("RGB", (16, 16)).save(target, "JPEG", subsampling="4:4:4", comment=comment)
    made = recode(target.getvalue(), metadata="keep")
    at = made.data.index(comment)
    wrong = replace(made.segments, width=4000, interval=500 // made.segments.columns, at_size=at)
    with pytest.raises(BadSample, match="the image has 16 × 16 pixels, the index says 4000 × 16"):
        part(made.data, wrong.pack(), (16, 4000), Box(0, 0, 16, 4000))


def test_segments_of_a_wrong_interval_are_noticed():
    index = Segments.unpack(SEGMENTS)
    columns = [n for n in range(1, 20) if n != index.interval and -(-SIZE[1] // 16) % n == 0]
    for interval in columns:
        count = -(-SIZE[1] // (16 * interval)) * index.rows
        wrong = replace(index, interval=interval, lengths=(bytes(index.lengths) * 20)[: 2 * count])
        with pytest.raises((CorruptObject, BadSample)):
            part(FILE, wrong.pack(), SIZE, BOX)


def test_transforms_that_look_at_everything():
    """The plan's reach is the whole picture: all segments are taken."""
    pipeline = ImagePipeline([Resize((60, 90))])
    assert np.array_equal(run(pipeline, FILE, SIZE, segments=SEGMENTS), run(pipeline, FILE, SIZE))


def test_a_grey_file():
    grey, segments = recoded(jpeg(picture(90, 150), "Gray"))
    whole = np.asarray(Image.fromarray(as_pillow(grey)).convert("RGB"))
    assert np.array_equal(part(grey, segments, (90, 150), Box(20, 30, 33, 44)), whole[20:53, 30:74])
