"""Photographs decoded before, 256 × 256 each → RandomResizedCrop(224), no antialiasing → HorizontalFlip → uint8 HWC, in batches of 64.

What is left when nothing is decoded: reading 197 kB a sample, and resizing. Every contender keeps the pixels in its own form. The sources
that all are held against are PNG files that Pillow makes: the shorter side resized to 256, and the centre of that.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.datasets import Inputs, described, label_name, make_inputs, staged
from benchmarks.environments import FFCV, TORCHVISION
from benchmarks.tasks import Contender, Prepared, Request, Target, Task
from benchmarks.tasks.jpeg import BATCH, LEVELS, Job, Reference, resampled_as

SIDE = 256


def prepare(request: Request) -> Prepared:
    """The pixels of each photograph, made once, and the reference drawn from them."""
    samples = -(-max(request.samples, 4 * BATCH) // BATCH) * BATCH
    inputs = make_inputs(request.data, cache=request.cache, samples=samples, threads=request.threads)
    folder = _made_pixels(inputs, threads=request.threads)
    job = Job(
        threads=request.threads,
        batch=BATCH,
        seed=0,
        tree=str(inputs.tree.resolve()),
        scratch=str(folder.resolve()),
        sources=[str(folder.resolve() / f"{label_name(i)}.png") for i in range(len(inputs.sources))],
        tars=[],
        indexes=[],
        repeats=list(inputs.repeats),
        form=LEVELS,
        reference=Reference([], [], 0),
    )
    about = {**described(inputs), "mean_bytes": 3 * SIDE * SIDE}
    return Prepared(job=asdict(resampled_as(job, "plain")), data=about)


def _made_pixels(inputs: Inputs, *, threads: int) -> Path:
    folder = inputs.folder / f"pixels-{SIDE}"
    if not folder.exists():
        with staged(folder) as staging, ThreadPoolExecutor(threads) as pool:
            targets = [staging / f"{label_name(i)}.png" for i in range(len(inputs.sources))]
            list(pool.map(lambda pair: _centre(pair[0]).save(pair[1], compress_level=1), zip(inputs.sources, targets, strict=True)))
    return folder


def _centre(path: Path) -> Image.Image:
    """The task's pixels of one photograph, by Pillow."""
    with Image.open(path) as opened:
        photograph = opened.convert("RGB")
    columns, rows = (SIDE * side // min(photograph.size) for side in photograph.size)
    left, top = round((columns - SIDE) / 2), round((rows - SIDE) / 2)
    return photograph.resize((columns, rows), Image.Resampling.BILINEAR).crop((left, top, left + SIDE, top + SIDE))


def samples_of(job: Job) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The label and the pixels of each sample of an epoch, in order of the labels."""
    for label, (source, times) in enumerate(zip(job.sources, job.repeats, strict=True)):
        with Image.open(source) as opened:
            pixels = np.asarray(opened)
        for _ in range(times):
            yield label, pixels


def memory_mapped(job: Job) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The pixels of all samples as one mapped NumPy file [samples, 256, 256, 3], in a random order, and their labels.
    Written to, the map is copied, not the file: so torch takes it without a copy of its own."""
    folder = Path(job.scratch)
    order = np.random.default_rng(job.seed).permutation(job.samples)
    labels = np.empty(job.samples, np.int64)
    labels[order] = np.repeat(np.arange(len(job.repeats)), job.repeats)
    path = folder / "samples.npy"
    if not path.exists():
        staging = path.with_name("samples.new.npy")
        array = np.lib.format.open_memmap(staging, "w+", np.uint8, (job.samples, SIDE, SIDE, 3))
        for place, (_, pixels) in zip(order, samples_of(job), strict=True):
            array[place] = pixels
        array.flush()
        staging.rename(path)
    mapped: NDArray[np.uint8] = np.load(path, mmap_mode="c")
    return mapped, labels


TASK = Task(
    name="pixels",
    summary="256 × 256 pixels, decoded before → RandomResizedCrop(224), no antialiasing → HorizontalFlip → uint8 HWC, batches of 64",
    contenders=(
        Contender("dataplane", "benchmarks.peers.pixels.dataplane", "this project's Loader on a materialized dataset", "images/s", "ours"),
        Contender("ffcv", "benchmarks.peers.pixels.ffcv", "FFCV, raw pixels, area resize", "images/s", "peer", FFCV),
        Contender(
            "torch", "benchmarks.peers.pixels.torch", "torch DataLoader on a NumPy memory map, torchvision", "images/s", "peer", TORCHVISION
        ),
        Contender("resize", "benchmarks.peers.pixels.resize", "OpenCV resizing crops of mapped pixels, nothing else", "images/s", "bound"),
    ),
    prepare=prepare,
    targets=(Target(("ffcv",), 2.0), Target(("torch",), 10.0)),
)
