"""Coalescing, for any spans: everything asked for is covered, once, within the limits."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.ranges import Span, coalesce

spans = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 60)).map(lambda pair: Span(pair[0], pair[0] + pair[1])), max_size=30)
patient = settings(deadline=None)


@patient
@given(spans, st.integers(0, 40), st.integers(1, 200))
def test_every_span_is_served_once_and_lies_in_its_request(wanted, gap, most):
    requests = coalesce(wanted, max_gap_bytes=gap, max_request_bytes=most)
    served = [i for request in requests for i in request.serves]
    assert sorted(served) == list(range(len(wanted)))
    for request in requests:
        for i in request.serves:
            assert request.span.start <= wanted[i].start <= wanted[i].end <= request.span.end


@patient
@given(spans, st.integers(0, 40), st.integers(1, 200))
def test_requests_are_in_order_and_within_the_limits(wanted, gap, most):
    requests = coalesce(wanted, max_gap_bytes=gap, max_request_bytes=most)
    assert [r.span.start for r in requests] == sorted(r.span.start for r in requests)
    for request in requests:
        longest = max(len(wanted[i]) for i in request.serves)
        assert len(request.span) <= max(most, longest)
        end = request.span.start
        for span in sorted((wanted[i] for i in request.serves), key=lambda span: (span.start, span.end)):
            assert span.start - end <= gap
            end = max(end, span.end)
        assert end == request.span.end
