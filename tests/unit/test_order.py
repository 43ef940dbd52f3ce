"""The order on fixed examples: committed vectors, defaults, bounds, errors."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.tasks.order import Case, measure
from dataplane.errors import InvalidArgument
from dataplane.order import Order, default_lanes, default_window, rank_positions

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
VECTORS = json.loads((DATA / "order_vectors.json").read_text(encoding="utf-8"))["orders"]
PARAMETERS = ("counts", "seed", "epoch", "lanes", "window", "shuffle")


def make(counts=(3, 4, 5), **changes):
    return Order(np.array(counts, dtype=np.int64), **{"seed": 1, "epoch": 0, "lanes": 2, "window": 4, **changes})


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_committed_vectors(case):
    order = make(**{name: case[name] for name in PARAMETERS})
    assert len(order) == sum(case["counts"])
    for reader in (order, order.walker()):
        shards, items = reader.at(np.array(case["positions"], dtype=np.int64))
        assert (shards.tolist(), items.tolist()) == (case["shards"], case["items"])
        assert shards.dtype == items.dtype == np.int64


def test_committed_vectors_are_what_their_generator_makes():
    generator = runpy.run_path(str(DATA / "make_order_vectors.py"))
    assert (DATA / "order_vectors.json").read_text(encoding="utf-8") == generator["as_text"]()


def test_without_shuffle_positions_are_places():
    order = make([2, 0, 3], seed=8, lanes=48, window=7, shuffle=False)
    assert (order.lanes, order.window) == (1, 1)
    shards, items = order.at(np.arange(5))
    assert shards.tolist() == [0, 0, 2, 2, 2]
    assert items.tolist() == [0, 1, 0, 1, 2]
    assert [array.tolist() for array in order.shards_from(3)] == [[2], [3]]


def test_the_order_keeps_its_own_counts():
    counts = np.array([3, 4, 5])
    order = make(counts)
    before = order.at(np.arange(12))
    counts[:] = 1
    assert order.counts.tolist() == [3, 4, 5]
    assert np.array_equal(order.at(np.arange(12)), before)
    with pytest.raises(ValueError, match="read-only"):
        order.counts[0] = 1


@pytest.mark.parametrize(
    ("world", "lanes"), [(1, 48), (2, 48), (3, 48), (5, 120), (8, 48), (12, 48), (13, 312), (16, 96), (64, 384), (1000, 6000)]
)
def test_default_lanes(world, lanes):
    assert default_lanes(world) == lanes
    assert lanes % world == lanes % 24 == 0
    assert lanes >= max(48, 4 * world)


@pytest.mark.parametrize(
    ("counts", "window"), [([], 1), ([0, 0], 1), ([1], 2), ([600, 600, 7], 1200), ([0, 3, 0, 4], 7), ([5, 9, 1, 0], 10)]
)
def test_default_window(counts, window):
    assert default_window(np.array(counts, dtype=np.int64)) == window


def test_rank_positions():
    assert rank_positions(5, 17, 1, 4).tolist() == [5, 9, 13]
    assert rank_positions(6, 17, 1, 4).tolist() == [9, 13]
    assert rank_positions(6, 6, 0, 4).tolist() == []
    assert rank_positions(6, 7, 0, 4).tolist() == []
    assert np.array_equal(np.sort(np.concatenate([rank_positions(3, 40, k, 7) for k in range(7)])), np.arange(3, 40))


def test_a_million_shards():
    order = make(np.full(10**6, 600), lanes=48, window=1200)
    positions = np.array([0, 300_000_000, len(order) - 1])
    shards, items = order.at(positions)
    assert np.array_equal(order.walker().at(positions), (shards, items))
    assert ((items >= 0) & (items < 600)).all()
    ahead, first = order.shards_from(300_000_000)
    assert 499_000 < ahead.size < 501_000
    assert (np.diff(first) >= 0).all()
    assert shards[1] in ahead[:300]


def test_the_largest_order():
    order = make([2**47, 2**47 - 1], lanes=2**31 - 1, window=2**20, seed=2**63 - 1, epoch=2**32 - 1)
    positions = np.array([0, 2**46, len(order) - 1])
    shards, items = order.at(positions)
    assert (items < order.counts[shards]).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": -1},
        {"seed": 2**63},
        {"seed": 1.0},
        {"epoch": -1},
        {"epoch": 2**32},
        {"lanes": 0},
        {"lanes": 2**31},
        {"window": 0},
        {"window": 2**48 + 1},
        {"counts": [3, -1]},
        {"counts": [[3, 1]]},
        {"counts": [2**47, 2**47]},
    ],
    ids=str,
)
def test_arguments_out_of_bounds(changes):
    with pytest.raises(InvalidArgument, match=r"must be|holds 0 or more|fewer than"):
        make(**changes)


def test_counts_must_be_integers():
    with pytest.raises(InvalidArgument, match="float64"):
        Order(np.array([1.5]), seed=0, epoch=0, lanes=1, window=1)


@pytest.mark.parametrize("positions", [[-1], [12], [0, 12, 1], [2**62]])
@pytest.mark.parametrize("reader", [lambda order: order, Order.walker], ids=["order", "walker"])
def test_positions_out_of_range(positions, reader):
    bad = next(position for position in positions if not 0 <= position < 12)
    with pytest.raises(InvalidArgument, match=rf"position {bad} is outside this order of 12 samples"):
        reader(make()).at(np.array(positions))


def test_a_walker_goes_on_after_a_bad_position():
    order, walker = make(), make().walker()
    with pytest.raises(InvalidArgument):
        walker.at(np.array([0, 3, 12]))
    assert np.array_equal(walker.at(np.arange(12)), order.at(np.arange(12)))


@pytest.mark.parametrize("positions", [[0.5], [[0]], ["a"]])
def test_positions_must_be_a_row_of_integers(positions):
    with pytest.raises(InvalidArgument, match="one-dimensional array of integers"):
        make().at(np.array(positions))


@pytest.mark.parametrize(("rank", "world"), [(-1, 2), (2, 2), (0, 0)])
def test_ranks_out_of_bounds(rank, world):
    with pytest.raises(InvalidArgument, match="must be"):
        rank_positions(0, 10, rank, world)
    with pytest.raises(InvalidArgument, match="must be"):
        make().shards_from(0, rank=rank, world=world)


def test_planning_outside_the_order():
    with pytest.raises(InvalidArgument, match="position is 13"):
        make().shards_from(13)
    assert [array.size for array in make().shards_from(12)] == [0, 0]


def test_the_order_does_not_depend_on_compilation():
    """The committed vectors again, in a process where numba compiles nothing and integers are numpy's."""
    tests = [str(Path(__file__)), str(Path(__file__).with_name("test_philox.py"))]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "committed or published or rejects", *tests]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(VECTORS) + 9} passed" in ran.stdout


def test_the_benchmark_measures_what_it_says():
    case = Case(shards=24, count=40, lanes=8, window=80)
    quality = measure(case, epoch=0)
    assert 0 < quality.live_mean <= quality.live_max <= 24
    assert quality.label_pairs == pytest.approx(1, abs=0.2)
    assert quality.shard_pairs >= 1
