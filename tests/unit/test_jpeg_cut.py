"""The index of a JPEG survives packing and notices damage; windows are as small as they can be; cuts decode to the pixels of the whole."""

import os
import random
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.errors import CorruptObject, FormatTooNew, InvalidArgument
from dataplane.formats.jpeg import Area, Segments, Window, aligned, cut, recode
from tests.folders import encode, noise
from tests.jpegs import ODD_SAMPLINGS, SAMPLINGS, Picture, by_opencv, by_pillow, roughly, write

SOAK = bool(os.environ.get("DATAPLANE_SOAK"))
SIZES = [*range(1, 40), 47, 63, 64, 65, 96, 127, 128, 129, 131, 160, 199, 200]


def cut_out(recoded, box, scale=1):
    """The JPEG of a box, and its window."""
    window = recoded.segments.window(box, scale)
    out = np.empty(len(recoded.data), np.uint8)
    return out[: cut(recoded.data, recoded.segments, window, out)].tobytes(), window


def inside(pixels, area):
    return pixels[area.y0 : area.y1, area.x0 : area.x1]


@st.composite
def spans(draw, size):
    start = draw(st.integers(0, size - 1))
    return start, draw(st.integers(start + 1, min(size, start + 3)) | st.integers(start + 1, size))


@st.composite
def pictures_and_boxes(draw):
    picture = Picture(
        width=draw(st.sampled_from(SIZES)),
        height=draw(st.sampled_from(SIZES[:-5])),
        sampling=SAMPLINGS[draw(st.sampled_from(sorted(SAMPLINGS)))],
        seed=draw(st.integers(0, 100)),
        interval=draw(st.sampled_from([0, 0, 3])),
    )
    boxes = []
    for _ in range(8):
        (x0, x1), (y0, y1) = draw(spans(picture.width)), draw(spans(picture.height))
        boxes.append(Area(x0, y0, x1, y1))
    return picture, boxes


@pytest.mark.soak
@settings(deadline=None, max_examples=2000 if SOAK else 80)
@given(pictures_and_boxes())
def test_cuts_decode_to_the_pixels_of_the_whole(made):
    picture, boxes = made
    data = write(picture)
    recoded = recode(data, metadata="keep")
    decoders = [by_pillow, by_opencv, *([] if picture.sampling in [SAMPLINGS[name] for name in ODD_SAMPLINGS] else [roughly])]
    whole = [decode(data) for decode in decoders]
    for box in boxes:
        part, window = cut_out(recoded, box)
        for decode, pixels in zip(decoders, whole, strict=True):
            shown = decode(part)
            assert shown.shape[:2] == (window.area.y1 - window.area.y0, window.area.x1 - window.area.x0)
            np.testing.assert_array_equal(inside(shown, window.place(box)), inside(pixels, box))


@pytest.mark.soak
@settings(deadline=None, max_examples=2000 if SOAK else 60)
@given(pictures_and_boxes(), st.sampled_from([2, 4, 8]))
def test_scaled_cuts_decode_to_the_scaled_pixels_of_the_whole(made, scale):
    picture, boxes = made
    data = write(picture)
    recoded = recode(data, metadata="keep")
    whole = by_opencv(data, scale)
    for box in boxes:
        part, window = cut_out(recoded, box, scale)
        found = inside(by_opencv(part, scale), window.place(box, scale))
        np.testing.assert_array_equal(found, inside(whole, aligned(box, scale)))


@pytest.mark.soak
def test_cuts_of_photographs(photos):
    rng = random.Random(0)
    for path in sorted(photos.glob("*.jpg"))[: None if SOAK else 40]:
        data = path.read_bytes()
        recoded = recode(data, metadata="drop")
        whole, scaled = by_pillow(data), by_opencv(data, 2)
        for _ in range(5):
            x0, y0 = rng.randrange(recoded.segments.width), rng.randrange(recoded.segments.height)
            box = Area(x0, y0, rng.randint(x0 + 1, recoded.segments.width), rng.randint(y0 + 1, recoded.segments.height))
            part, window = cut_out(recoded, box)
            np.testing.assert_array_equal(inside(by_pillow(part), window.place(box)), inside(whole, box))
            part, window = cut_out(recoded, box, 2)
            np.testing.assert_array_equal(inside(by_opencv(part, 2), window.place(box, 2)), inside(scaled, aligned(box, 2)))


# Windows

WIDE = recode(encode(noise(1, (640, 480)), subsampling=2), metadata="keep").segments  # 4:2:0, 10 × 30 segments of 64 × 16 pixels
PLAIN = recode(encode(noise(1, (640, 480)), subsampling=0), metadata="keep").segments  # 4:4:4, 10 × 60 of 64 × 8


