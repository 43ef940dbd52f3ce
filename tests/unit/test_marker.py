"""`lake.json`: a flipped bit is noticed, and the markers of old lakes stay good."""

import json
from contextlib import suppress

import pytest

from dataplane import Lake
from dataplane.canonical import canonical_json
from dataplane.errors import CorruptObject, DataplaneError
from dataplane.marker import MARKER, lake_id, marker_problem, new_marker
from dataplane.store import open_store

OLD = {"created": "2026-01-02T03:04:05+00:00", "format": 1, "id": "0123456789abcdef" * 2}


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


def test_a_new_marker_is_good(store):
    store.put(MARKER, new_marker())
    assert marker_problem(store) is None
    assert Lake(store).id == lake_id(store) == json.loads((store.root / MARKER).read_bytes())["id"]
    assert json.loads(new_marker())["id"] != json.loads(new_marker())["id"]


def test_a_marker_without_a_digest_is_good(store):
    store.put(MARKER, canonical_json(OLD))
    assert marker_problem(store) is None
    assert Lake(store).id == OLD["id"]


def test_a_flipped_bit_is_noticed_wherever_it_is(store):
    raw = new_marker()
    for bit in range(8 * len(raw)):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        (store.root / MARKER).write_bytes(damaged)
        assert "lake.json is damaged (" in marker_problem(store)
        with suppress(CorruptObject):
            assert Lake(store).id == json.loads(raw)["id"]  # which is all that it is opened for


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff", "format and id as JSON"),
        (b"[" * 100_000, "format and id as JSON"),
        (json.dumps(OLD).encode(), "not in canonical form"),
        (canonical_json({**OLD, "more": 1}), "it has created, format, id, more; it should have created, format, id"),
        (canonical_json({**OLD, "format": 0}), "its format is 0"),
        (canonical_json({**OLD, "format": True}), "its format is True"),
        (canonical_json({**OLD, "id": "0" * 31}), "an id has 32 hexadecimal digits"),
        (canonical_json({**OLD, "id": "G" * 32}), "an id has 32 hexadecimal digits"),
        (canonical_json({**OLD, "created": "2026-13-02T03:04:05+00:00"}), "is no time"),
        (canonical_json({**OLD, "blake3": "0" * 64}), "its digest does not match"),
    ],
)
def test_what_no_marker_looks_like(store, content, reason):
    store.put(MARKER, content)
    assert f"{store.url}/lake.json is damaged (" in marker_problem(store)
    assert reason in marker_problem(store)


def test_a_newer_or_missing_marker_is_told_of(store):
    with pytest.raises(DataplaneError) as missing:
        store.get(MARKER)
    assert marker_problem(store) == str(missing.value)
    store.put(MARKER, canonical_json({**OLD, "format": 2}))
    assert "reads up to 1: upgrade" in marker_problem(store)
