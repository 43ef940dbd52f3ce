"""One compiled call does what reading the index, planning the window and cutting do one after the other, and refuses what they refuse."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.errors import CorruptObject, DataplaneError, InvalidArgument
from dataplane.formats.jpeg import Area, Segments, cut, recode
from dataplane.formats.jpeg.crop import crop
from tests.folders import encode, noise
from tests.jpegs import ODD_SAMPLINGS, SAMPLINGS, Picture, by_opencv, by_pillow, roughly, write

SOAK = bool(os.environ.get("DATAPLANE_SOAK"))
RECODED = recode(encode(noise(2, (300, 200)), subsampling=2), metadata="keep")
PACKED = RECODED.segments.pack()
SIZE = 300, 200
BOX = Area(70, 40, 200, 150)


@st.composite
def pictures_and_boxes(draw):
    size = st.integers(1, 40) | st.sampled_from([63, 64, 65, 127, 128, 129, 131, 200])
    picture = Picture(
        width=draw(size),
        height=draw(size),
        sampling=SAMPLINGS[draw(st.sampled_from(sorted(SAMPLINGS)))],
        seed=draw(st.integers(0, 100)),
    )
    boxes = []
    for _ in range(8):
        x0, y0 = draw(st.integers(0, picture.width - 1)), draw(st.integers(0, picture.height - 1))
        boxes.append(Area(x0, y0, draw(st.integers(x0 + 1, picture.width)), draw(st.integers(y0 + 1, picture.height))))
    return picture, boxes


def cropped(data, packed, size, box):
    out = np.zeros(len(data), np.uint8)
    length, area = crop(data, packed, size, box, out)
    return out[:length].tobytes(), area


def in_steps(data, packed, box):
    """The same by the functions that the compiled one stands for."""
    segments = Segments.unpack(packed)
    window = segments.window(box)
    out = np.zeros(len(data), np.uint8)
    return out[: cut(data, segments, window, out)].tobytes(), window.area


@pytest.mark.soak
@settings(deadline=None, max_examples=2000 if SOAK else 80)
@given(pictures_and_boxes())
def test_crops_are_the_cuts_but_for_their_size_and_decode_to_the_pixels_of_the_whole(made):
    picture, boxes = made
    recoded = recode(write(picture), metadata="keep")
    packed, at = recoded.segments.pack(), recoded.segments.at_size
    decoders = [by_pillow, by_opencv, *([] if picture.sampling in [SAMPLINGS[name] for name in ODD_SAMPLINGS] else [roughly])]
    whole = [decode(recoded.data) for decode in decoders]
    for box in boxes:
        part, area = cropped(recoded.data, packed, (picture.width, picture.height), box)
        reference, shown = in_steps(recoded.data, packed, box)
        size = (area.y1 - area.y0).to_bytes(2, "big") + (area.x1 - area.x0).to_bytes(2, "big")
        assert part == reference[:at] + size + reference[at + 4 :]
        assert area[:2] == shown[:2]
        assert box.x1 <= area.x1 <= shown.x1
        assert box.y1 <= area.y1 <= shown.y1
        for decode, pixels in zip(decoders, whole, strict=True):
            found = decode(part)
            assert found.shape[:2] == (area.y1 - area.y0, area.x1 - area.x0)
            inside = found[box.y0 - area.y0 : box.y1 - area.y0, box.x0 - area.x0 : box.x1 - area.x0]
            np.testing.assert_array_equal(inside, pixels[box.y0 : box.y1, box.x0 : box.x1])


def test_no_more_is_shown_than_the_box_needs():
    assert RECODED.segments.mcu == (16, 16)
    _, area = cropped(RECODED.data, PACKED, SIZE, BOX)
    segment = 16 * RECODED.segments.interval
    last = -(-201 // segment) * segment  # a pixel more, whose colour is smoothed with those inside
    assert area == (70 // segment * segment, 32, max(201, min(last, 300) - 15), 151)


@settings(deadline=None, max_examples=5000 if SOAK else 500)
@given(st.integers(0, len(PACKED) - 1) | st.integers(0, 17), st.integers(1, 255), st.integers(0, 20))
def test_an_index_is_refused_where_the_steps_refuse_it(at, flip, shorter):
    packed = bytearray(PACKED)
    packed[at] ^= flip
    del packed[len(packed) - shorter // 10 * 2 :]
    try:
        segments = Segments.unpack(packed)
        expected = (segments.width, segments.height) == SIZE and in_steps(RECODED.data, packed, BOX)
    except DataplaneError as error:
        expected = error
    if isinstance(expected, tuple):
        assert cropped(RECODED.data, packed, SIZE, BOX)[1][:2] == expected[1][:2]
    else:
        with pytest.raises(type(expected) if expected else CorruptObject) as raised:
            cropped(RECODED.data, packed, SIZE, BOX)
        assert not expected or str(raised.value) == str(expected)


@pytest.mark.parametrize("packed", [b"", PACKED[:10], PACKED[:17], PACKED[:-1]])
def test_a_short_index_is_noticed(packed):
    with pytest.raises(CorruptObject, match="index of a JPEG"):
        cropped(RECODED.data, packed, SIZE, BOX)


def test_an_index_of_another_picture_is_noticed():
    with pytest.raises(CorruptObject, match=r"it is of 300 × 200 pixels, the picture has 300 × 201: index it anew"):
        cropped(RECODED.data, PACKED, (300, 201), BOX)


def test_another_file_is_noticed():
    for other in (noise(3, (300, 200)), noise(2, (301, 200))):
        data = recode(encode(other, subsampling=2), metadata="keep").data
        with pytest.raises(CorruptObject, match="not the one that was indexed"):
            cropped(data, PACKED, SIZE, BOX)
    with pytest.raises(CorruptObject, match="fewer bytes"):
        cropped(RECODED.data[: len(RECODED.data) // 2], PACKED, SIZE, BOX)


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 301, 5), (5, 0, 5, 5), (0, 7, 5, 6), (0, 0, 5, 201)])
def test_a_box_outside_is_a_mistake(box):
    with pytest.raises(InvalidArgument, match="300 × 200"):
        cropped(RECODED.data, PACKED, SIZE, Area(*box))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_kinds_of_buffers(kind):
    assert cropped(kind(RECODED.data), kind(PACKED), SIZE, BOX) == cropped(RECODED.data, PACKED, SIZE, BOX)


def test_a_small_buffer_is_a_mistake_and_nothing_is_written_behind_it():
    size = len(cropped(RECODED.data, PACKED, SIZE, BOX)[0])
    memory = np.full(len(RECODED.data), 7, np.uint8)
    for room in (0, 10, size // 2, size - 1):
        with pytest.raises(InvalidArgument, match="always enough"):
            crop(RECODED.data, PACKED, SIZE, BOX, memory[:room])
        assert (memory[room:] == 7).all()
        memory[:] = 7


@pytest.mark.parametrize("out", [np.empty((10, 10), np.uint8), np.empty(1 << 17, np.int16), np.empty(1 << 18, np.uint8)[::2]])
def test_a_buffer_of_another_kind_is_a_mistake(out):
    with pytest.raises(InvalidArgument, match="C-contiguous"):
        crop(RECODED.data, PACKED, SIZE, BOX, out)
