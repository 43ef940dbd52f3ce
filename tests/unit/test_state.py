import json

import pytest

from dataplane.errors import FormatTooNew, StateMismatch
from loaders.state import State

STATE = State("photos", 7, "ab" * 16, "train", 1000, 3, 2, 512, 48, 1200, True)


def test_it_survives_json():
    assert State.from_dict(json.loads(json.dumps(STATE.to_dict()))) == STATE


def test_it_is_small():
    assert len(json.dumps(STATE.to_dict())) < 300


@pytest.mark.parametrize("bad", [None, 7, [], {}, {"format": "1"}, {**STATE.to_dict(), "position": "many"}, {"format": 1, "epoch": 0}])
def test_what_is_no_state_is_refused(bad):
    with pytest.raises(StateMismatch):
        State.from_dict(bad)


def test_a_state_of_a_newer_release_says_to_upgrade():
    with pytest.raises(FormatTooNew, match="upgrade"):
        State.from_dict({**STATE.to_dict(), "format": 3})


def test_unknown_keys_of_the_same_format_are_ignored():
    assert State.from_dict({**STATE.to_dict(), "note": "x"}) == STATE
