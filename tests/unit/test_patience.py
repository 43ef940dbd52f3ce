"""Waiting for a store: only for what may pass, longer and longer, and not for ever."""

import random
import time

import pytest

from dataplane.errors import NotFound, StoreUnavailable
from loaders.patience import patiently


class Failing:
    """Fails so many times, then gives 7."""

    def __init__(self, error, times):
        self.error = error
        self.times = times
        self.asked = []

    def __call__(self):
        self.asked.append(time.monotonic())
        if len(self.asked) <= self.times:
            raise self.error
        return 7


def test_what_may_pass_is_waited_for_with_growing_pauses():
    call = Failing(StoreUnavailable("503"), 3)
    assert patiently(call) == 7
    first, second, third = (after - before for before, after in zip(call.asked, call.asked[1:], strict=False))
    assert first >= 0.05
    assert second >= 0.1
    assert third >= 0.2


def test_pauses_leave_the_callers_random_numbers_alone():
    before = random.getstate()
    assert patiently(Failing(StoreUnavailable("503"), 1)) == 7
    assert random.getstate() == before


def test_the_server_says_how_long():
    call = Failing(StoreUnavailable("slow down", retry_after=0.6), 1)
    assert patiently(call) == 7
    assert call.asked[1] - call.asked[0] >= 0.6


def test_other_errors_raise_at_once():
    call = Failing(NotFound("gone"), 1)
    with pytest.raises(NotFound):
        patiently(call)
    assert len(call.asked) == 1


def test_patience_ends(monkeypatch):
    monkeypatch.setattr("loaders.patience._PATIENCE_SECONDS", 0.4)
    call = Failing(StoreUnavailable("503"), 10**6)
    with pytest.raises(StoreUnavailable, match="503"):
        patiently(call)
    assert 2 <= len(call.asked) <= 5
    assert call.asked[-1] - call.asked[0] <= 0.4


def test_a_call_that_has_waited_long_enough_itself_is_not_repeated(monkeypatch):
    monkeypatch.setattr("loaders.patience._PATIENCE_SECONDS", 0.1)
    asked = []

    def call():
        asked.append(None)
        time.sleep(0.15)
        raise StoreUnavailable("gave up after all its own tries")

    with pytest.raises(StoreUnavailable):
        patiently(call)
    assert len(asked) == 1
