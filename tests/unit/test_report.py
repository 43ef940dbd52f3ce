"""The report of bad samples: bounded, in order, and counted once."""

import pytest

from dataplane.errors import BadSamples
from loaders.report import Bad, Report


def bad(position, epoch=0):
    return Bad(epoch, position, f"k{position}", "x.tar", "torn", None)


@pytest.fixture
def report():
    return Report("photos@1/train", samples=10_000, allowed=5000)


def test_only_the_last_thousand_are_kept_and_all_are_counted(report):
    for start in range(0, 2500, 100):
        report.add([bad(n) for n in reversed(range(start, start + 100))])
    told = report.to_json(after=0)
    assert (told["count"], told["in_epoch"]) == (2500, 2500)
    assert [sample["position"] for sample in told["samples"]] == list(range(1500, 2500))
    for after, first in ((1499, 1500), (1500, 1500), (1501, 1501), (2499, 2499)):
        assert report.to_json(after=after)["samples"][0]["position"] == first
    assert report.to_json(after=2500)["samples"] == []


def test_a_batch_that_comes_again_adds_nothing(report):
    report.add([bad(3), bad(5)])
    report.add([bad(5), bad(3)])
    report.add([])
    assert report.to_json(after=0)["count"] == 2
    report.begin(0)
    report.add([bad(5), bad(3)])
    assert report.to_json(after=0)["count"] == 2
    report.begin(1)
    report.add([bad(3, epoch=1)])
    assert report.to_json(after=0)["count"] == 3
    assert report.to_json(after=0)["in_epoch"] == 1


def test_too_many_add_nothing_and_the_first_are_named():
    report = Report("photos@1/train", samples=10, allowed=2)
    report.add([bad(1)])
    with pytest.raises(
        BadSamples, match=r"3 bad samples .* allows 2 of 10\. The first: sample 'k1' of shard x.tar: torn; sample 'k2'"
    ) as caught:
        report.add([bad(2), bad(3)])
    assert [found.position for found in caught.value.bad] == [1, 2, 3]
    assert report.to_json(after=0)["count"] == 1
    with pytest.raises(BadSamples, match="met by other ranks"):
        Report("photos@1/train", samples=10, allowed=2).check(3)
