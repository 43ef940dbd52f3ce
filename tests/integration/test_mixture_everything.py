"""Exact resume with everything at once: three datasets, one augmented and with a bad sample in it, one a filter's view, one packed into
sequences, on a world that goes 4 → 3 → 8 → 1, in real processes, and at every step."""

import json
import os
import random
import socket
import subprocess
import sys
from collections import Counter
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.mixture_rank import told
from tests.mixtures import BAD, add_words, everything, loader_of, make_lake, state_of

SOAK = bool(os.environ.get("DATAPLANE_SOAK"))
ROOT = Path(__file__).resolve().parents[2]
WORLDS = (4, 3, 8, 1)

pytestmark = pytest.mark.filterwarnings("ignore:lanes")


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("everything")
    lake = make_lake(str(folder / "lake"))
    add_words(lake, folder / "words")
    return lake


def ordered(rows):
    """What was delivered, by epoch and position."""
    return sorted(map(tuple, rows))


@pytest.fixture(scope="module")
def whole(lake):
    """Three uninterrupted epochs of one rank."""
    loader = loader_of(everything(lake), threads=1, batch_size=6)
    found = ordered(told((batch for _ in range(3) for batch in loader), loader.components))
    bad = {(each["epoch"], each["position"]) for each in loader.report()["samples"]}
    assert {each["key"] for each in loader.report()["samples"]} == {BAD}
    return found, bad


def test_the_uninterrupted_run_has_every_sample_of_every_epoch_once(lake, whole):
    """So that the others, which are compared with it, are held against the data and not against themselves alone."""
    found, bad = whole
    assert [place[:2] for place in found] == [(epoch, position) for epoch in range(3) for position in range(90)]
    due = {
        "photos": {sample.key for sample in lake.dataset("photos")["train"]} - {BAD},  # whose places have substitutes
        "drawings": {sample.key for sample in lake.dataset("drawings")["train"]},
        "words": {f"sequence {n}" for n in range(len(keys_of_epoch(found, bad, "words", 0)))},
    }
    for name, keys in due.items():
        assert keys_of_epoch(found, bad, name, 0) == Counter(keys)
        last = max(row[3] for row in found if row[2] == name)
        assert last >= 1
        for epoch in range(1, last + 1):
            assert set(keys_of_epoch(found, bad, name, epoch).values()) == {1}
    assert sum(length_of(lake)) // 64 == len(due["words"])
    assert Counter(row[2] for row in found if (row[0], row[1]) in bad).keys() == {"photos"}


def keys_of_epoch(found, bad, name, epoch):
    """Of one epoch of a component; without those that came in the place of a bad sample."""
    return Counter(row[4] for row in found if row[2:4] == (name, epoch) and (row[0], row[1]) not in bad)


def length_of(lake):
    return [len(sample.fields["tokens"]) for sample in lake.dataset("words")["train"]]


@pytest.mark.soak
def test_resume_at_every_step_of_an_epoch_is_exact(lake, whole):
    """A state of each step, of worlds of four sizes, is gone on with to the end of the epoch by another one."""
    first = [row for row in whole[0] if row[0] == 0]
    count = 0
    for world, other in zip(WORLDS, (*WORLDS[1:], WORLDS[0]), strict=True):
        ranks = ranks_of(lake, world, batch_size=12 // world)
        delivered = []
        for steps in zip(*ranks, strict=True):
            delivered += [row for rank, batch in zip(ranks, steps, strict=True) for row in told([batch], rank.components)]
            state = state_of(ranks)
            if state["epoch"]:
                break
            if count % (1 if SOAK else 2) == 0:
                resumed = ranks_of(lake, other, batch_size=1 + count % 5, state=state)
                rest = [row for rank in resumed for row in told(rank, rank.components)]
                assert ordered([*delivered, *rest]) == first
                assert state_of(resumed)["epoch"] == 1
            count += 1
        assert ordered(delivered) == first
    assert count > 25


@pytest.mark.soak
def test_another_world_at_every_step_is_exact(lake, whole):
    """Each step of two epochs and more is made by other loaders than the one before."""
    found, expected = [], whole[0]
    state, draw = None, random.Random(3)
    for world in cycle(WORLDS):
        ranks = ranks_of(lake, world, batch_size=draw.randint(1, 3), state=state)
        found += [row for rank in ranks for row in told(islice(rank, 1), rank.components)]
        state = state_of(ranks)
        if state["epoch"] == (3 if SOAK else 1):
            break
    assert ordered(found) == expected[: len(found)]
    assert len(found) == 90 * state["epoch"]


def ranks_of(lake, world, *, batch_size, state=None):
    ranks = [loader_of(everything(lake), rank=rank, world=world, batch_size=batch_size, threads=rank % 2) for rank in range(world)]
    for rank in ranks if state is not None else ():
        rank.load_state_dict(state)
    return ranks


# ---------------------------------------------------------------------- in real processes


class Ranks:
    """Eight processes, of which a world takes as many as it has ranks."""

    def __init__(self, url):
        pairs = [socket.socketpair() for _ in range(max(WORLDS))]
        theirs = [other.fileno() for _, other in pairs]
        command = [sys.executable, "-m", "tests.mixture_rank", url, *map(str, theirs)]
        self._parent = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, pass_fds=theirs)
        self._sockets = [mine for mine, _ in pairs]
        self._lines = [mine.makefile("rw") for mine in self._sockets]
        for _, other in pairs:
            other.close()

    def run(self, world, **order):
        """What all ranks of a world deliver, and the state that they agree upon."""
        mine = self._lines[:world]
        for rank, lines in enumerate(mine):
            lines.write(json.dumps({"rank": rank, "world": world, **order}) + "\n")
            lines.flush()
        answers = [json.loads(lines.readline()) for lines in mine]
        assert all(state == answers[0][1] for _, state in answers), "ranks differ"
        return [row for rows, _ in answers for row in rows], answers[0][1]

    def close(self):
        """How many failed."""
        for each in (*self._lines, *self._sockets):
            each.close()
        return self._parent.wait(timeout=60)


def go(ranks, seed):
    """More than an epoch and a half, on worlds that change at random steps: what was delivered, and the worlds."""
    draw, turn, found, worlds = random.Random(seed), cycle(WORLDS), [], []
    state = {"epoch": 0, "position": 0}
    while state["epoch"] < 1 or (state["epoch"] == 1 and state["position"] <= 60):
        worlds.append(next(turn))
        order = {"batch_size": draw.randint(1, 3), "threads": draw.randint(0, 2), "steps": draw.randint(1, 4)}
        rows, state = ranks.run(worlds[-1], state=state if found else None, **order)
        found += rows
    return ordered(found), worlds


@pytest.mark.soak
def test_processes_of_changing_worlds_deliver_what_the_uninterrupted_run_does(lake, whole):
    ranks = Ranks(lake.url)
    try:
        for seed in range(20 if SOAK else 1):
            found, worlds = go(ranks, seed)
            assert found == whole[0][: len(found)]
            assert len(found) > 150
            assert set(worlds) == set(WORLDS)
    finally:
        failed = ranks.close()
    assert failed == 0
