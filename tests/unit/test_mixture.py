"""What a mixture is given, before anything is loaded: weights, and the state of one."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import FormatTooNew, InvalidArgument, StateMismatch
from dataplane.upkeep.users import versions_named
from loaders.blend import MAX_WEIGHT, Segment
from loaders.blended import Component, MixtureState, Taken
from loaders.mixture import whole_weights

DECIMALS = st.decimals(0, 1000, places=3, allow_nan=False).map(float)


@pytest.mark.parametrize(
    ("weights", "whole"),
    [
        ({"a": 3, "b": 1}, {"a": 3, "b": 1}),
        ({"a": 30, "b": 10, "c": 0}, {"a": 3, "b": 1, "c": 0}),
        ({"a": 0.7, "b": 0.3}, {"a": 7, "b": 3}),
        ({"a": 0.1, "b": 0.2, "c": 1}, {"a": 1, "b": 2, "c": 10}),
        ({"a": 1e-9, "b": 0}, {"a": 1, "b": 0}),
        ({"a": 1 / 3, "b": 2 / 3}, {"a": 1, "b": 2}),
        ({"a": 1 / 3, "b": 1 / 2}, {"a": 209715, "b": 314573}),
        ({"a": 1.0, "b": 1e-12}, {"a": 2**20, "b": 1}),
        ({"a": 10**40, "b": 3 * 10**40}, {"a": 1, "b": 3}),
        ({"a": 0.1 + 0.2, "b": 0.7}, {"a": 314573, "b": 734003}),
        ({"a": 10**400, "b": 5e-324, "c": 0}, {"a": 2**20, "b": 1, "c": 0}),
        ({"a": np.float64(0.3), "b": np.int64(7)}, {"a": 3, "b": 70}),
    ],
)
def test_weights_become_whole_numbers(weights, whole):
    assert whole_weights(weights) == whole


@given(st.lists(st.one_of(st.integers(0, 10**15), DECIMALS), min_size=1, max_size=9).filter(any))
def test_whole_weights_keep_the_proportions(weights):
    whole = list(whole_weights({str(n): weight for n, weight in enumerate(weights)}).values())
    assert 1 <= sum(whole) <= MAX_WEIGHT
    assert [bool(weight) for weight in whole] == [bool(weight) for weight in weights]
    exact = [Fraction(repr(weight)) for weight in weights]
    for made, wanted in zip(whole, exact, strict=True):
        assert abs(Fraction(made, sum(whole)) - wanted / sum(exact)) <= Fraction(len(weights) + 1, 2**20)


@pytest.mark.parametrize("weight", [-1, True, np.True_, None, "1", float("inf"), float("nan"), 1j])
def test_what_is_no_weight_is_refused(weight):
    with pytest.raises(InvalidArgument, match="weight of 'a'"):
        whole_weights({"a": weight})


TAKEN = Taken(0, "photos", 7, "ab" * 16, "train", 100, 60)
STATE = MixtureState(5, 24, True, 1, 20, 90, (Component("pictures", (TAKEN,)),), (Segment(0, (1,)),))


def test_the_next_epoch_begins_where_this_one_was_left():
    later = STATE.moved(77).next_epoch()
    assert (later.epoch, later.position, later.origin) == (2, 0, 167)


def test_other_weights_begin_a_segment_and_the_same_do_not():
    assert STATE.weighed({"pictures": 1}) is STATE
    two = MixtureState(5, 24, True, 1, 20, 90, (*STATE.components, Component("more", (TAKEN,))), STATE.segments)
    assert two.weighed({"pictures": 1}) is two
    changed = two.weighed({"more": 2, "pictures": 1})
    assert changed.segments == (Segment(0, (1,)), Segment(110, (1, 2)))
    assert changed.weighed({"more": 1}).segments == (Segment(0, (1,)), Segment(110, (0, 1)))  # nothing was delivered in between
    assert changed.weighed({"pictures": 1}) == two  # so these never changed


def test_states_of_a_newer_release_and_damaged_ones_are_refused():
    with pytest.raises(FormatTooNew, match="upgrade"):
        MixtureState.from_dict({**STATE.to_dict(), "format": 3})
    long, early = 10**30, {"start": 0, "weights": [1]}
    for damage in (
        {"components": {}},
        {"components": [7]},
        {"components": STATE.to_dict()["components"] * 2},
        {"components": [{"name": "a", "versions": [{**STATE.to_dict()["components"][0]["versions"][0], "samples": long}]}]},
        {"segments": [{"start": 1, "weights": [1]}]},
        {"segments": [early, {"start": 111, "weights": [2]}]},  # behind what was delivered
        {"segments": [early, {"start": long, "weights": [2]}]},
        {"seed": "x"},
        {"seed": -1},
        {"seed": long},
        {"lanes": 2**31},  # whose tables would not fit into memory
        {"position": long},
        {"origin": 2**48},
    ):
        with pytest.raises(StateMismatch, match="damaged"):
            MixtureState.from_dict({**STATE.to_dict(), **damage})


def test_a_state_is_plain_json_whatever_it_was_made_of():
    how = {"field": "tokens", "length": np.int64(64)}
    taken = Taken(*(np.int64(0), "words", np.int64(2), "cd" * 16, "train"), samples=np.int64(9), window=np.int64(3), how=how)
    parts = (Component("words", (taken,)),), (Segment(np.int64(0), (np.int64(1),)),)
    state = MixtureState(np.int64(5), np.int64(4), np.True_, 0, np.int64(3), 0, *parts)
    assert MixtureState.from_dict(json.loads(json.dumps(state.to_dict()))) == state


def test_a_checkpoint_with_a_mixtures_state_names_its_versions():
    """So that they do not expire while a run may go on with them."""
    body = {"step": 3, "loader": STATE.to_dict()}
    assert list(versions_named(body)) == [("photos", 7, "ab" * 16)]
    run = {"name": "nightly", "dataset": "photos", "version": 3, "commit": "cd" * 16}
    assert list(versions_named(run)) == [("photos", 3, "cd" * 16)]
