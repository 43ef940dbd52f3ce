"""A process of the soak test of the collector: `upkeep_actor.py ROLE LAKE SEED SECONDS GRACE`; ROLE is writer, reader or gc.

It prints one JSON document at its end. The grace is a few seconds, so writers and readers hold themselves to what the real one, of a day,
asks of them: they give up where the machine was too busy to be done within half of it.
"""

import json
import random
import sys
import time
from dataclasses import replace

from dataplane import Lake, sweeps
from dataplane.checkpoint import Checkpoints, Progress, Trained
from dataplane.errors import CommitConflict, DataplaneError, NotFound
from dataplane.journal import Journal
from dataplane.shards import Shards
from dataplane.upkeep import expire, gc, rm
from tests import make

NAMES = ("one", "two")
SAMPLES = 12  # so few that what was expired is soon written again


class TooSlowError(Exception):
    """The machine was too busy."""


class Writer:
    def __init__(self, lake, seed, grace):
        self.lake, self.chance, self.grace = lake, random.Random(seed), grace
        self.run = f"run-{seed}"
        self.mine = f"clone-{seed}"
        self.done = {}

    def step(self):
        what = self.chance.choice(["append"] * 8 + ["garbage", "clone", "expire"] * 2 + ["remove", "checkpoint", "journal"])
        self.began = time.monotonic()
        try:
            getattr(self, what)()
            self.done[what] = self.done.get(what, 0) + 1
        except TooSlowError:
            self.done["too slow"] = self.done.get("too slow", 0) + 1

    def in_time(self):
        if time.monotonic() - self.began > self.grace / 2:
            raise TooSlowError

    def append(self):
        self.commit([make.finished(self.lake, "train", [self.chance.randrange(SAMPLES)])])

    def commit(self, shards):
        part = make.part(self.lake, shards)

        def add(newest):
            self.in_time()
            parts = (*(newest.parts if newest else ()), part)[-6:]
            tables = [row for each in parts for row in self.rows(each)]
            return make.change(parts, tables)

        self.lake.catalog.commit(self.chance.choice(NAMES), add)

    def rows(self, part):
        from dataplane.manifest import read_shards

        return Shards.of(read_shards(self.lake.objects.get(part.shards), where="a part"))

    def garbage(self):
        for _ in range(3):
            self.lake.objects.put(b"garbage %d" % self.chance.randrange(20), suffix=".bin")

    def clone(self):
        try:
            parent = self.lake.catalog.version(self.chance.choice(NAMES))
            change = replace(make.change(parent.parts, []), splits=parent.splits, parents=(str(parent),))
            self.in_time()
            self.lake.catalog.commit(self.mine, lambda _: change)
        except NotFound:  # removed or expired meanwhile
            pass

    def expire(self):
        try:
            expire(self.lake, self.chance.choice((*NAMES, self.mine)), keep_last=1)
        except NotFound:
            pass

    def remove(self):
        try:
            rm(self.lake, self.chance.choice((*NAMES, self.mine)))
        except (NotFound, CommitConflict):
            pass

    def checkpoint(self):
        checkpoints = Checkpoints(self.lake, self.run)
        try:
            checkpoints.restore()
        except NotFound:
            pass
        parts = {"model": b"weights %d" % self.chance.randrange(4)}
        checkpoints.save(parts, Progress(1, 1, 1, Trained("none", 1, "none"), {}, {}, {}, {}, []))

    def journal(self):
        """A shard waits for its commit in a journal for longer than the grace."""
        with Journal(self.lake.store, "one") as journal:
            shard = make.finished(self.lake, "train", [self.chance.randrange(SAMPLES)])
            self.in_time()
            journal.add(shard)
            time.sleep(self.chance.choice([0, 1.5 * self.grace]))
            self.began = time.monotonic()
            if self.chance.random() < 0.7:
                self.commit([shard])
                journal.finish()


def write(lake, seed, seconds, grace):
    writer = Writer(lake, seed, grace)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        writer.step()
        time.sleep(0.01)
    return writer.done


def read(lake, seed, seconds, grace):
    chance = random.Random(seed)
    end, samples, slow = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        names = lake.datasets()
        if not names:
            continue
        began = time.monotonic()
        try:
            dataset = lake.dataset(chance.choice(names))
        except NotFound:
            continue
        try:
            _ = dataset.parts
            for split in dataset.splits:
                samples += sum(1 for _ in dataset[split])
        except NotFound:
            if time.monotonic() - began < grace / 2:
                raise
            slow += 1
    return {"samples": samples, "too slow": slow}


def collect(lake, seed, seconds, grace):
    end, removed, rounds, busy = time.monotonic() + seconds, 0, 0, 0
    while time.monotonic() < end:
        try:
            removed += gc(lake, grace_seconds=grace, journal_days=2 * grace / 86400).objects
            rounds += 1
        except CommitConflict:
            busy += 1
    return {"removed": removed, "rounds": rounds, "busy": busy}


def main():
    role, url, seed, seconds, grace = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5])
    sweeps.YOUNG_SECONDS = grace / 4
    lake = Lake(url)
    print("ready", flush=True)
    told = {"error": "a failure of the program"}
    sys.stdin.readline()
    try:
        told = {"writer": write, "reader": read, "gc": collect}[role](lake, seed, seconds, grace)
    except DataplaneError as error:
        told = {"error": f"{type(error).__name__}: {error}"}
        raise
    finally:
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
