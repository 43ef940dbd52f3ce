"""Options are checked where they are made, and sizes are read as people write them."""

import pytest

from dataplane.errors import InvalidArgument
from dataplane.ingest import Bad, IngestOptions
from dataplane.ingest.options import parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("67108864", 64 << 20),
        ("64MiB", 64 << 20),
        ("64 MiB", 64 << 20),
        (" 64m ", 64 << 20),
        ("64MB", 64_000_000),
        ("1.5 KiB", 1536),
        ("2G", 2 << 30),
        ("1 TB", 10**12),
        ("100 B", 100),
    ],
)
def test_sizes(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "MiB", "-1", "64 MiBs", "1e6", "64 XB", "6 4"])
def test_what_is_no_size(text):
    with pytest.raises(InvalidArgument, match="64MiB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    "wrong", [{"order": "random"}, {"check": "none"}, {"shard_bytes": 0}, {"max_pixels": 0}, {"workers": 0}, {"workers": -2}]
)
def test_wrong_options_say_what_is_allowed(wrong):
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        IngestOptions(**wrong)


def test_a_bad_source_in_a_commit():
    assert Bad("a.jpg", "empty").to_json() == {"source": "a.jpg", "reason": "empty"}
    assert Bad("a.jpg", "empty", "e1").to_json() == {"source": "a.jpg", "reason": "empty", "etag": "e1"}
