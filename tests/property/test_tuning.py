"""Threads and prefetch choose themselves within limits, come to rest, and leave alone what they were given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataplane.errors import InvalidArgument
from dataplane.stages import Stage
from loaders.waiting.attribution import Step
from loaders.waiting.recent import Recent
from loaders.waiting.tuner import Tuner, usable_cores, usable_memory
from loaders.waiting.tuning import Limits, Room, Setting, Tuning, decide, settled_for

SHARES = st.lists(st.floats(0, 10), min_size=len(Stage), max_size=len(Stage)).map(tuple)
ROOM = Room(Setting(1, 1), Setting(32, 64), cores=4)


@st.composite
def windows(draw):
    waits = (0.0, *draw(SHARES)[1:])
    steps = tuple(Step(draw(st.floats(0, 10)), waits, n) for n in range(draw(st.integers(0, 3))))
    return Recent(steps, 1.0, 1, 1, draw(SHARES))


def window(*, consumer=0.0, idle=0.0, **waits):
    """Ten steps that waited for this, with threads idle for this share."""
    by_stage = [0.0] * len(Stage)
    for name, seconds in waits.items():
        by_stage[Stage[name.upper()]] = seconds
    work = [idle, 0.0, 1 - idle, 0.0, 0.0, 0.0, 0.0]
    return Recent(tuple(Step(consumer, tuple(by_stage), n) for n in range(10)), 1.0, 10, 10, tuple(work))


@given(st.lists(windows(), max_size=30), st.integers(1, 32), st.integers(1, 64))
def test_a_setting_stays_within_its_room(seen, threads, prefetch):
    tuning = Tuning(Setting(threads, prefetch))
    for each in seen:
        following = decide(tuning, each, ROOM)
        assert ROOM.least.threads <= following.setting.threads <= ROOM.most.threads
        assert ROOM.least.prefetch <= following.setting.prefetch <= ROOM.most.prefetch
        changed = [following.setting.threads != tuning.setting.threads, following.setting.prefetch != tuning.setting.prefetch]
        assert sum(changed) <= 1 or following.setting == tuning.before
        assert decide(tuning, each, ROOM) == following
        tuning = following


@given(st.lists(windows(), max_size=30), st.sampled_from(["threads", "prefetch", "both"]))
def test_what_is_given_never_changes(seen, given_):
    setting = Setting(6, 5)
    least = Setting(6 if given_ != "prefetch" else 1, 5 if given_ != "threads" else 1)
    most = Setting(6 if given_ != "prefetch" else 32, 5 if given_ != "threads" else 64)
    tuning = Tuning(setting)
    for each in seen:
        tuning = decide(tuning, each, Room(least, most, cores=4))
        assert given_ == "prefetch" or tuning.setting.threads == 6
        assert given_ == "threads" or tuning.setting.prefetch == 5


@given(windows())
def test_what_does_not_help_is_taken_back_and_left_alone(seen):
    tuning = Tuning(Setting(4, 2))
    settings = []
    for _ in range(40):
        tuning = decide(tuning, seen, ROOM)
        settings.append(tuning.setting)
    assert settings.count(Setting(4, 2)) >= 30
    assert all(Setting(4, 2) in settings[n : n + 2] for n in range(39))


def follow(model, *, threads=4, windows=40):
    """The settings after each window, where `model` says what is seen with a setting."""
    tuning, settings = Tuning(Setting(threads, 2)), []
    for _ in range(windows):
        tuning = decide(tuning, model(tuning.setting), ROOM)
        settings.append(tuning.setting)
    return settings


def test_reads_that_wait_get_threads_while_that_helps():
    settings = follow(lambda now: window(cold=1 / min(now.threads, 16)))
    assert settings[-1].threads == 16 or settings[-2].threads == 16
    assert max(setting.threads for setting in settings) == 32
    assert {setting.prefetch for setting in settings} == {2}


def test_threads_that_have_nothing_to_do_get_no_company():
    assert {setting.threads for setting in follow(lambda now: window(cold=1 / now.threads, idle=0.6))} == {4}


def test_decoding_gets_no_more_threads_than_cores():
    assert follow(lambda now: window(decode=1.0))[-1] == Setting(4, 2)
    settled = follow(lambda now: window(decode=1.0 + 0.1 * (now.threads - 4)), threads=32)
    assert settled[-1].threads == 4


def test_uneven_work_gets_more_batches_under_way():
    settings = follow(lambda now: window(consumer=1.0, decode=1 / now.prefetch if now.prefetch < 16 else 0.0, idle=0.3))
    assert settings[-1] == Setting(4, 16)


def test_the_first_step_decides_nothing():
    first = Recent(window(cold=9.0).steps)
    assert decide(Tuning(Setting(4, 2)), first, ROOM) == Tuning(Setting(4, 2))


@given(windows(), st.integers(1, 7))
def test_what_cannot_be_had_is_not_asked_for_again(seen, had):
    tuning = settled_for(Tuning(Setting(8, 4), "threads", Setting(4, 4), 1.0, {"prefetch": 3}), had)
    assert tuning.setting == Setting(had, 4)
    assert tuning.rests["prefetch"] == 3
    for _ in range(10):
        tuning = decide(tuning, seen, ROOM)
        assert tuning.setting.threads <= max(had, 4)


def test_who_does_not_wait_changes_nothing():
    assert set(follow(lambda now: window(consumer=1.0, cold=0.01, idle=0.9))) == {Setting(4, 2)}


def test_the_numbers_to_begin_with():
    cores = usable_cores()
    assert Tuner(None, None, Limits()).setting == Setting(min(cores, 32), 2)
    assert Tuner(None, None, Limits(threads=1, prefetch=1)).setting == Setting(1, 1)
    assert Tuner(7, 5, Limits(threads=1)).setting == Setting(7, 5)
    assert not Tuner(7, 5, Limits()).tunes
    assert not Tuner(0, None, Limits()).tunes
    assert Tuner(7, None, Limits()).tunes
    assert Tuner(None, None, Limits(threads=1)).limited
    assert not Tuner(None, None, Limits(threads=cores + 1)).limited
    assert not Tuner(7, None, Limits(threads=1)).limited


@given(windows())
def test_batches_that_grow_get_fewer_of_them_ahead(seen):
    small = Room(Setting(1, 1), Setting(32, 4), cores=4)
    assert decide(Tuning(Setting(4, 16), "prefetch", Setting(4, 8), 1.0), seen, small).setting == Setting(4, 4)
    assert decide(Tuning(Setting(4, 16)), seen, small).setting.prefetch <= 4


def test_prefetch_is_limited_by_bytes():
    tuner = Tuner(None, None, Limits(prefetch_bytes=100, prefetch=10))
    assert tuner._rooms(20).most.prefetch == 5
    assert tuner._rooms(1).most.prefetch == 10
    assert tuner._rooms(1000).most.prefetch == 2
    assert tuner._rooms(0).most.prefetch == 10
    assert Tuner(None, None, Limits(prefetch_bytes=100, prefetch=1))._rooms(1000).most.prefetch == 1
    assert usable_memory() > 1 << 26


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"prefetch": -1}, {"prefetch_bytes": -1}, {"threads": 1.5}, {"prefetch": True}])
def test_limits_that_make_no_sense(wrong):
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        Limits(**wrong)
