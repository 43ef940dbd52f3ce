"""Headers of JPEG files, looked at many at once: what is called plain, Pillow reads the same; whatever the bytes are, nothing breaks."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.errors import BadSample
from dataplane.prep.image import examine
from dataplane.prep.jpegs import plain_pictures
from tests.folders import ORIENTATION, encode, noise

patient = settings(deadline=None)

PLAIN = encode(noise(1))
XMP = b"http://ns.adobe.com/xap/1.0/\0" + b'<x tiff:Orientation="6"/>'
RESOURCE = b"8BIM" + struct.pack(">HBxI", 0x0404, 0, 4) + b"abcd"


def looked_at(*files):
    buffer = np.frombuffer(b"?" + b"".join(files), np.uint8)
    sizes = np.array([len(data) for data in files], np.int64)
    return [tuple(told) for told in plain_pictures(buffer, np.cumsum(sizes) - sizes + 1, sizes).tolist()]


def segment(marker, data):
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def file(*segments):
    """A picture with further segments in front of its own."""
    return PLAIN[:2] + b"".join(segments) + PLAIN[2:]


def ifd(entries, *, big=False, behind=b"", offset=8, count=None):
    order = ">" if big else "<"
    head = (b"MM\0*" if big else b"II*\0") + struct.pack(f"{order}I", offset)
    packed = b"".join(
        struct.pack(f"{order}HHI", tag, kind, values) + (value if isinstance(value, bytes) else struct.pack(f"{order}HH", value, 0))
        for tag, kind, values, value in entries
    )
    number = struct.pack(f"{order}H", len(entries) if count is None else count)
    return b"Exif\0\0" + head + bytes(offset - 8) + number + packed + bytes(4) + behind


def seen_by_pillow(data):
    """What `examine` tells of a file; None for a bad one."""
    try:
        info = examine(data, decode=False, max_pixels=1 << 40).info
    except BadSample:
        return None
    return info.width, info.height, info.orientation


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("value", range(10))
def test_the_orientation(value, big):
    data = file(segment(0xE1, ifd([(0x0100, 4, 1, 9), (ORIENTATION, 3, 1, value)], big=big, offset=8 + value)))
    assert looked_at(data) == [seen_by_pillow(data)] == [(24, 20, value if 1 <= value <= 8 else 1)]


@pytest.mark.parametrize(
    ("segments", "plain"),
    [
        ([], True),
        ([segment(0xE1, ifd([]))], True),
        ([segment(0xE1, XMP)], False),
        ([segment(0xE1, XMP), segment(0xE1, ifd([(ORIENTATION, 3, 1, 3)]))], True),
        ([segment(0xE1, ifd([(ORIENTATION, 3, 1, 3)])), segment(0xE1, ifd([]))], False),
        ([segment(0xE1, ifd([(ORIENTATION, 3, 1, 3), (ORIENTATION, 3, 1, 5)]))], False),
        ([segment(0xE1, ifd([(ORIENTATION, 4, 1, 3)]))], False),
        ([segment(0xE1, ifd([(0x010F, 2, 20, struct.pack("<I", 26)), (ORIENTATION, 3, 1, 8)], behind=bytes(20)))], True),
        ([segment(0xE1, ifd([(0x010F, 2, 1 << 30, struct.pack("<I", 26)), (ORIENTATION, 3, 1, 8)], behind=bytes(20)))], False),
        ([segment(0xE1, ifd([(ORIENTATION, 3, 1, 8)], count=9))], False),
        ([segment(0xE1, b"Exif\0\0II+\0" + bytes(20))], False),
        ([segment(0xED, b"Photoshop 3.0\0" + RESOURCE + RESOURCE)], True),
        ([segment(0xED, b"Photoshop 3.0\0" + RESOURCE[:-6])], False),
        ([segment(0xEE, b"Adobe" + bytes(7))], True),
        ([segment(0xEE, b"Adobe" + bytes(2))], False),
        ([segment(0xE2, b"ICC_PROFILE\0\1\1abc")], True),
        ([segment(0xE2, b"MPF\0abc")], False),
        ([segment(0xE5, b"anything")], False),
        ([segment(0xDB, bytes(64))], False),
        ([segment(0xFE, b"a comment")], True),
    ],
)
def test_what_is_plain(segments, plain):
    data = file(*segments)
    assert looked_at(PLAIN, data, PLAIN[:-2], b"", PLAIN) == [
        (24, 20, 1),
        seen_by_pillow(data) if plain else (0, 0, 0),
        (0, 0, 0),
        (0, 0, 0),
        (24, 20, 1),
    ]


byte_string = st.binary(max_size=40)
values = st.one_of(st.integers(0, 12), st.binary(min_size=4, max_size=4))
entries = st.lists(
    st.tuples(st.sampled_from([ORIENTATION, 0x010F, 0x0112, 0x8769]), st.integers(0, 17), st.sampled_from([0, 1, 1, 1, 2, 9]), values)
)
exif = st.builds(ifd, entries, big=st.booleans(), behind=byte_string, offset=st.sampled_from([8, 8, 8, 10]))
segments = st.lists(
    st.one_of(
        st.builds(segment, st.just(0xE1), st.one_of(exif, exif, st.just(XMP), byte_string)),
        st.builds(segment, st.just(0xED), byte_string.map(lambda tail: b"Photoshop 3.0\0" + RESOURCE + tail)),
        st.builds(segment, st.sampled_from([0xE0, 0xE2, 0xE5, 0xEE, 0xFE, 0xDB, 0xC4, 0xDD, 0xC0]), byte_string),
    ),
    max_size=4,
)


@patient
@given(segments, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4), st.integers(0, 30))
def test_pillow_agrees_about_what_is_plain(some, changes, cut):
    data = bytearray(file(*some))
    for at, value in changes:
        data[at % len(data)] = value
    data = bytes(data[: len(data) - cut] if cut < 5 else data)
    told = looked_at(data)[0]
    if told != (0, 0, 0):
        assert told == seen_by_pillow(data)


@patient
@given(st.binary(max_size=200), st.binary(max_size=60))
def test_nothing_breaks(data, behind):
    looked_at(b"\xff\xd8\xff" + data, data, b"\xff\xd8" + segment(0xE1, b"Exif\0\0II*\0" + data) + behind)
