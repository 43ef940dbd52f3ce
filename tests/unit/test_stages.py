"""What a thread's clock says it did, against a naive count."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane import stages
from dataplane.stages import Clock, Stage, clocked, enter

CHANGES = st.lists(st.tuples(st.floats(0, 2), st.sampled_from(list(Stage))), max_size=30)


class Hand:
    """A clock's hand, which moves when it is told to."""

    time = 100.0

    def __call__(self):
        return self.time


@pytest.fixture
def now(monkeypatch):
    hand = Hand()
    monkeypatch.setattr(stages, "perf_counter", hand)
    return hand


def run(hand, changes):
    """A clock that went through these (seconds, then which stage), and its true timeline [(start, end, stage)]."""
    clock, timeline, stage, since = Clock("x"), [], Stage.IDLE, hand.time
    for seconds, following in changes:
        hand.time += seconds
        timeline.append((since, hand.time, stage))
        assert clock.enter(following) == stage
        stage, since = following, hand.time
    hand.time += 1
    return clock, [*timeline, (since, hand.time, stage)]


@given(CHANGES)
def test_totals_are_what_the_timeline_says(changes):
    hand = Hand()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "perf_counter", hand)
        clock, timeline = run(hand, changes)
        totals = [sum(until - since for since, until, stage in timeline if stage is each) for each in Stage]
        assert clock.totals() == pytest.approx(totals)


def test_an_ended_clock_stands_still_and_loses_nothing(now):
    clock = Clock("x")
    clock.enter(Stage.COLD)
    now.time += 5
    clock.end()
    for _ in range(2):
        assert clock.ended
        assert clock.totals()[Stage.COLD] == 5
        assert sum(clock.totals()) == 5
        now.time += 5
        clock.end()


def test_a_thread_without_a_clock_says_it_to_nobody():
    assert enter(Stage.COLD) == Stage.COLD


def test_each_thread_has_its_own():
    clock, found = Clock("x"), []
    assert clocked(clock) is None
    try:
        enter(Stage.DECODE)
        thread = threading.Thread(target=lambda: found.append(enter(Stage.COLD)))
        thread.start()
        thread.join()
        assert enter(Stage.IDLE) == Stage.DECODE
        assert found == [Stage.COLD]
    finally:
        assert clocked(None) is clock


def test_a_log_gets_every_change():
    clock = Clock("x")
    clock.enter(Stage.COLD)
    clock.log = []
    clock.enter(Stage.DECODE)
    clock.enter(Stage.IDLE)
    assert [stage for _, stage in clock.log] == [Stage.DECODE, Stage.IDLE]
