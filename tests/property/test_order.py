"""The order for any counts, lanes, windows, seeds and epochs."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.order import Order, rank_positions

patient = settings(deadline=None)


def orders(*shuffle):
    return st.builds(
        lambda counts, **arguments: Order(np.array(counts, dtype=np.int64), **arguments),
        st.lists(st.integers(0, 12), max_size=9),
        seed=st.integers(0, 2**63 - 1),
        epoch=st.integers(0, 2**32 - 1),
        lanes=st.integers(1, 20),
        window=st.one_of(st.integers(1, 30), st.just(10**9)),
        shuffle=st.sampled_from(shuffle),
    )


shuffled_orders = orders(True)
any_orders = orders(True, False)
worlds = st.integers(1, 8)


def pairs(samples):
    """(shards, items) as a list of pairs."""
    return list(zip(*(array.tolist() for array in samples), strict=True))


def sequence(order):
    return pairs(order.at(np.arange(len(order))))


@patient
@given(any_orders)
def test_a_permutation(order):
    every = [(shard, item) for shard, count in enumerate(order.counts.tolist()) for item in range(count)]
    assert len(order) == len(every)
    assert sorted(sequence(order)) == every


@patient
@given(any_orders, st.data())
def test_random_access_equals_iteration(order, data):
    whole = sequence(order)
    for position in range(len(order)):
        assert pairs(order.at(np.array([position]))) == [whole[position]]
    if whole:
        positions = data.draw(st.lists(st.integers(0, len(order) - 1), max_size=20))
        assert pairs(order.at(np.array(positions, dtype=np.int64))) == [whole[position] for position in positions]


@patient
@given(any_orders, st.data())
def test_a_walker_equals_random_access_in_any_access_pattern(order, data):
    whole, walker = sequence(order), order.walker()
    position = st.integers(0, max(0, len(order) - 1))
    stretch = st.tuples(position, st.integers(0, 20)).map(lambda pair: range(pair[0], min(pair[0] + pair[1], len(order))))
    jumps = st.lists(position, max_size=10) if whole else st.just([])
    for positions in data.draw(st.lists(stretch | jumps, max_size=6)):
        assert pairs(walker.at(np.array(positions, dtype=np.int64))) == [whole[p] for p in positions]


@patient
@given(any_orders, worlds, st.integers(1, 16), st.integers(1, 4))
def test_independent_of_world_size_batch_size_and_threads(order, world, batch, threads):
    batches = [
        positions[k : k + batch]
        for rank in range(world)
        for positions in [rank_positions(0, len(order), rank, world)]
        for k in range(0, positions.size, batch)
    ]
    with ThreadPoolExecutor(threads) as pool:
        samples = list(pool.map(order.at, batches))
    merged = dict(zip(np.concatenate([*batches, []]).tolist(), (pair for sample in samples for pair in pairs(sample)), strict=True))
    assert [merged[position] for position in range(len(order))] == sequence(order)


@patient
@given(any_orders, worlds, worlds, st.data())
def test_resuming_with_another_world_size_delivers_exactly_the_rest(order, world, next_world, data):
    stop = data.draw(st.integers(0, len(order)))
    before = [pair for k in range(world) for pair in pairs(order.walker().at(rank_positions(0, stop, k, world)))]
    after = [pair for k in range(next_world) for pair in pairs(order.walker().at(rank_positions(stop, len(order), k, next_world)))]
    assert sorted(before + after) == sorted(sequence(order))


@patient
@given(shuffled_orders, worlds)
def test_ranks_share_only_shards_that_a_lane_boundary_cuts(order, world):
    if order.lanes % world:
        return
    touched = [set(order.at(rank_positions(0, len(order), k, world))[0].tolist()) for k in range(world)]
    shared = [shard for shard in range(order.counts.size) if sum(shard in shards for shards in touched) > 1]
    assert len(shared) <= order.lanes - 1
    # Every rank more that touches a shard needs one more cut through it.
    assert sum(map(len, touched)) <= np.count_nonzero(order.counts) + max(0, min(order.lanes, len(order)) - 1)


@patient
@given(shuffled_orders)
def test_a_lane_reads_its_own_places_window_by_window(order):
    """Steps 2 and 3 of the definition, place by place."""
    base, rest = divmod(len(order), order.lanes)
    places = np.concatenate(([0], np.cumsum(order.counts[order._layout.shards])))
    begin_of = dict(zip(order._layout.shards.tolist(), places[:-1].tolist(), strict=True))
    for lane in range(min(order.lanes, len(order))):
        size, begin = base + (lane < rest), lane * base + min(lane, rest)
        read = [begin_of[shard] + item - begin for shard, item in pairs(order.at(np.arange(lane, len(order), order.lanes)))]
        assert len(read) == size
        stagger = lane * order.window // order.lanes
        changes = {q for q in range(1, size) if (q + stagger) % order.window == 0}
        for q in sorted(changes | {size}):
            assert sorted(read[:q]) == list(range(q))


@patient
@given(st.integers(0, 2**63 - 2), st.integers(0, 2**32 - 2))
def test_another_epoch_or_seed_is_another_order(seed, epoch):
    counts = np.full(10, 10)
    several = [Order(counts, seed=s, epoch=e, lanes=4, window=20) for s, e in ((seed, epoch), (seed + 1, epoch), (seed, epoch + 1))]
    sequences = [sequence(order) for order in several]
    for k in range(3):
        same = sum(a == b for a, b in zip(sequences[k], sequences[k - 1], strict=True))
        assert same < 20  # two unrelated orders of 100 agree in about one position


@patient
@given(any_orders, worlds, st.data())
def test_the_plan_against_brute_force(order, world, data):
    position = data.draw(st.integers(0, len(order)))
    rank = data.draw(st.integers(0, world - 1))
    shards, first = order.shards_from(position, rank=rank, world=world)
    planned = dict(zip(shards.tolist(), first.tolist(), strict=True))
    assert len(planned) == shards.size
    assert first.tolist() == sorted(first.tolist())

    used = {}
    positions = rank_positions(position, len(order), rank, world)
    for p, (shard, _) in zip(positions.tolist(), pairs(order.at(positions)), strict=True):
        used.setdefault(shard, p)
    assert set(used) <= set(planned)
    for shard, p in used.items():
        assert position <= planned[shard] <= p

    if order.lanes % world == 0:
        for shard, p in planned.items():
            lane, q = p % order.lanes, p // order.lanes
            window_begins_here = q == 0 or (q + lane * order.window // order.lanes) % order.window == 0
            if window_begins_here:
                assert used[shard] <= p + order.lanes * (order.window - 1)
    assert all((p - rank) % math.gcd(world, order.lanes) == 0 for p in planned.values())


@patient
@given(any_orders)
def test_the_plan_of_a_whole_epoch_names_every_shard(order):
    shards, _ = order.shards_from(0)
    assert sorted(shards.tolist()) == np.flatnonzero(order.counts).tolist()
