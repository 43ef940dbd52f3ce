import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.errors import InvalidArgument
from loaders.schedule import Schedule


def delivered(samples, batch_size, world, tail, position=0):
    """What all ranks get, step by step: a list of lists of (positions, valid)."""
    ranks = [list(Schedule(samples, batch_size, rank, world, tail).steps(position)) for rank in range(world)]
    assert len({len(steps) for steps in ranks}) == 1, "every rank makes the same number of steps"
    return list(zip(*ranks, strict=True))


@settings(deadline=None, max_examples=200)
@given(
    samples=st.integers(0, 200),
    batch_size=st.integers(1, 9),
    world=st.integers(1, 7),
    tail=st.sampled_from(["drop", "short", "pad"]),
    data=st.data(),
)
def test_the_ranks_together_deliver_what_is_left_once(samples, batch_size, world, tail, data):
    position = data.draw(st.integers(0, samples))
    steps = delivered(samples, batch_size, world, tail, position)
    got = [p for step in steps for rank in step for p in rank.positions[rank.valid]]
    left = samples - position
    whole = left // (batch_size * world) * batch_size * world
    assert sorted(got) == list(range(position, position + (whole if tail == "drop" else left)))
    for step in steps[: len(steps) - (tail == "short")]:
        assert all(len(rank.positions) == batch_size for rank in step)
    assert [step[0].stop for step in steps] == sorted({rank.stop for step in steps for rank in step})
    if steps:
        assert steps[-1][0].stop == position + (whole if tail == "drop" else left)


def test_padding_repeats_the_start_of_the_epoch_and_says_so():
    (last,) = delivered(5, 4, 2, "pad")
    assert [rank.positions.tolist() for rank in last] == [[0, 2, 4, 1], [1, 3, 0, 2]]
    assert [rank.valid.tolist() for rank in last] == [[True, True, True, False], [True, True, False, False]]


def test_a_short_tail_may_leave_a_rank_nothing():
    (step,) = delivered(1, 4, 2, "short")
    assert [rank.positions.tolist() for rank in step] == [[0], []]
    assert step[1].positions.dtype == np.int64


@pytest.mark.parametrize(
    ("arguments", "names"),
    [((10, 0, 0, 1, "drop"), "batch_size"), ((10, 1, 2, 2, "drop"), "rank"), ((10, 1, 0, 1, "keep"), "drop, short, pad")],
)
def test_wrong_arguments_are_named(arguments, names):
    with pytest.raises(InvalidArgument, match=names):
        Schedule(*arguments)
