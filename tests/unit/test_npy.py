"""Pixels as NumPy files: what is written is numpy's own, and what is read is checked."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import BadSample, InvalidArgument
from dataplane.formats import npy


def saved(array, **options):
    out = io.BytesIO()
    np.lib.format.write_array(out, array, **options)
    return out.getvalue()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@given(st.integers(1, 40), st.integers(1, 40))
def test_the_bytes_are_those_that_numpy_writes(height, width):
    pixels = noise(height, width, 3)
    data = npy.pack(pixels)
    assert data == saved(pixels, version=(1, 0))
    assert npy.layout(data) == npy.layout(data, expected=(height, width)) == (height, width, 3, 128)
    assert np.array_equal(npy.unpack(data), pixels)


def test_sizes_of_many_digits():
    for shape in [(1, 123_456, 3), (99_999, 1, 3)]:
        assert npy.pack(np.zeros(shape, np.uint8)) == saved(np.zeros(shape, np.uint8), version=(1, 0))


def test_views_in_another_order_are_written_as_they_are_seen():
    pixels = noise(7, 5, 3)
    assert npy.pack(pixels[::-1].transpose(1, 0, 2)) == saved(np.ascontiguousarray(pixels[::-1].transpose(1, 0, 2)))


def test_another_size_than_expected_is_told():
    assert npy.layout(npy.pack(noise(4, 6, 3)), expected=(6, 4)) == (4, 6, 3, 128)


def test_files_of_others_are_read():
    pixels = noise(4, 6, 3)
    assert np.array_equal(npy.unpack(saved(pixels, version=(2, 0))), pixels)
    assert np.array_equal(npy.unpack(saved(pixels[:, :, 0])), np.repeat(pixels[:, :, :1], 3, axis=2))
    assert np.array_equal(npy.unpack(saved(pixels[:, :, :1])), np.repeat(pixels[:, :, :1], 3, axis=2))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (npy.pack(noise(4, 6, 3))[:-1], "1 bytes of 4 × 6 pixels are missing"),
        (npy.pack(noise(4, 6, 3))[:60], "not a NumPy file"),
        (b"\x93NUMPY\x01\x00\x10\x00{[", "not a NumPy file"),
        (b"\x93NUMPY\x09\x00\x10\x00" + bytes(64), "not a NumPy file"),
        (b"", "not a NumPy file"),
        (saved(noise(4, 6, 3).astype(np.float32)), "the array is float32"),
        (saved(np.asfortranarray(noise(4, 6, 3))), "Fortran"),
        (saved(noise(4, 6, 4)), r"\[4, 6, 4\]"),
        (saved(noise(4, 0, 3)), r"\[4, 0, 3\]"),
        (saved(np.array([{"a": 1}], object), allow_pickle=True), "the array is object"),
    ],
)
def test_what_is_no_picture_is_a_bad_sample(data, said):
    with pytest.raises(BadSample, match=said):
        npy.unpack(data)


def test_only_pixels_are_packed():
    for array in [np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.float32), np.zeros((4, 6, 4), np.uint8)]:
        with pytest.raises(InvalidArgument, match="pixels are uint8"):
            npy.pack(array)
