"""The copy of tokens: every stored type into every type that is wanted, and what does not fit."""

import numpy as np
import pytest

from loaders.kernels.tokens import RUN, copy_runs
from loaders.tokens.opened import KINDS

WANTED = (np.uint16, np.int32, np.int64)


def runs_of(*runs):
    """Runs of these values, one behind the other."""
    found = np.zeros(len(runs), RUN)
    at = 0
    for run, values in zip(found, runs, strict=True):
        run["to"], run["count"], run["kind"], run["where"] = at, len(values), KINDS[values.dtype], values.ctypes.data
        at += len(values)
    return found


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("stored", KINDS)
@pytest.mark.parametrize("count", [1, 3, 9, 300])
def test_tokens_are_copied_and_each_is_looked_at(stored, wanted, count):
    rng = np.random.default_rng(count)
    most = np.iinfo(wanted).max
    values = [rng.integers(0, min(np.iinfo(stored).max, most), n, np.int64, endpoint=True).astype(stored) for n in (count, 2, count)]
    out = np.zeros(2 * count + 3, wanted)
    assert copy_runs(runs_of(*values), 0, most, out) == (3, 0)
    assert (out[:-1] == np.concatenate(values)).all()
    assert out[-1] == 0
    where = int(rng.integers(count))
    for bad in (-1, most + 1):
        if np.iinfo(stored).min <= bad <= np.iinfo(stored).max:
            spoiled = values[2].copy()
            spoiled[where] = bad
            assert copy_runs(runs_of(*values[:2], spoiled), 0, most, out) == (2, where)
            assert copy_runs(runs_of(spoiled, *values[:2]), 1, most, out) == (3, 0)