@pytest.mark.parametrize(
    ("segments", "box", "scale", "window"),
    [
        (WIDE, (65, 17, 127, 31), 1, (1, 2, 1, 2)),
        (WIDE, (64, 17, 127, 31), 1, (0, 2, 1, 2)),  # the first pixel's colour is smoothed with that of the one before
        (WIDE, (65, 17, 128, 31), 1, (1, 3, 1, 2)),
        (WIDE, (65, 16, 127, 32), 1, (1, 2, 0, 3)),
        (WIDE, (65, 17, 127, 31), 2, (0, 3, 0, 3)),
        (WIDE, (66, 18, 126, 30), 2, (1, 2, 1, 2)),
        (WIDE, (64, 16, 128, 32), 8, (1, 2, 1, 2)),
        (WIDE, (0, 0, 640, 480), 1, (0, 10, 0, 30)),
        (WIDE, (0, 0, 1, 1), 4, (0, 1, 0, 1)),
        (WIDE, (639, 479, 640, 480), 4, (9, 10, 29, 30)),
        (PLAIN, (64, 8, 128, 16), 1, (1, 2, 1, 2)),
        (PLAIN, (64, 8, 128, 16), 2, (1, 2, 1, 2)),
        (PLAIN, (63, 7, 64, 8), 1, (0, 1, 0, 1)),
    ],
)
def test_windows_are_no_larger_than_they_must_be(segments, box, scale, window):
    found = segments.window(Area(*box), scale)
    assert found[:4] == window
    left, right, top, bottom = window
    high = segments.mcu[1]
    assert found.area == (64 * left, high * top, 64 * right, high * bottom)


def test_a_narrow_window_is_widened_since_libjpeg_does_not_smooth_narrow_pictures():
    picture = Picture(66, 20, SAMPLINGS["4:2:0"], density=1)  # the last segment of each row shows 2 pixels
    recoded = recode(write(picture), metadata="keep")
    assert recoded.segments.interval < 5
    window = recoded.segments.window(Area(65, 0, 66, 1))
    assert window.end_column - window.first_column == 2


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 641, 5), (5, 0, 5, 5), (0, 7, 5, 6), (0, 0, 5, 481)])
def test_a_box_outside_is_a_mistake(box):
    with pytest.raises(InvalidArgument, match=r"640 × 480"):
        WIDE.window(Area(*box))


def test_another_scale_is_a_mistake():
    with pytest.raises(InvalidArgument, match="1/3"):
        WIDE.window(Area(0, 0, 5, 5), 3)


# The index


def test_an_index_is_what_was_packed():
    for seed in range(20):
        segments = recode(write(Picture(150 + seed, 100, list(SAMPLINGS.values())[seed % 10], seed=seed)), metadata="keep").segments
        packed = segments.pack()
        assert Segments.unpack(packed) == Segments.unpack(memoryview(bytearray(packed))) == segments
        assert len(packed) == 17 + 2 * segments.columns * segments.rows


def test_an_index_of_long_segments():
    long = replace(WIDE, lengths=b"\0\0\1\0" * (WIDE.columns * WIDE.rows), length_bytes=4)
    assert Segments.unpack(long.pack()) == long


def test_an_index_of_a_later_release_says_so():
    with pytest.raises(FormatTooNew, match="version 9"):
        Segments.unpack(b"\x09" + WIDE.pack()[1:])


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [
        (0, "B", 0),  # version
        (1, "B", 7),  # flags: wide lengths
        (1, "B", 64),
        (2, "B", 0x02),  # MCU
        (2, "B", 0x52),
        (2, "B", 0x11),
        (3, "<H", 0),  # interval
        (3, "<H", 3),
        (5, "<H", 0),  # width
        (5, "<H", 1000),
        (7, "<H", 0),  # height
        (7, "<H", 2000),
        (9, "<I", 10),  # header bytes
        (13, "<I", 0),  # where the size is
        (13, "<I", 0xFFFFFFFF),
    ],
)
def test_numbers_that_do_not_fit_are_noticed(at, form, value):
    packed = bytearray(WIDE.pack())
    struct.pack_into(form, packed, at, value)
    with pytest.raises(CorruptObject, match="index of a JPEG"):
        Segments.unpack(packed)


@pytest.mark.parametrize("size", [0, 1, 16, 17, 100])
def test_a_short_index_is_noticed(size):
    with pytest.raises(CorruptObject, match="index of a JPEG"):
        Segments.unpack(WIDE.pack()[:size])


# Damage

RECODED = recode(encode(noise(2, (300, 200)), subsampling=2), metadata="keep")
BOX = Area(70, 40, 200, 150)


def test_another_file_is_noticed():
    out = np.empty(1 << 20, np.uint8)
    others = [
        recode(encode(noise(3, (300, 200)), subsampling=2), metadata="keep"),
        recode(encode(noise(3, (300, 201)), subsampling=2), metadata="keep"),
        recode(encode(noise(2, (300, 200)), subsampling=0), metadata="keep"),
    ]
    for other in others:
        with pytest.raises(CorruptObject, match="not the one that was indexed"):
            cut(other.data, RECODED.segments, RECODED.segments.window(BOX), out)


