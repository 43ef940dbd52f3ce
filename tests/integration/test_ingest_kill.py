"""SIGKILL at any moment of an ingest: the lake stays valid, the next run goes on from there, and nothing finished is done twice."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataplane import Lake
from dataplane.errors import NotALake
from dataplane.ingest import IngestOptions, ingest
from dataplane.journal import leftovers
from dataplane.upkeep import verify_lake
from tests.folders import all_shown, shown, start, write_folder

SAMPLES = 120
OPTIONS = {"label_from": "folder", "split": "train=0.8,test=0.2", "shard_bytes": 8_000, "workers": 2}
SOAK = bool(os.environ.get("DATAPLANE_SOAK"))


def kill_at(process, line, delay):
    """Kill the whole process group once it has said `line` lines and `delay` seconds more. Whether it was still at work."""
    for _ in range(line):
        if not process.stdout.readline():
            break
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def journalled(lake_url):
    """The shards that dead runs have finished, and when each was written; the lake is checked on the way."""
    try:
        lake = Lake(lake_url)
    except NotALake:
        return {}
    assert verify_lake(lake).problems == []
    shards = [item.shard for left in leftovers(lake.store, "pets") for item in left.finished]
    return {shard.ref.path: (Path(lake_url) / shard.ref.path).stat().st_mtime_ns for shard in shards}


def everything(lake_url):
    """The files of a lake, but for what a run that was killed had not taken away yet: what it had put so far below `.tmp`, and what asks a
    store for its time. Both are no objects, and `gc` takes them."""
    files = (path.relative_to(lake_url).as_posix() for path in Path(lake_url).rglob("*") if path.is_file())
    return [path for path in files if not path.startswith((".tmp/", "writers/.probe-"))]


def committed(lake_url):
    return bool(Lake(lake_url).datasets())


def kill_campaign(tmp_path, kills, seed, *, together=False, **more):
    """Start, kill, start again …; then let it finish. Returns how many kills hit a run that had finished shards."""
    source, lake_url = tmp_path / "pictures", str(tmp_path / "lake")
    made = write_folder(source, SAMPLES)
    options = OPTIONS | more
    (source / "cat" / "empty.jpg").touch()
    rng = random.Random(seed)
    seen: dict[str, int] = {}
    fruitful = 0
    for kill in range(kills):
        line = rng.randrange(1, 14) if kill else 8  # of about 24 while reading; the first falls in the middle of it
        at_work = kill_at(start(tmp_path, lake_url, str(source), "pets", together=together, **options), line, rng.uniform(0, 0.02))
        found = journalled(lake_url)
        fruitful += at_work and len(found.keys() - seen.keys()) > 0
        assert found.items() >= seen.items() or committed(lake_url)  # nothing that was acknowledged is missing
        seen |= found
    last = start(tmp_path, lake_url, str(source), "pets", together=together, **options)
    said, errors = last.communicate()
    assert last.returncode == 0, errors
    assert "'bad': [{'source': 'cat/empty.jpg', 'reason': 'an empty file'}]" in said
    lake = Lake(lake_url)
    assert verify_lake(lake).problems == []
    dataset = lake.dataset("pets")
    keys = [sample.key for split in dataset.splits for sample in dataset[split]]
    assert sorted(keys) == sorted(made)
    assert all(shown(sample.fields["jpg"]) == shown(made[sample.key]) for split in dataset.splits for sample in dataset[split])
    shards = {row.ref.path for _, rows in dataset.parts for row in rows}
    assert seen.keys() <= shards
    assert {path: (Path(lake_url) / path).stat().st_mtime_ns for path in seen} == seen
    again = ingest(lake, source, "pets", options=IngestOptions(**options))
    assert (again.committed, again.kept) == (False, SAMPLES)
    assert {path.split("/")[0] for path in everything(lake_url)} == {"datasets", "lake.json", "objects"}
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("dataplane-ingest")]
    return fruitful


def test_killed_a_few_times(tmp_path):
    assert kill_campaign(tmp_path, 3, seed=0) > 0


def test_killed_a_few_times_where_threads_do_the_work(tmp_path):
    assert kill_campaign(tmp_path, 3, seed=1, check="structure") > 0


def test_killed_a_few_times_where_files_are_read_together(tmp_path):
    assert kill_campaign(tmp_path, 3, seed=2, together=True, check="structure", jpeg="keep") > 0


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="the long form runs in make soak (DATAPLANE_SOAK=1)")
def test_killed_many_times(tmp_path):
    fruitful = 0
    for campaign in range(5):
        folder = tmp_path / str(campaign)
        folder.mkdir()
        together = campaign % 2 == 1
        more = {"check": "structure", "jpeg": "keep"} if together else {}
        fruitful += kill_campaign(folder, 5, seed=campaign + 1, together=together, **more)
    assert fruitful > 5


def workers_of(process):
    """Wait until the workers are at work; their process ids."""
    while True:
        line = process.stdout.readline().split()
        assert line, process.stderr.read()
        if line[0] == "reading" and int(line[1]) > 0:
            return [int(pid) for pid in line[2:]]


def test_workers_go_when_only_the_parent_is_killed(tmp_path):
    source = tmp_path / "pictures"
    write_folder(source, SAMPLES)
    process = start(tmp_path, str(tmp_path / "lake"), str(source), "pets", **OPTIONS)
    workers = [os.pidfd_open(pid) for pid in workers_of(process)]
    assert len(workers) == 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for worker in workers:
        assert select.select([worker], [], [], 30)[0], "a worker outlived its parent"
        os.close(worker)
    process.communicate()
    lake = Lake(str(tmp_path / "lake"))
    assert ingest(lake, source, "pets", options=IngestOptions(label_from="folder")).samples == SAMPLES
    assert verify_lake(lake).problems == []


def test_interrupted_as_a_terminal_does_it(tmp_path):
    """Ctrl-C reaches the whole process group: the parent stops, the workers say nothing, and what was finished is kept."""
    source, lake_url = tmp_path / "pictures", str(tmp_path / "lake")
    write_folder(source, SAMPLES)
    process = start(tmp_path, lake_url, str(source), "pets", **OPTIONS)
    workers_of(process)
    for _ in range(4):
        process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert errors.count("KeyboardInterrupt") == 1
    assert "Process Spawn" not in errors
    kept = sum(item.shard.live for left in leftovers(Lake(lake_url).store, "pets") for item in left.finished)
    assert kept > 0
    result = ingest(lake_url, source, "pets", options=IngestOptions(**{**OPTIONS, "workers": 1}))
    assert (result.resumed, result.samples) == (kept, SAMPLES)


def test_two_processes_ingest_two_folders_into_one_dataset_at_once(tmp_path):
    """Each has a class of its own, so that whichever comes second makes shards anew for the ids that have gone."""
    lake = Lake.init(str(tmp_path / "lake"))
    made, running = {}, []
    for name, classes in (("a", ("cat", "ant")), ("b", ("cat", "bee"))):
        made |= write_folder(tmp_path / name, 40, classes=classes, first=100 * len(running))
        running.append(start(tmp_path, lake.url, str(tmp_path / name), "pets", **OPTIONS))
    for process in running:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    dataset = lake.dataset("pets")
    assert dataset.number == 2
    found = {sample.key: sample.fields for split in dataset.splits for sample in dataset[split]}
    assert {key: shown(fields["jpg"]) for key, fields in found.items()} == all_shown(made)
    assert all(dataset.schema.classes[int(fields["cls"])] == key.split("/")[0] for key, fields in found.items())
    assert verify_lake(lake).problems == []


def test_the_command_line_says_how_to_go_on(tmp_path):
    """The installed command, interrupted: exit code 130 and a sentence."""
    source = tmp_path / "pictures"
    write_folder(source, SAMPLES)
    os.mkfifo(tmp_path / "labels.csv")  # the command waits in it, so that the interrupt surely comes in the middle
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from dataplane.cli import main; main()",
            "ingest",
            str(source),
            "pets",
            "--lake",
            str(tmp_path / "lake"),
            "--label-from",
            f"csv:{tmp_path}/labels.csv",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with open(tmp_path / "labels.csv", "w"):
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again" in errors
