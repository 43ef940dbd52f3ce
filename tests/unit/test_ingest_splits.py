"""Splits are parsed strictly, and which one a sample is in is fixed for good."""

import pytest

from dataplane.errors import BadSample, InvalidArgument
from dataplane.ingest.splits import Splits, key_hash


def test_fractions():
    splits = Splits.parse("train=0.7, val=0.2,test=0.1", None)
    assert splits.names == ("train", "val", "test")
    assert splits.ends[-1] == 1 << 64
    assert Splits.parse("train=1", None).of("a.jpg", "a") == "train"


@pytest.mark.parametrize(
    "spec", ["", "train", "train=", "train=0.5", "train=0.8,test=0.3", "train=1,test=0", "a=0.5,a=0.5", "a=-1,b=2", "a b=1", "a=nan", "a=x"]
)
def test_wrong_splits(spec):
    with pytest.raises(InvalidArgument):
        Splits.parse(spec, None)


def test_thirds_that_do_not_add_up_exactly_are_told_by_how_much():
    with pytest.raises(InvalidArgument, match=r"add up to 0\.99"):
        Splits.parse("a=0.33,b=0.33,c=0.33", None)


def test_committed_vectors():
    """These never change: datasets depend on them."""
    assert key_hash("cat/00001") == 0xD28B3874DE8A6C0F
    splits = Splits.parse("train=0.6,val=0.2,test=0.2", None)
    found = " ".join(splits.of(f"{n}.jpg", f"{n}") for n in range(12))
    assert found == "train test train train test val val train train train train val"


def test_groups_stay_together():
    splits = Splits.parse("train=0.5,test=0.5", r"patient(\d+)")
    assert {splits.of(f"patient7/{n}.jpg", f"patient7/{n}") for n in range(50)} == {splits.of("other/patient7.jpg", "x")}
    assert len({splits.of(f"patient{n}/0.jpg", "") for n in range(50)}) == 2
    with pytest.raises(BadSample, match="--group-by"):
        splits.of("doctor.jpg", "doctor")
