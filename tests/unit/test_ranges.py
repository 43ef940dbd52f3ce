"""Planning of ranges: examples. The properties are in tests/property/test_ranges.py."""

import pytest

from dataplane.errors import InvalidArgument
from dataplane.ranges import Request, Span, clip, coalesce, resolve, resolve_option


def plan(*spans, gap=0, most=1000):
    return [
        (request.span.start, request.span.end, request.serves)
        for request in coalesce([Span(*s) for s in spans], max_gap_bytes=gap, max_request_bytes=most)
    ]


@pytest.mark.parametrize(("start", "end"), [(-1, 4), (5, 4)])
def test_a_span_goes_forward_from_zero(start, end):
    with pytest.raises(InvalidArgument, match="not a byte range"):
        Span(start, end)


def test_neighbours_share_a_request():
    assert plan((0, 10), (10, 20), (25, 30)) == [(0, 20, (0, 1)), (25, 30, (2,))]
    assert plan((0, 10), (25, 30), (10, 20), gap=5) == [(0, 30, (0, 2, 1))]


def test_a_request_has_a_limit_and_one_span_has_none():
    assert plan((0, 10), (10, 20), (20, 30), most=20) == [(0, 20, (0, 1)), (20, 30, (2,))]
    assert plan((0, 50), (10, 20), most=20) == [(0, 50, (0, 1))]


def test_repeats_are_read_once():
    assert plan((5, 9), (5, 9), (7, 8)) == [(5, 9, (0, 1, 2))]


def test_nothing_needs_no_request():
    assert coalesce([], max_gap_bytes=0, max_request_bytes=1) == ()


def test_resolve():
    assert resolve([1, 5], [3, 9], None) == resolve([1, 5], None, [2, 4]) == (Span(1, 3), Span(5, 9))
    for ends, lengths in ((None, None), ([3], [2])):
        with pytest.raises(InvalidArgument, match="exactly one"):
            resolve([1], ends, lengths)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, (0, 10)),
        ((2, 5), (2, 5)),
        ([8, 99], (8, 10)),
        ((50, 60), (10, 10)),
        ({"offset": 4}, (4, 10)),
        ({"offset": 40}, (10, 10)),
        ({"suffix": 3}, (7, 10)),
        ({"suffix": 30}, (0, 10)),
    ],
)
def test_resolve_option(asked, expected):
    assert resolve_option(asked, 10) == Span(*expected)


def test_clip():
    assert clip([Span(0, 5), Span(3, 20), Span(30, 40)], 10) == (Span(0, 5), Span(3, 10), Span(10, 10))


def test_a_request_is_a_value():
    assert Request(Span(0, 1), (0,)) == Request(Span(0, 1), (0,))
    assert len(Span(3, 8)) == 5
