"""Progressive files become sequential ones of the same pixels, or are refused with a reason."""

import os
import random
import shutil
import subprocess
from itertools import pairwise

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataplane.formats.jpeg import Area, Unsupported, baseline, cut, recode
from dataplane.formats.jpeg.huffman import optimal
from tests.folders import encode, noise
from tests.jpegs import by_opencv, by_pillow, by_simplejpeg

SOAK = bool(os.environ.get("DATAPLANE_SOAK"))
SMOOTH = noise(0, (12, 9)).resize((230, 170), Image.Resampling.BICUBIC)
SCRIPTS = {
    "spectral selection alone": "0,1,2: 0-0, 0, 0; 0: 1-5, 0, 0; 0: 6-63, 0, 0; 1: 1-63, 0, 0; 2: 1-63, 0, 0;",
    "no interleaving": "0: 0-0, 0, 0; 1: 0-0, 0, 0; 2: 0-0, 0, 0; 0: 1-63, 0, 0; 1: 1-63, 0, 0; 2: 1-63, 0, 0;",
    "two and one": "0,1: 0-0, 0, 0; 2: 0-0, 0, 0; 0: 1-63, 0, 0; 1: 1-63, 0, 0; 2: 1-63, 0, 0;",
    "bit by bit": "0,1,2: 0-0, 0, 3; 0: 1-63, 0, 3; 1: 1-63, 0, 2; 2: 1-63, 0, 1; 0,1,2: 0-0, 3, 2; 0: 1-63, 3, 2; 0: 1-63, 2, 1;"
    "1: 1-63, 2, 1; 0,1,2: 0-0, 2, 1; 0,1,2: 0-0, 1, 0; 0: 1-63, 1, 0; 1: 1-63, 1, 0; 2: 1-63, 1, 0;",
    "coefficient by coefficient": "0,1,2: 0-0, 0, 0; 1: 1-63, 0, 0; 2: 1-63, 0, 0;" + "".join(f"0: {n}-{n}, 0, 0;" for n in range(1, 64)),
}


def assert_same_pixels(data, other):
    for decode in (by_pillow, by_opencv, by_simplejpeg):
        np.testing.assert_array_equal(decode(other), decode(data))


@pytest.mark.soak
@settings(deadline=None, max_examples=400 if SOAK else 40)
@given(
    st.tuples(st.integers(1, 130), st.integers(1, 130)),
    st.sampled_from([5, 50, 90, 100]),
    st.integers(0, 2),
    st.sampled_from([{}, {"restart_marker_blocks": 1}, {"restart_marker_blocks": 5}, {"restart_marker_rows": 1}, {"keep_rgb": True}]),
    st.sampled_from(["RGB", "RGB", "L"]),
)
def test_files_of_pillow_decode_as_before(size, quality, subsampling, options, mode):
    if "keep_rgb" in options:
        subsampling = 0
    data = encode(SMOOTH.resize(size).convert(mode), progressive=True, quality=quality, subsampling=subsampling, **options)
    sequential = baseline(data)
    assert b"\xff\xc2" not in sequential[: sequential.index(b"\xff\xda")]
    assert_same_pixels(data, sequential)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_other_orders_of_scans_decode_as_before(tmp_path, script, subsampling):
    if not shutil.which("jpegtran"):
        pytest.skip("jpegtran (Debian's libjpeg-turbo-progs) writes these")
    (tmp_path / "script").write_text(SCRIPTS[script])
    (tmp_path / "plain.jpg").write_bytes(encode(SMOOTH, quality=95, subsampling=subsampling))
    subprocess.run(["jpegtran", "-scans", "script", "-outfile", "progressive.jpg", "plain.jpg"], cwd=tmp_path, check=True)
    data = (tmp_path / "progressive.jpg").read_bytes()
    assert data.count(b"\xff\xda") == SCRIPTS[script].count(";")
    assert_same_pixels(data, baseline(data))


@pytest.mark.soak
def test_photographs_decode_as_before(photos):
    for path in sorted(photos.glob("*.jpg"))[: None if SOAK else 10]:
        data = encode(Image.open(path), progressive=True, quality=90, subsampling=2)
        sequential = baseline(data)
        assert_same_pixels(data, sequential)
        assert len(sequential) < 1.15 * len(data)


