"""The pure parts of the hot tier: options, keys, policy, ranges, charges."""

import pickle

import pytest

import tiering
from dataplane.errors import InvalidArgument
from dataplane.ranges import Span
from dataplane.refs import Digest, Foreign
from tiering.arrival import parts
from tiering.keys import is_key, key_of
from tiering.layout import charge
from tiering.options import Hot, parse_bytes
from tiering.policy import Entry, eviction_order
from tiering.stats import Counters, HotStats, known


def test_exports():
    assert tiering.__all__ == sorted(tiering.__all__) == ["Hot", "HotStats", "HotStore"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("4096 B", 4096),
        ("500 GiB", 500 << 30),
        ("64MiB", 64 << 20),
        ("1.5 TB", 1_500_000_000_000),
        ("2 kb", 2000),
        ("1 PiB", 1 << 50),
        (" 0.5 kib ", 512),
    ],
)
def test_bytes_are_read(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "many", "-1", "1 iB", "1 GiBs", "GiB", "1,5 GB", True, None, 1.5])
def test_what_is_no_number_of_bytes(text):
    with pytest.raises(InvalidArgument, match="not a number of bytes"):
        parse_bytes(text)


def test_options_are_checked_at_once_and_can_be_sent(tmp_path):
    with pytest.raises(InvalidArgument, match="not a number of bytes"):
        Hot(tmp_path, limit="lots")
    with pytest.raises(InvalidArgument, match="without a folder"):
        Hot("", limit="1 GiB")
    hot = Hot(tmp_path, limit="1 GiB")
    assert hot.limit_bytes == 1 << 30
    assert pickle.loads(pickle.dumps(hot)) == hot


def test_a_key_is_digest_and_suffix():
    ref = Digest("ab" * 32, ".tar", 5)
    assert key_of(ref) == "ab" * 32 + ".tar"
    assert key_of(Digest("ab" * 32, ".idx", 5)) != key_of(ref)
    assert is_key(key_of(ref))


def test_a_foreign_key_depends_on_everything_that_identifies_the_bytes():
    refs = [
        Foreign("s3://b/a", 5),
        Foreign("s3://b/a", 6),
        Foreign("s3://b/c", 5),
        Foreign("s3://b/a", 5, etag="x"),
        Foreign("s3://b/a", 5, version_id="x"),
        Foreign("s3://b/a", 5, etag="x", version_id="x"),
        Foreign('s3://b/a",5', 5),
    ]
    keys = {key_of(ref) for ref in refs}
    assert len(keys) == len(refs)
    assert all(map(is_key, keys))
    assert key_of(Foreign("s3://b/a", 5)) == key_of(refs[0])


@pytest.mark.parametrize("name", ["ab", "", "lake.json", "ab" * 32, "AB" * 32 + ".tar", "ab" * 32 + ".tar.tmp", "x" + "ab" * 32 + ".tar"])
def test_other_names_are_no_keys(name):
    assert not is_key(name)


def test_least_recently_used_goes_first():
    entries = [Entry("c", 1, 30), Entry("b", 9, 10), Entry("a", 1, 10), Entry("d", 5, 20)]
    assert [entry.key for entry in eviction_order(entries)] == ["a", "b", "d", "c"]


def test_parts_cover_an_object():
    assert parts(20, 8) == (Span(0, 8), Span(8, 16), Span(16, 20))
    assert parts(8, 8) == (Span(0, 8),)
    assert parts(0, 8) == ()


def test_a_charge_is_whole_blocks_and_one_more():
    assert [charge(size) for size in (0, 1, 4096, 4097)] == [4096, 8192, 8192, 12288]


def test_counters():
    counters = Counters()
    counters.add("misses", 2)
    counters.set("hits", 5)
    assert counters.take() == {"misses": 2, "hits": 5}
    counters.set("hits", 6)
    assert counters.take() == {"hits": 1}
    assert counters.take() == {}
    assert counters.totals()["hits"] == 6
    assert known({"hits": 1, "from a later release": 2}) == {"hits": 1}
    assert HotStats(bytes=1, limit_bytes=2, index_bytes=3, objects=4).to_json()["hits"] == 0
