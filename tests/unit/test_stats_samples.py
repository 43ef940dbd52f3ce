"""Samples as people look at them: what a value is, how it is drawn, and which samples are shown."""

import io
import json
import random
import uuid
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataplane import Lake
from dataplane.errors import BadSample, InvalidArgument, NotFound
from dataplane.stats import head
from dataplane.stats.drawing import draw, heat_png, outline, thumbnail
from dataplane.stats.values import look, one_line, sound_of
from dataplane.testing.samples import sample_lake
from tests.folders import encode, noise


def wav(levels, width=2, channels=1, rate=8000):
    """A WAV file of levels from -1 to 1, of so many bytes a sample."""
    out = io.BytesIO()
    stored = np.round(np.asarray(levels) * (2 ** (8 * width - 1) - 1)).astype(np.int64)
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        if width == 1:
            stored += 128
        file.writeframes(b"".join(int(value).to_bytes(width, "little", signed=width > 1) for value in stored))
    return out.getvalue()


def npy(array):
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


WAVE = np.sin(np.linspace(0, 20, 1000))


# ------------------------------------------------------------------ what a value is


@pytest.mark.parametrize(
    ("value", "kind", "size", "preview"),
    [
        (encode(noise(0)), "picture", None, "jpg"),
        (encode(noise(0), "PNG"), "picture", None, "png"),
        (wav(WAVE), "sound", "2,044 bytes", "0.12 s, 8,000 Hz, mono"),
        (wav(WAVE, channels=2, width=3), "sound", "3,044 bytes", "0.06 s, 8,000 Hz, 2 channels"),
        (b"RIFF....WAVEfmt nonsense", "bytes", "24 bytes", "a WAV file in a coding that is not drawn"),
        (b"fLaC\0\0\0", "bytes", "7 bytes", "FLAC sound"),
        (b"7", "text", "1 byte", "7"),
        ("grün\n\n  und  \x1b[31m".encode(), "bytes", None, "67 72 c3 bc 6e 0a 0a 20 20 75 6e 64 20 20 1b 5b …"),
        ("grün\n und".encode(), "text", "10 bytes", "grün und"),
        (b"", "text", "0 bytes", ""),
        (bytes(20), "bytes", "20 bytes", " ".join(["00"] * 16) + " …"),
        (b"\xff\xfe", "bytes", "2 bytes", "ff fe"),
        ("a\x07b", "text", "3 bytes", "a\\x07b"),
        (npy(np.arange(6.0).reshape(2, 3)), "array", "2 × 3 float64", "0, 1, 2, 3, 4, 5"),
        (b"\x93NUMPY nonsense", "bytes", "15 bytes", "a NumPy file that cannot be read"),
        (np.zeros((4, 5, 6), np.uint8), "array", "4 × 5 × 6 uint8", "0, 0, 0, 0, 0, 0, …"),
        (np.float32(1.5), "value", "", "1.5"),
        (np.zeros(0), "array", "0 float64", "empty"),
        (np.array(3), "array", "one int64", "3"),
        (12, "value", "", "12"),
        (None, "value", "", "null"),
        ({"a": [1, "ü"]}, "value", "", '{"a": [1, "ü"]}'),
        ("x" * 500, "text", "500 bytes", "x" * 79 + "…"),
    ],
)
def test_what_a_value_is(value, kind, size, preview):
    found = look("field", value)
    assert (found.name, found.kind, found.preview) == ("field", kind, preview)
    assert size is None or found.size == size
    json.dumps(found.to_json())
    assert draw(found) is not None


