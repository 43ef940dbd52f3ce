"""The collector beside writers and readers, all of them processes: nothing that is named is removed, and all garbage goes in the end."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dataplane import Lake
from dataplane.checkpoint import Checkpoints
from dataplane.upkeep import gc, usage, verify_lake

ROOT = Path(__file__).parents[2]
LONG = bool(os.environ.get("DATAPLANE_SOAK"))
SECONDS, WRITERS, READERS, COLLECTORS = (60, 4, 4, 2) if LONG else (6, 2, 2, 1)


@pytest.fixture(params=["folder", "s3"])
def lake(request, tmp_path):
    return Lake.init(str(tmp_path / "lake") if request.param == "folder" else request.getfixturevalue("s3").url())


def start(role, lake, seed, grace):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.upkeep_actor", role, lake.url, str(seed), str(SECONDS), str(grace)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.soak
def test_a_collector_beside_writers_and_readers(lake):
    grace = 5 if lake.url.startswith("s3://") else 3
    for number in range(20):
        lake.objects.put(b"left over %d" % number, suffix=".bin")
    roles = ["writer"] * WRITERS + ["reader"] * READERS + ["gc"] * COLLECTORS
    with contextlib.ExitStack() as stack:
        actors = [stack.enter_context(start(role, lake, seed, grace)) for seed, role in enumerate(roles)]
        for actor in actors:
            assert actor.stdout.readline() == "ready\n", actor.stderr.read()
        for actor in actors:
            actor.stdin.write("go\n")
            actor.stdin.flush()
        ended = [(role, actor, *actor.communicate(timeout=240)) for role, actor in zip(roles, actors, strict=True)]
    failed = [f"{role}: {told} {wrong[-3000:]}" for role, actor, told, wrong in ended if actor.returncode]
    assert not failed, "\n".join(failed)
    told = {role: [json.loads(out) for of, _, out, _ in ended if of == role] for role in roles}
    print(json.dumps(told))
    assert sum(done.get("append", 0) for done in told["writer"]) > 0
    assert sum(done["samples"] for done in told["reader"]) > 0
    assert sum(done["removed"] for done in told["gc"]) > 0, "nothing had been removed: this run shows nothing"

    report = verify_lake(lake, deep=True)
    assert report.problems == []
    for run in lake.names("runs"):
        Checkpoints(lake, run).restore()
    gc(lake, grace_seconds=0, journal_days=0)
    assert usage(lake).garbage_objects == 0
    assert verify_lake(lake, deep=True).objects == report.objects
    assert list(lake.store.list("writers")) == []