def test_they_can_be_cut_then():
    data = encode(SMOOTH, progressive=True, quality=95) + b"behind"
    recoded = recode(baseline(data), metadata="keep")
    assert recoded.data.endswith(b"behind")
    box = Area(70, 50, 140, 120)
    window, out = recoded.segments.window(box), np.empty(len(recoded.data), np.uint8)
    part = by_pillow(out[: cut(recoded.data, recoded.segments, window, out)].tobytes())
    place = window.place(box)
    np.testing.assert_array_equal(part[place.y0 : place.y1, place.x0 : place.x1], by_pillow(data)[50:120, 70:140])


def test_wide_quantisation_makes_an_extended_file():
    data = encode(SMOOTH, progressive=True, qtables=[[300] * 64, [7] * 64])
    sequential = baseline(memoryview(data))
    assert b"\xff\xc1" in sequential[: sequential.index(b"\xff\xda")]
    assert_same_pixels(data, sequential)


PROGRESSIVE = encode(SMOOTH, progressive=True, quality=95)
LAST = PROGRESSIVE.rindex(b"\xff\xc4")  # of the last scan; its start of scan follows


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode(SMOOTH), "not progressive"),
        (encode(SMOOTH.convert("CMYK"), progressive=True), "4 components"),
        (PROGRESSIVE[:LAST] + b"\xff\xd9", "not all bits"),
        (PROGRESSIVE[:LAST] + PROGRESSIVE[LAST:-2] * 2 + b"\xff\xd9", "scans that do not follow each other"),
        (PROGRESSIVE[:LAST] + b"\xff\xfe\0\2" + PROGRESSIVE[LAST:], "an odd marker between scans"),
        (PROGRESSIVE[:-2], "no end marker"),
        (PROGRESSIVE[:-90] + b"\xff\xd9", "damaged scan"),
        (PROGRESSIVE.replace(b"\xff\xc4", b"\xff\xc5", 1), "hierarchical"),
        (b"", "no JPEG"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_refused_says_why(data, reason):
    with pytest.raises(Unsupported, match=reason):
        baseline(data)


def outcome(data):
    try:
        return simplejpeg.decode_jpeg(data)
    except ValueError:
        return None


@pytest.mark.soak
def test_damage_is_refused_or_decodes_as_before():
    rng = random.Random(3)
    small = SMOOTH.resize((90, 70))
    sound = [encode(small, progressive=True, quality=85, subsampling=n % 3, restart_marker_blocks=4 * (n % 2)) for n in range(6)]
    refused = made = 0
    for _ in range(50_000 if SOAK else 1_500):
        data = bytearray(rng.choice(sound))
        for _ in range(rng.choice((1, 1, 3))):
            at = rng.randrange(2, len(data))
            data[at : at + rng.choice((1, 1, 1, 0, 3))] = rng.choice(
                (bytes((data[at] ^ 1 << rng.randrange(8),)), rng.randbytes(1), b"", b"\xff\xd0")
            )
        try:
            sequential = baseline(bytes(data))
        except Unsupported:
            refused += 1
            continue
        made += 1
        np.testing.assert_array_equal(outcome(sequential), outcome(bytes(data)))
    assert refused > 200
    assert made > 100


@given(st.dictionaries(st.integers(0, 255), st.integers(1, 1 << 40) | st.integers(0, 50).map(lambda n: 1 << n), min_size=1))
def test_optimal_tables_are_tables_and_as_short_as_can_be(frequencies):
    table = optimal(frequencies)
    assert table.codes.keys() == frequencies.keys()
    size = sum(frequencies[symbol] * length for symbol, (_, length) in table.codes.items())
    ordered = sorted(frequencies, key=frequencies.get, reverse=True)
    even = len(frequencies).bit_length()  # the length of codes that are all equally long, with one to spare
    assert size <= sum(frequencies.values()) * even
    assert all(table.codes[one][1] <= table.codes[other][1] for one, other in pairwise(ordered) if frequencies[one] > frequencies[other])