def test_text_that_is_cut_within_a_character_is_text():
    for data in ("€" * 4000, "x" + "€" * 4000, "xx" + "€" * 4000):
        assert look("t", data.encode()).kind == "text"
    assert look("t", ("x" * 100).encode() + b"\xe2\x82").kind == "bytes"


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_sounds_are_read_as_they_were_written(width, channels):
    found = sound_of(wav(WAVE, width=width, channels=channels, rate=16_000))
    assert found.samples.shape == (1000 // channels, channels)
    assert found.seconds == 1000 / channels / 16_000
    assert np.abs(found.samples.reshape(-1) - WAVE).max() < 2 ** (2 - 8 * width) + 1e-6


@settings(deadline=None, max_examples=200)
@given(kind=st.sampled_from(["wav", "npy", "jpg", "text"]), seed=st.integers(0, 2**32))
def test_hostile_bytes_are_looked_at_and_drawn(kind, seed):
    rng = random.Random(seed)
    data = bytearray(
        {"wav": wav(WAVE), "npy": npy(np.arange(40.0).reshape(4, 10)), "jpg": encode(noise(0)), "text": b"hello world " * 9}[kind]
    )
    for _ in range(rng.randrange(1, 8)):
        data[rng.randrange(min(len(data), rng.choice((16, 48, len(data)))))] = rng.randrange(256)
    if rng.random() < 0.5:
        del data[rng.randrange(len(data)) :]
    found = look("x", bytes(data))
    assert len(found.preview) <= 80
    draw(found)


def test_one_line():
    assert one_line("a\nb\x1b[2J") == "a\\nb\\x1b[2J"


# ------------------------------------------------------------------ how it is drawn


def test_thumbnails_are_small_and_upright():
    tags = Image.Exif()
    tags[0x0112] = 6
    with Image.open(io.BytesIO(thumbnail(encode(noise(1, (600, 300)), exif=tags)))) as small:
        assert (small.format, small.size) == ("JPEG", (96, 192))
    with pytest.raises(BadSample):
        thumbnail(b"hello")


def test_what_cannot_be_decoded_is_told():
    drawn = draw(look("jpg", encode(noise(1, (200, 200)))[:300]))
    assert "cannot be decoded" in drawn


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        (np.zeros((8, 9, 3), np.uint8), "data:image/jpeg"),
        (np.zeros((8, 9)), "heat map"),
        (np.zeros((5, 8, 9)), "[2] of it"),
        (np.arange(1000.0), "1,000 numbers from 0 to 999"),
        (np.array([1.7e308, -1.7e308]), "2 numbers"),
        (np.array([np.nan, 1.0]), "<code>"),
        (np.array(["a", "b"]), "<code>"),
        (wav(WAVE), "loudest 100% of full scale"),
        (wav([]), "0.00 s"),
        ("<b>", "&lt;b&gt;"),
        ({"<": 1}, "{&quot;&lt;&quot;: 1}"),
    ],
)
def test_drawings(value, tag):
    drawn = draw(look("field", value))
    assert tag in drawn
    assert "nan" not in drawn.split("<code>")[0]


def test_a_long_sound_is_drawn_and_not_put_into_the_page():
    assert "<audio" in draw(look("wav", wav(WAVE)))
    assert "<audio" not in draw(look("wav", wav(np.zeros(300_000))))


def heat(values):
    with Image.open(io.BytesIO(heat_png(values))) as image:
        return np.asarray(image)


def test_heat_maps():
    found = heat(np.array([[0.0, 1.0], [np.nan, 0.5]]))
    assert found[0, 0].tolist() == [28, 20, 68, 255]
    assert found[0, 1].tolist() == [253, 231, 37, 255]
    assert found[1, 0, 3] == 0
    assert found[1, 1].tolist() == [33, 145, 140, 255]
    assert heat(np.array([[1.7e308, -1.7e308]]))[0, 0].tolist() == [253, 231, 37, 255]
    assert heat(np.zeros((300, 70))).shape == (64, 64, 4)
    assert heat(np.full((2, 2), np.inf))[:, :, 3].max() == 0


@given(st.lists(st.floats(-10, 10), max_size=500), st.integers(1, 60))
def test_outlines_hold_every_value(values, columns):
    low, high = outline(np.array(values), columns)
    assert len(low) == len(high) == min(len(values), columns)
    if values:
        assert (low.min(), high.max()) == (min(values), max(values))
        assert (low <= high).all()


# ------------------------------------------------------------------ which samples


@pytest.fixture
def lake():
    return sample_lake(f"memory://{uuid.uuid4().hex}")


def test_the_first_samples(lake):
    found = head(lake, "pictures/train", count=5)
    assert [each.key for each in found] == [sample.key for sample in lake.dataset("pictures")["train"][:5]]
    assert {each.split for each in found} == {"train"}
    assert [each.label for each in found[:3]] == ["blue", "green", "red"]
    document = found[0].to_json()
    assert document["fields"]["jpg"].keys() == {"kind", "preview", "bytes"}
    assert document["fields"]["cls"] == {"kind": "text", "preview": "0", "bytes": 1}
    assert document["metadata"]["jpg.width"] > 0
    json.dumps(document)


def test_without_a_split_all_of_them(lake):
    assert [each.split for each in head(lake, "pictures@1", count=14)] == ["test"] * 12 + ["train"] * 2
    assert len(head(lake, "pictures", count=1000)) == 60


def test_random_samples_are_the_same_for_the_same_seed(lake):
    keys = [[each.key for each in head(lake, "pictures", count=10, seed=seed)] for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    assert len(set(keys[0])) == 10


def test_a_damaged_sample_is_told_of_in_place(tmp_path):
    lake = sample_lake(str(tmp_path / "lake"))
    shard = lake.dataset("pictures")["train"].shards[0]
    file = lake.store.root / shard.row.ref.path
    data = bytearray(file.read_bytes())
    data[shard.index.placed(1)["jpg"].offset + 30] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    found = head(Lake(lake.url), "pictures/train", count=3)
    problems = [each for each in found if each.problem]
    assert [each.key for each in problems] == ["sample 1 of pictures@1/train"]
    assert "checksum" in problems[0].to_json()["problem"]
    assert len(found) == 3


def test_what_is_asked_wrongly(lake):
    with pytest.raises(InvalidArgument):
        head(lake, "pictures", count=0)
    with pytest.raises(InvalidArgument):
        head(lake, "pictures", seed=-1)
    for spec in ("nothing", "pictures/val", "pictures@9"):
        with pytest.raises(NotFound):
            head(lake, spec)
