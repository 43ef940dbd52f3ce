"""The blend of a mixture against a walk that knows nothing of closed forms, and what it promises of shares, epochs and changes."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.errors import InvalidArgument
from dataplane.philox import Domain, derive, shuffle_steps
from loaders.blend import MAX_WEIGHT, Blend, Era, Segment

WEIGHTS = st.one_of(st.integers(0, 9), st.integers(0, 10**8))


@st.composite
def blends(draw, *, most=6, segments=3, eras=3):
    lanes = draw(st.integers(1, 9))
    count = draw(st.integers(1, most))
    made, start, listed = [], 0, draw(st.integers(1, count))
    for _ in range(draw(st.integers(1, segments))):
        weights = draw(st.lists(WEIGHTS, min_size=listed, max_size=listed).filter(any))
        made.append(Segment(start, tuple(weights)))
        start += draw(st.integers(1, 90))
        listed = draw(st.integers(listed, count))
    made[-1] = Segment(made[-1].start, (*made[-1].weights, *[1] * (count - len(made[-1].weights))))
    sizes = st.integers(1, 4 * lanes + 3)
    steps = st.lists(st.integers(1, 3), max_size=eras - 1)
    firsts = [np.cumsum([0, *draw(steps)]).tolist() for _ in range(count)]
    return Blend(draw(st.integers(0, 99)), lanes, made, [[Era(first, draw(sizes)) for first in each] for each in firsts])


def walk(blend, count):
    """(component, era, epoch, position) of the positions 0 … count - 1, one after the other, by counting."""
    slots = {}  # by (segment, lane, node): how many it had
    given = Counter()  # slots, by (lane, component)
    rows = [laid(eras, 4 * count + 40 * blend.lanes) for eras in blend.eras]
    for p in range(count):
        lane = p % blend.lanes
        number = max(n for n, segment in enumerate(blend.segments) if segment.start <= p)
        low, high, node = 0, len(blend.segments[number].weights), 1
        while high - low > 1:
            middle = (low + high) // 2
            a, b = (sum(blend.segments[number].weights[i:j]) for i, j in ((low, middle), (middle, high)))
            places = np.arange(blend.lanes)
            shuffle_steps(places, 0, blend.lanes, derive(blend.seed, int(Domain.BLEND), node, 0, 0))
            turn = (number * 0x9E3779B97F4A7C15 % 2**64 // 2**32) * blend.lanes // 2**32
            c = (int(places[lane]) + turn) % blend.lanes * (a + b) // blend.lanes
            n = slots.get((number, lane, node), 0)
            slots[number, lane, node] = n + 1
            if ((n + 1) * a + c) // (a + b) > (n * a + c) // (a + b):
                high, node = middle, 2 * node
            else:
                low, node = middle, 2 * node + 1
        yield low, *rows[low][given[lane, low] * blend.lanes + lane]
        given[lane, low] += 1


def laid(eras, least):
    """(era, epoch, position) of the places of a component: epoch after epoch."""
    row, epoch = [], 0
    while len(row) < least:
        era = max(n for n, era in enumerate(eras) if era.first <= epoch)
        row += [(era, epoch, position) for position in range(eras[era].samples)]
        epoch += 1
    return row


@given(blends())
@settings(max_examples=60, deadline=None)
def test_random_access_is_the_walk(blend):
    found = np.stack(blend.at(np.arange(300)), axis=1)
    assert found.tolist() == [list(each) for each in walk(blend, 300)]
    shuffled = np.random.default_rng(1).permutation(300)
    np.testing.assert_array_equal(np.stack(blend.at(shuffled), axis=1), found[shuffled])


@given(blends(), st.integers(0, 400))
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_the_walk(blend, position):
    walked = list(walk(blend, position))
    counted = Counter((p % blend.lanes, each[0]) for p, each in enumerate(walked))
    expected = [[counted[lane, component] for component in range(len(blend.eras))] for lane in range(blend.lanes)]
    assert blend.given(position).tolist() == expected
    begun = [max((epoch for c, _, epoch, _ in walked if c == component), default=-1) + 1 for component in range(len(blend.eras))]
    assert blend.begun(position).tolist() == begun
    for component, epoch in enumerate(blend.running(position).tolist()):
        for other in range(max(0, epoch - 1), epoch + 1):
            size = [era.samples for era in blend.eras[component] if era.first <= other][-1]
            given = sum(1 for c, _, e, _ in walked if (c, e) == (component, other))
            assert (given == size) == (other < epoch)


@given(blends(most=3))
@settings(max_examples=40, deadline=None)
def test_every_epoch_of_a_component_gives_each_of_its_positions_once(blend):
    placed = blend.at(np.arange(2000))
    running = blend.running(2000)
    for component, eras in enumerate(blend.eras):
        for epoch in range(running[component]):
            positions = placed.positions[(placed.components == component) & (placed.epochs == epoch)]
            assert sorted(positions.tolist()) == list(range([era.samples for era in eras if era.first <= epoch][-1]))


@given(st.lists(WEIGHTS, min_size=1, max_size=16).filter(any), st.integers(1, 12), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_lane_is_never_far_off_the_exact_shares(weights, lanes, seed):
    blend = Blend(seed, lanes, [Segment(0, tuple(weights))], [[Era(0, 7)]] * len(weights))
    components = blend.at(np.arange(lanes * 500)).components.reshape(500, lanes)
    counts = (components[..., None] == np.arange(len(weights))).cumsum(axis=0)
    exact = np.arange(1, 501)[:, None, None] * (np.array(weights) / sum(weights))
    levels = max(1, (len(weights) - 1).bit_length())
    assert np.abs(counts - exact).max() < levels + 1e-6
    assert (counts[-1, :, np.array(weights) == 0] == 0).all()


@given(st.integers(1, 9), st.integers(1, 30), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_of_one_component_it_is_the_plain_order(lanes, samples, seed):
    placed = Blend(seed, lanes, [Segment(0, (7,))], [[Era(0, samples)]]).at(np.arange(100))
    assert placed.epochs.tolist() == [p // samples for p in range(100)]
    assert placed.positions.tolist() == [p % samples for p in range(100)]


@given(blends(segments=1, eras=1))
@settings(max_examples=30, deadline=None)
def test_in_an_epoch_a_lane_reads_one_lane_of_the_order(blend):
    """So lanes stay disjoint, and with them ranks and the shards that they read."""
    placed = blend.at(np.arange(600))
    read = {}
    for p, (component, _, epoch, position) in enumerate(zip(*placed, strict=True)):
        assert read.setdefault((component, epoch, position % blend.lanes), p % blend.lanes) == p % blend.lanes


def test_lanes_stay_together_however_long_it_lasts():
    """Also where a component's samples do not come out even: else lanes with fewer of them would run ahead."""
    blend = Blend(3, 8, [Segment(0, (3, 2, 1))], [[Era(0, 27)], [Era(0, 24)], [Era(0, 11)]])
    for position in (1000, 100_000, 10_000_000):
        assert (blend.begun(position) - blend.running(position)).max() <= 4


