"""The CRC of compiled functions, held against the library that everything else uses."""

import os
import subprocess
import sys

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.crc import FOLDS, HARDWARE, by_folding, crc32c_of, in_lanes

pytestmark = pytest.mark.skipif(not HARDWARE, reason="this processor has no instruction for it")
DATA = np.random.default_rng(0).integers(0, 256, 20_000, dtype=np.uint8)


@settings(deadline=None)  # the first call compiles
@given(st.integers(0, 9), st.one_of(st.integers(0, 100), st.integers(6_100, 6_200), st.integers(12_200, 19_900)))
def test_it_is_the_librarys(start, size):
    assert crc32c_of(DATA.ctypes.data + start, size) == google_crc32c.value(DATA[start : start + size].tobytes())


def test_the_check_value_of_the_polynomial():
    data = np.frombuffer(b"123456789", np.uint8)
    assert crc32c_of(data.ctypes.data, 9) == 0xE3069283


@pytest.mark.parametrize("way", [in_lanes, pytest.param(by_folding, marks=pytest.mark.skipif(not FOLDS, reason="it folds nothing"))])
@pytest.mark.parametrize("size", [0, 8, 256, 512, 768, 4096, 6144, 12288, 18432])
def test_each_way_stands_where_it_says(way, size):
    start = DATA.ctypes.data + 3
    crc, at = way(np.uint64(0xFFFFFFFF), np.uint64(start), np.uint64(start + size))
    done = int(at) - start
    assert size - done < (256 if way is by_folding else 6144)
    assert int(crc) ^ 0xFFFFFFFF == google_crc32c.value(DATA[3 : 3 + done].tobytes())


@pytest.mark.parametrize("setting", ["NUMBA_CPU_NAME=generic", "NUMBA_ENABLE_AVX=0", "NUMBA_CPU_FEATURES=-sse4.2,-crc"])
def test_numba_may_be_told_to_do_without(setting, tmp_path):
    """Else the compiler would end the process."""
    code = """
import numpy as np
from dataplane.crc import FOLDS, HARDWARE, crc32c_of
data = np.frombuffer(bytes(1000), np.uint8)
print(HARDWARE, FOLDS, crc32c_of(data.ctypes.data, 1000) if HARDWARE else 0)
"""
    name, value = setting.split("=")
    environment = {**os.environ, name: value, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    hardware, folds, found = done.stdout.split()
    assert folds == "False" or "AVX" not in setting
    assert hardware == str("AVX" in setting)
    assert int(found) == (google_crc32c.value(bytes(1000)) if hardware == "True" else 0)
