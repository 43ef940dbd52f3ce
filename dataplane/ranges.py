"""Pure planning of byte ranges: which requests to make for the spans that a reader wants. No I/O happens here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dataplane.errors import InvalidArgument

__all__ = ["Request", "Span", "bounds", "clip", "coalesce", "resolve", "resolve_option", "scatter"]


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes [start, end) of an object."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise InvalidArgument(f"not a byte range: [{self.start}, {self.end}); it needs 0 <= start <= end")

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Request:
    """One read, and the positions in the asked-for sequence that it serves."""

    span: Span
    serves: tuple[int, ...]


def bounds(starts: Sequence[int], ends: Sequence[int] | None, lengths: Sequence[int] | None) -> list[tuple[int, int]]:
    """Start and end of each range from the obspec way of naming them: `starts` with exactly one of `ends` and `lengths`."""
    if (ends is None) == (lengths is None):
        raise InvalidArgument("give exactly one of ends and lengths")
    if ends is None:
        ends = [start + length for start, length in zip(starts, lengths or (), strict=True)]
    found = list(zip(starts, ends, strict=True))
    for start, end in found:
        if not 0 <= start <= end:
            raise InvalidArgument(f"not a byte range: [{start}, {end}); it needs 0 <= start <= end")
    return found


def resolve(starts: Sequence[int], ends: Sequence[int] | None, lengths: Sequence[int] | None) -> tuple[Span, ...]:
    """What `bounds` gives, as spans."""
    return tuple(Span(start, end) for start, end in bounds(starts, ends, lengths))


def resolve_option(asked: Any, size: int) -> Span:
    """The span that an obspec `range` option means in an object of `size` bytes: a pair, an offset or a suffix; None is all of it."""
    if asked is None:
        return Span(0, size)
    if not isinstance(asked, dict):
        return Span(min(asked[0], size), min(asked[1], size))
    if "offset" in asked:
        return Span(min(asked["offset"], size), size)
    return Span(max(0, size - asked["suffix"]), size)


def clip(spans: Sequence[Span], size: int) -> tuple[Span, ...]:
    """What there is of `spans` in an object of `size` bytes; empty at its end for those that lie beyond it."""
    return tuple(Span(min(span.start, size), min(span.end, size)) for span in spans)


def coalesce(spans: Sequence[Span], *, max_gap_bytes: int, max_request_bytes: int) -> tuple[Request, ...]:
    """Requests, sorted by start, that together cover every span.

    Spans at most `max_gap_bytes` apart share a request, as long as it stays within `max_request_bytes`; a longer single span is
    never cut. Overlapping and repeated spans are read once.
    """
    requests: list[Request] = []
    start = end = 0
    serves: list[int] = []
    for i in sorted(range(len(spans)), key=lambda i: (spans[i].start, spans[i].end)):
        span = spans[i]
        joined_end = max(end, span.end)
        fits = joined_end - start <= max_request_bytes or span.end <= end
        if serves and span.start - end <= max_gap_bytes and fits:
            end = joined_end
        else:
            if serves:
                requests.append(Request(Span(start, end), tuple(serves)))
            start, end, serves = span.start, span.end, []
        serves.append(i)
    if serves:
        requests.append(Request(Span(start, end), tuple(serves)))
    return tuple(requests)


def scatter(spans: Sequence[Span], requests: Sequence[Request], read: Sequence[memoryview]) -> list[memoryview]:
    """The bytes of each span, as views of what the requests have read; short where a request was."""
    pieces = [memoryview(b"")] * len(spans)
    for request, whole in zip(requests, read, strict=True):
        for i in request.serves:
            pieces[i] = whole[spans[i].start - request.span.start : spans[i].end - request.span.start]
    return pieces