def test_lanes_drift_apart_slowly_over_many_segments():
    """Like the square root of their number, not like the number itself."""
    draw = np.random.default_rng(1)
    starts = np.cumsum([0, *draw.integers(1, 90, 600)]).tolist()
    weights = [(3, 2, 1), (1, 1, 1), (5, 0, 2)]
    blend = Blend(3, 8, [Segment(start, weights[n % 3]) for n, start in enumerate(starts)], [[Era(0, 50)]] * 3)
    given = blend.given(starts[-1] + 1000)
    assert given.sum() == starts[-1] + 1000
    assert np.ptp(given, axis=0).max() <= 60


def test_all_lanes_together_give_each_row_its_share():
    """Batches are mixtures: of L consecutive positions, each component has its share to within a few."""
    blend = Blend(3, 48, [Segment(0, (5, 3, 2))], [[Era(0, 1000)]] * 3)
    rows = blend.at(np.arange(48 * 400)).components.reshape(400, 48)
    for component, share in enumerate((0.5, 0.3, 0.2)):
        counts = (rows == component).sum(axis=1)
        assert abs(counts.mean() - 48 * share) < 0.1
        assert np.abs(counts - 48 * share).max() <= 5


def test_large_numbers_do_not_overflow():
    blend = Blend(1, 2**10, [Segment(0, (MAX_WEIGHT - 1, 1)), Segment(2**47, (1, MAX_WEIGHT - 1))], [[Era(0, 2**40)], [Era(0, 2**10)]])
    positions = np.arange(2**47 - 3000, 2**47 + 3000)
    placed = blend.at(positions)
    assert (placed.components[:3000] == 0).mean() > 0.99
    assert (placed.components[3000:] == 1).mean() > 0.8
    slots = blend.given(2**47)
    assert slots.sum() == 2**47
    assert (slots.sum(axis=1) == 2**37).all()


@pytest.mark.parametrize(
    ("lanes", "segments", "eras", "match"),
    [
        (2, [], [[Era(0, 4)]], "position 0"),
        (2, [Segment(1, (1,))], [[Era(0, 4)]], "position 0"),
        (2, [Segment(0, (1,)), Segment(0, (2,))], [[Era(0, 4)]], "ascend"),
        (2, [Segment(0, (1, 1)), Segment(4, (2,))], [[Era(0, 4)]] * 2, "fewer"),
        (2, [Segment(0, (1, 1))], [[Era(0, 4)]], "fewer"),
        (2, [Segment(0, (0, 0))], [[Era(0, 4)]] * 2, "sum to 1"),
        (2, [Segment(0, (-1, 3))], [[Era(0, 4)]] * 2, "at least 0"),
        (2, [Segment(0, (MAX_WEIGHT, 1))], [[Era(0, 4)]] * 2, "sum to 1"),
        (0, [Segment(0, (1,))], [[Era(0, 4)]], "lanes"),
        (2, [Segment(0, (1,))], [[Era(1, 4)]], "ascend from 0"),
        (2, [Segment(0, (1,))], [[Era(0, 4), Era(0, 5)]], "ascend from 0"),
        (5, [Segment(0, (1,))], [[Era(0, 0)]], "without a sample"),
    ],
)
def test_what_is_no_blend_is_refused(lanes, segments, eras, match):
    with pytest.raises(InvalidArgument, match=match):
        Blend(0, lanes, segments, eras)


def test_positions_are_checked():
    blend = Blend(0, 2, [Segment(0, (1,))], [[Era(0, 4)]])
    with pytest.raises(InvalidArgument, match="positions"):
        blend.at(np.array([-1]))
    assert blend.at(np.array([], np.int64)).components.size == 0
