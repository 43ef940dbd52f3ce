"""Memory, threads and files of a long run, in a process of its own. `make soak` runs 50 epochs of the photographs, CI a few."""

import json
import os
import subprocess
import sys

import pytest

from dataplane import Lake
from dataplane.formats.index import ImageInfo
from dataplane.schema import Field, Schema
from dataplane.testing.samples import Made, write_dataset

PROGRAM = """
import gc, json, os, sys, tempfile, threading
from pathlib import Path

from dataplane import Lake
from loaders import HorizontalFlip, Int64, Loader, Normalize, RandomResizedCrop
from tiering import Hot

lake, hot, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])

def now():
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "rss": int(status["VmRSS"].split()[0]) * 1024,
        "peak": int(status["VmHWM"].split()[0]) * 1024,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "temporary": len(os.listdir(tempfile.gettempdir())),
    }

split = Lake(lake).dataset("photos")["train"]
before = now()
transform = {"jpg": [RandomResizedCrop(224), HorizontalFlip(), Normalize.imagenet()], "cls": Int64()}
seen = []
with Loader(split, batch_size=64, transform=transform, threads=4, tail="short", hot=Hot(hot, limit="1 GiB")) as loader:
    for _ in range(epochs):
        keys = [key for batch in loader for key in batch.sample_keys]
        assert len(set(keys)) == len(keys) == len(split)
        seen.append(now())
del loader
print(json.dumps({"before": before, "epochs": seen, "after": now(), "torch": "torch" in sys.modules}))
"""


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_an_epoch_of_photographs_stays_small_and_leaves_nothing_behind(photos, tmp_path):
    from PIL import Image

    lake = Lake.init(str(tmp_path / "lake"))
    made = []
    for number, file in enumerate(sorted(photos.glob("*.jpg"))):
        with Image.open(file) as image:
            info = ImageInfo(image.width, image.height, image.getexif().get(0x0112, 1))
        made.append(Made(file.stem, {"jpg": file.read_bytes(), "cls": str(number).encode()}, {"jpg": info}))
    schema = Schema((Field("cls", "class"), Field("jpg", "image")), tuple(sample.key for sample in made))
    write_dataset(lake, "photos", [("train", made[:120]), ("train", made[120:])], schema=schema)

    epochs = 50 if os.environ.get("DATAPLANE_SOAK") else 6
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, lake.url, str(tmp_path / "hot"), str(epochs)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print({"peak_mb": found["after"]["peak"] >> 20, "rss_mb": [epoch["rss"] >> 20 for epoch in found["epochs"]]})
    assert not found["torch"]
    assert found["after"]["peak"] < 600 << 20
    settled = [epoch["rss"] for epoch in found["epochs"][2:]]
    assert max(settled) - min(settled) < 40 << 20, "memory is flat once the buffers are warm"
    for what in ("threads", "files", "temporary"):
        assert found["after"][what] == found["before"][what], what
    assert {epoch["threads"] for epoch in found["epochs"]} <= {found["before"]["threads"], found["before"]["threads"] + 1}
