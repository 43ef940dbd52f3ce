"""Folders of small real pictures for tests of ingest, and an ingest in a process of its own that says how far it is."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION = 0x0112
_NOBODY = 65534

CHILD = """
import multiprocessing, sys
from dataplane.ingest import IngestOptions, ingest

def watch(progress):
    pids = " ".join(str(process.pid) for process in multiprocessing.active_children())
    print(progress.stage, progress.samples, pids, flush=True)

if __name__ == "__main__":
    lake, source, name, options, together = sys.argv[1:6]
    if together:
        from dataplane.ingest import bulk, worker
        worker._MANY_COLD, worker._MANY, read_one = 0, 0, bulk.read_one
        def read_empty(source, kind, entry):
            assert entry.size == 0, "all others are read together"
            return read_one(source, kind, entry)
        bulk.read_one = read_empty
    result = ingest(lake, source, name, options=IngestOptions(**eval(options)), watch=watch)
    print("result", result.to_json(), flush=True)
"""


def noise(number: int, size: tuple[int, int] = (24, 20)) -> Image.Image:
    """Picture `number`, of random pixels: no two are alike, and they do not compress."""
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8))


def encode(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    """The picture as a file of the format that Pillow calls `form`."""
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


@cache
def jpeg(number: int) -> bytes:
    """Picture `number` as a JPEG file, about 1.5 kB."""
    return encode(noise(number))


def shown(data: bytes) -> object:
    """What a picture shows: of a JPEG the pixels and how they are to be turned, as Pillow has them; of other formats the bytes."""
    image = Image.open(io.BytesIO(data))
    if image.format != "JPEG":
        return data
    return image.mode, image.size, image.getexif().get(ORIENTATION, 1), hashlib.sha256(image.tobytes()).hexdigest()


def all_shown(files: Mapping[str, bytes]) -> dict[str, object]:
    """`shown`, by key."""
    return {key: shown(data) for key, data in files.items()}


def write_folder(root: Path, count: int, *, classes: tuple[str, ...] = ("cat", "dog"), first: int = 0) -> dict[str, bytes]:
    """Pictures `first` … in folders by class. Their bytes by key."""
    made = {}
    for number in range(first, first + count):
        key = f"{classes[number % len(classes)]}/{number:05d}"
        path = root / f"{key}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
        made[key] = jpeg(number)
    return made


def start(folder: Path, lake: str, source: str, name: str, *, together: bool = False, **options: object) -> subprocess.Popen[str]:
    """An ingest in a process group of its own; each line of its output is a stage, samples, and the ids of its workers. `together`: files
    are read many at once, as otherwise only where there are thousands."""
    script = folder / "child.py"
    script.write_text(CHILD)
    return subprocess.Popen(
        [sys.executable, str(script), lake, source, name, repr(options), "together" if together else ""],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[1])},
    )


@contextmanager
def nobody() -> Iterator[Path]:
    """A new folder of a user whom modes hold back; where this process is root's, it is that user's meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="nobody-"))
    was_root = os.geteuid() == 0
    if was_root:
        os.chown(folder, _NOBODY, -1)
        os.seteuid(_NOBODY)
    try:
        yield folder
    finally:
        if was_root:
            os.seteuid(0)
        for path in folder.rglob("*"):
            if path.is_dir():
                path.chmod(0o700)
        shutil.rmtree(folder)
