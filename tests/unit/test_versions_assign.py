"""Splits as pure functions: the same as at ingest, exact proportions, nothing later before anything earlier."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.ingest.splits import Splits
from dataplane.versions.assign import ascending, dense_ranks, fractions_of, hashes, in_strata, shares, within

SPECS = ["train=1", "a=0.5,b=0.5", "train=0.8,val=0.1,test=0.1", "a=0.333,b=0.333,c=0.334", "a=0.07,b=0.93"]


@st.composite
def specs(draw):
    return Splits.parse(draw(st.sampled_from(SPECS)), None)


@given(specs(), st.lists(st.text(max_size=20), max_size=50))
def test_hashes_split_as_ingest_does(splits, keys):
    found = within(hashes(keys, seed=0), splits)
    assert [splits.names[code] for code in found] == [splits.of("", key) for key in keys]


def test_another_seed_is_another_split():
    splits, keys = Splits.parse("a=0.5,b=0.5", None), [str(n) for n in range(200)]
    one, other = (within(hashes(keys, seed=seed), splits) for seed in (1, 2))
    assert 60 < (one != other).sum() < 140
    assert (one == within(hashes(keys, seed=1), splits)).all()


@given(specs(), st.lists(st.integers(0, 10**6), min_size=1, max_size=20), st.integers(0, 10**9))
def test_shares_are_exact_but_for_rounding(splits, counts, turn):
    fractions, counts = fractions_of(splits), np.array(counts)
    assert fractions.sum() == pytest.approx(1)
    found = shares(counts, fractions, turns=counts + turn)
    assert (found.sum(axis=1) == counts).all()
    assert (np.abs(found - counts[:, None] * fractions) < 1).all()


def test_the_largest_remainder_gets_the_rest():
    three = fractions_of(Splits.parse("train=0.8,val=0.1,test=0.1", None))
    assert shares(np.array([10, 4, 9, 1]), three, turns=np.zeros(4, np.int64)).tolist() == [[8, 1, 1], [3, 1, 0], [7, 1, 1], [1, 0, 0]]
    assert shares(np.array([4, 4]), three, turns=np.array([1, 2])).tolist() == [[3, 1, 0], [3, 0, 1]]
    half = fractions_of(Splits.parse("a=0.5,b=0.5", None))
    turns = (hashes([f"label {n}" for n in range(1000)], seed=0) >> np.uint64(1)).astype(np.int64)
    both = shares(np.ones(1000, np.int64), half, turns=turns).sum(axis=0)
    assert 400 < both[0] < 600  # labels of one sample do not all go one way


@given(specs(), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**64 - 1)), max_size=60, unique_by=lambda pair: pair[1]))
def test_strata_are_cut_alike_in_the_order_of_hashes(splits, samples):
    strata, hashed = np.array([s for s, _ in samples], np.int32), np.array([h for _, h in samples], np.uint64)
    fractions, turns = fractions_of(splits), np.arange(5)
    found = in_strata(hashed, strata, fractions, turns=turns)
    for stratum in set(strata.tolist()):
        mine = strata == stratum
        assert (np.diff(found[mine][np.argsort(hashed[mine])]) >= 0).all()
        expected = shares(np.array([mine.sum()]), fractions, turns=np.array([stratum]))[0]
        assert np.bincount(found[mine], minlength=len(fractions)).tolist() == expected.tolist()


@settings(deadline=None)
@given(specs(), st.lists(st.integers(0, 30), min_size=1, max_size=80))
def test_time_never_leaks(splits, times):
    times = np.array(times)
    codes = ascending(dense_ranks(pa.array(times)), fractions_of(splits))
    assert set(codes.tolist()) <= set(range(len(splits.names)))
    for early in range(len(splits.names)):
        for late in range(early + 1, len(splits.names)):
            if (codes == early).any() and (codes == late).any():
                assert times[codes == early].max() < times[codes == late].min()


@given(specs(), st.permutations(range(100)))
def test_without_ties_time_is_cut_exactly(splits, times):
    codes = ascending(dense_ranks(pa.array(times)), fractions_of(splits))
    expected = shares(np.array([100]), fractions_of(splits), turns=np.zeros(1, np.int64))[0]
    assert np.bincount(codes, minlength=len(splits.names)).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("times", "codes"),
    [
        ([1, 1, 1, 2], [0, 0, 0, 1]),  # the cut after two moves to the nearer end of the run
        ([1, 2, 2, 2], [0, 1, 1, 1]),
        ([2, 2, 1, 1], [1, 1, 0, 0]),
        ([5, 5, 5, 5], [0, 0, 0, 0]),  # and never to the beginning
    ],
)
def test_a_run_of_equal_times_stays_together(times, codes):
    assert ascending(dense_ranks(pa.array(times)), fractions_of(Splits.parse("a=0.5,b=0.5", None))).tolist() == codes