@pytest.mark.parametrize("size", [0, 3, 100, 700, 5000, len(RECODED.data) // 2])
def test_a_short_file_is_noticed(size):
    with pytest.raises(CorruptObject, match="not the one that was indexed"):
        cut(RECODED.data[:size], RECODED.segments, RECODED.segments.window(BOX), np.empty(len(RECODED.data), np.uint8))


def test_a_small_buffer_is_a_mistake_and_nothing_is_written_behind_it():
    window = RECODED.segments.window(BOX)
    memory = np.zeros(len(RECODED.data) + 64, np.uint8)
    size = cut(RECODED.data, RECODED.segments, window, memory)
    expected = memory[:size].copy()
    for room in (0, 10, RECODED.segments.header_bytes, size // 2, size - 1):
        memory[:] = 7
        with pytest.raises(InvalidArgument, match="always enough"):
            cut(RECODED.data, RECODED.segments, window, memory[:room])
        assert (memory[room:] == 7).all()
    assert cut(RECODED.data, RECODED.segments, window, memory[:size]) == size
    np.testing.assert_array_equal(memory[:size], expected)


@pytest.mark.parametrize("out", [np.empty((10, 10), np.uint8), np.empty(1 << 17, np.int16), np.empty(1 << 18, np.uint8)[::2]])
def test_a_buffer_of_another_kind_is_a_mistake(out):
    with pytest.raises(InvalidArgument, match="C-contiguous"):
        cut(RECODED.data, RECODED.segments, RECODED.segments.window(BOX), out)


@pytest.mark.parametrize("window", [(0, 1 << 40, 0, 1), (-5, 1, 0, 1), (0, 1, 0, 500), (0, 1, -9, 3), (2, 1, 0, 1), (0, 1, 3, 3)])
def test_a_window_of_another_picture_is_a_mistake(window):
    with pytest.raises(InvalidArgument, match="window"):
        cut(RECODED.data, RECODED.segments, Window(*window, BOX), np.empty(1 << 20, np.uint8))


@pytest.mark.soak
def test_damage_never_reaches_beyond_the_buffers():
    """Whatever index and data are: a clean error, or a file no larger than the data, and nothing written behind the buffer."""
    rng = random.Random(5)
    packed, data = RECODED.segments.pack(), RECODED.data
    memory = np.zeros(len(data) + 4096, np.uint8)
    done = refused = 0
    for _ in range(100_000 if SOAK else 4_000):
        index, bytes_ = bytearray(packed), bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 5))):
            if rng.random() < 0.7:
                index[rng.randrange(rng.choice((17, len(index))))] = rng.choice((0, 255, rng.randrange(256)))
            else:
                at = rng.randrange(len(bytes_))
                bytes_[at : at + rng.choice((1, 1, 5))] = rng.randbytes(rng.choice((1, 1, 0, 9)))
        memory[len(data) :] = 7
        try:
            segments = Segments.unpack(index)
            x0, y0 = rng.randrange(segments.width), rng.randrange(segments.height)
            box = Area(x0, y0, rng.randint(x0 + 1, segments.width), rng.randint(y0 + 1, segments.height))
            size = cut(bytes_, segments, segments.window(box), memory[: len(data)])
        except (CorruptObject, FormatTooNew, InvalidArgument):
            refused += 1
        else:
            assert 0 < size <= len(data)
            done += 1
        assert (memory[len(data) :] == 7).all()
    assert done > 100
    assert refused > 100


def test_threads_cut_from_the_same_data():
    rng = random.Random(1)
    boxes = [
        Area(x, y, rng.randint(x + 1, 300), rng.randint(y + 1, 200))
        for x, y in ((rng.randrange(299), rng.randrange(199)) for _ in range(300))
    ]
    expected = [cut_out(RECODED, box)[0] for box in boxes]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda box: cut_out(RECODED, box)[0], boxes)) == expected


def test_data_may_be_any_buffer():
    expected, window = cut_out(RECODED, BOX)
    out = np.empty(len(RECODED.data), np.uint8)
    view = memoryview(bytearray(b"x" + RECODED.data))[1:]
    for data in (view, np.frombuffer(RECODED.data, np.uint8), bytearray(RECODED.data)):
        segments = Segments.unpack(memoryview(b"odd" + RECODED.segments.pack())[3:])
        assert out[: cut(data, segments, window, out)].tobytes() == expected


def test_a_cut_is_a_jpeg_that_can_be_transcoded_again():
    part, window = cut_out(RECODED, BOX)
    again = recode(part, metadata="keep")
    assert (again.segments.width, again.segments.height) == (window.area.x1 - window.area.x0, window.area.y1 - window.area.y0)
    np.testing.assert_array_equal(by_pillow(again.data), by_pillow(part))
