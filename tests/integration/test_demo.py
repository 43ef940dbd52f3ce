"""The demo, really done: with the digits, with somebody's own pictures, and interrupted. About a minute and a half on two cores."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataplane import Lake
from dataplane.checkpoint import Checkpoints, open_model
from dataplane.upkeep import verify_lake
from tests.pages import chromium

DEMO = [sys.executable, "-c", "from dataplane.cli import main; main()", "demo"]
STEPS = [
    "Pictures",
    "Ingest",
    "Show",
    "Train, and kill it",
    "Resume",
    "Count the samples",
    "Look at the hot tier",
    "Evaluate",
    "Publish",
    "Serve",
    "Ask",
    "Stop",
    "Verify",
]


def processes_of(folder):
    """The ids of processes that were told of `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:  # it has ended meanwhile
                continue
            if os.fsencode(folder) in command:
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The folder of a demo that went well, and its document."""
    folder = tmp_path_factory.mktemp("digits") / "demo"
    done = subprocess.run([*DEMO, "--dir", str(folder), "--json"], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert not processes_of(folder)
    return folder, json.loads(done.stdout)


@pytest.fixture(scope="module")
def report(digits):
    return Path(digits[1]["report"])


def test_pictures_become_answers_through_a_kill(digits):
    folder, document = digits
    names = [step["name"] for step in document["steps"]]
    assert [name for name in STEPS if name in names] == list(dict.fromkeys(names)) == STEPS
    assert document["accuracy"] >= 0.95
    assert document["exactly_once"]
    killed = document["killed"]
    assert 0 < killed["resumed_step"] <= killed["step"]
    assert killed["epoch"] >= 1
    for step in document["steps"]:
        assert step["outcome"]
        assert step["command"].startswith(("dataplane ", "OMP_NUM_THREADS=1 dataplane ", "curl ")) or step["name"] in {
            "Pictures",
            "Count the samples",
            "Stop",
        }
    answer = next(step["result"] for step in document["steps"] if step["name"] == "Ask")
    assert answer["class"] in answer["probabilities"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert folder.joinpath("report.html").samefile(document["report"])


def test_the_killed_epoch_has_every_sample_once(digits):
    folder, document = digits
    keys = [
        row["key"] for row in Lake(str(folder / "lake")).dataset("digits").metadata(["key", "split"]).to_pylist() if row["split"] == "train"
    ]
    lines = [json.loads(line) for line in folder.joinpath("samples.log.rank0").read_text().splitlines()]
    delivered = [key for line in lines if line["epoch"] == document["killed"]["epoch"] for key in line["keys"]]
    assert len(keys) > 1000
    assert sorted(delivered) == sorted(keys)
    steps = [line["step"] for line in lines]
    assert steps == list(range(1, len(steps) + 1))


def test_the_lake_that_is_left_is_whole(digits):
    lake = Lake(str(digits[0] / "lake"))
    assert verify_lake(lake).ok
    model = open_model(lake, "digits-classifier")
    (evaluation,) = Checkpoints(lake, model.run).evaluations()
    assert evaluation.checkpoint == model.checkpoint
    assert evaluation.metrics["accuracy"] == digits[1]["accuracy"]


def test_a_browser_shows_the_report(report, tmp_path):
    dom = chromium("--dump-dom", report.as_uri(), folder=tmp_path)
    assert dom.count("<svg") == 8
    assert dom.count("<img") == 32
    assert "Exactly once" in dom
    assert len(re.findall(r"<li class=\"(?:done|killed|resumed)\"", dom)) >= len(STEPS)
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", report.read_text())
    assert addresses
    assert all(address.startswith("data:image/png;base64,") for address in addresses)


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(report, tmp_path, width):
    measure = """
        const page = document.getElementById('f').contentDocument, root = page.documentElement;
        const drawn = [...page.images].every(image => image.naturalWidth === 8);
        document.title = 'out ' + (root.scrollWidth - root.clientWidth) + ' images ' + drawn;
    """
    page = tmp_path / "frame.html"
    text = report.read_text().replace("&", "&amp;").replace('"', "&quot;")
    page.write_text(f'<iframe id="f" width="{width}" height="800" style="border:0" srcdoc="{text}" onload="{measure}"></iframe>')
    assert "<title>out 0 images true</title>" in chromium("--dump-dom", page.as_uri(), folder=tmp_path / "profile")


def test_with_pictures_of_ones_own(tmp_path):
    rng = np.random.default_rng(0)
    for label, value in (("dark & <b>", 60), ("light", 180)):
        folder = tmp_path / "My pictures" / label
        folder.mkdir(parents=True)
        for number in range(60):
            Image.fromarray(rng.integers(value - 30, value + 30, (20, 26, 3), np.uint8)).save(folder / f"{number}.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    command = [*DEMO, "--data", "My pictures", "--dir", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "My-pictures@1: 120 samples in 3 shards" in done.stdout
    assert "1 files were bad" in done.stdout
    assert "each of" in done.stdout
    assert "Next: open demo/report.html in a browser" in done.stdout
    text = (tmp_path / "demo" / "report.html").read_text()
    assert "dark &amp; &lt;b&gt;" in text
    assert "dark & <b>" not in text
    assert len(list((tmp_path / "My pictures").rglob("*.jpg"))) == 121


@pytest.mark.parametrize(("during", "number"), [("ingest", signal.SIGINT), ("train", signal.SIGTERM)])
def test_an_interrupted_demo_leaves_no_process(tmp_path, during, number):
    folder = tmp_path / "demo"
    with subprocess.Popen(
        [*DEMO, "--dir", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    ) as running:
        for line in running.stdout:
            if line.startswith("$ ") and f" {during} " in line:
                break
        running.send_signal(number)  # to the demo alone: ending its children is its own work
        _, told = running.communicate(timeout=60)
    assert running.returncode == 130, told
    assert not processes_of(folder)
