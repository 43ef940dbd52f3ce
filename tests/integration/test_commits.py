"""Many processes commit at once, and processes are killed while they commit: nothing is lost, nothing is doubled."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataplane import Lake
from dataplane.log import Log
from dataplane.store import open_store
from dataplane.upkeep import verify_lake

ROOT = Path(__file__).parents[2]
ROUNDS = 25 if os.environ.get("DATAPLANE_SOAK") else 3


@pytest.fixture(params=["folder", "s3"])
def url(request, tmp_path):
    return str(tmp_path / "lake") if request.param == "folder" else request.getfixturevalue("s3").url()


def start(url, writer, count):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.committer", url, str(writer), str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def acknowledged(lines):
    """What the writers were told: (writer, number) → version. A kill may cut the last line: where Python does not buffer, its words are
    written one by one."""
    told = (map(int, line.split()) for line in lines if line.endswith("\n"))
    return {(writer, number): version for writer, number, version in told}


def committed(lake):
    """What the log says: the same, and that every version holds what the one before it held, and one sample more."""
    found = {}
    before = ()
    newest = lake.catalog.number("contended") if "contended" in lake.datasets() else 0
    for number in range(1, newest + 1):
        version = lake.catalog.version(f"contended@{number}")
        assert version.parts[:-1] == before
        assert version.samples == len(version.parts) == number
        before = version.parts
        who = version.lineage["parameters"]["writer"], version.lineage["parameters"]["number"]
        assert who not in found, f"{who} was committed as {found[who]} and as {number}"
        found[who] = number
    return found


def test_eight_processes_commit_at_once(url):
    lake, each = Lake.init(url), 4
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(start(url, writer, each)) for writer in range(8)]
        for writer in writers:
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        lines = [line for writer in writers for line in writer.communicate(timeout=240)[0].splitlines(keepends=True)]
    assert [writer.returncode for writer in writers] == [0] * 8
    told = acknowledged(lines)
    assert len(lines) == len(told) == 8 * each
    assert committed(lake) == told
    keys = [sample.key for sample in lake.dataset("contended")["train"]]
    assert len(keys) == len(set(keys)) == 8 * each
    assert verify_lake(lake).ok


@pytest.mark.soak
def test_writers_are_killed_at_random_moments(url):
    lake = Lake.init(url)
    chance = random.Random(os.environ.get("DATAPLANE_SEED", "1"))
    told = {}
    for round_ in range(ROUNDS):
        with start(url, round_, 1000) as writer:
            assert writer.stdout.readline() == "ready\n"
            writer.stdin.write("go\n")
            writer.stdin.flush()
            lines = [writer.stdout.readline() for _ in range(round_ % 3)]  # on a busy machine too, some rounds get far
            time.sleep(chance.uniform(0, 0.4))
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
            writer.stdin.close()
        told |= acknowledged(lines)
    assert told, "nothing had been acknowledged: this run shows nothing"
    found = committed(lake)
    assert {who: found.get(who) for who in told} == told
    assert len(set(found) - set(told)) <= ROUNDS  # at most the one that each had under way
    assert verify_lake(lake).ok
    assert {path.rsplit(".", 1)[1] for path in everything(lake)} == {"json", "tar", "idx", "parquet"}  # and no temporary file


def everything(lake):
    if lake.url.startswith("s3://"):
        return [meta["path"] for chunk in lake.store.list() for meta in chunk]
    return [str(path) for path in Path(lake.url).rglob("*") if path.is_file()]


@pytest.mark.parametrize("scheme", ["s3", "s3+fsspec"])
def test_a_server_that_loses_acknowledgements(s3, scheme):
    """The server carries the put out and answers 500, so that the client's own retry meets its own commit."""
    log = Log(open_store(s3.url().replace("s3", scheme, 1)), "log")
    for number in range(1, 4):
        s3.lose_acknowledgements(1)
        entry = log.append(lambda _, number=number: {"says": number})
        assert (entry.number, entry.body) == (number, {"says": number})
    assert [entry.body["says"] for entry in log] == [1, 2, 3]
