"""The webdataset library in process: tars through `pipe:curl`, shards shuffled, `shuffle(500)`, which begins once it holds 100."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import webdataset

from benchmarks.peers.batches import Batch
from benchmarks.peers.protocol import serve
from benchmarks.peers.start.starting import opener
from benchmarks.peers.torchvision_transform import collate, from_bytes
from benchmarks.peers.webdataset import SHUFFLE_BUFFER
from benchmarks.tasks.start import BUCKET, Job


class WebDatasetStarter:
    packages = ("webdataset", "torch", "torchvision", "pillow")
    setup = f"WebDataset in process over pipe:curl, shards shuffled, shuffle({SHUFFLE_BUFFER}), torchvision"

    def __init__(self, job: Job) -> None:
        self.job = job
        folder = Path(job.folder) / "tars"
        folder.mkdir(exist_ok=True)
        for tar in map(Path, job.photographs.tars):
            if not (folder / tar.name).exists():
                os.link(tar, folder / tar.name)
        torch.manual_seed(job.photographs.seed)

    @contextmanager
    def first(self, cache: Path) -> Iterator[Batch]:
        urls = [f"pipe:curl -s {self.job.endpoint}/{BUCKET}/tars/{Path(tar).name}" for tar in self.job.photographs.tars]
        batches = iter(
            webdataset.WebDataset(urls, shardshuffle=len(urls), seed=self.job.photographs.seed)
            .shuffle(SHUFFLE_BUFFER)
            .to_tuple("jpg", "cls")
            .map_tuple(from_bytes, int)
            .batched(self.job.batch, collation_fn=collate)
        )
        images, labels = next(batches)
        yield Batch(images.numpy(), labels.numpy())


if __name__ == "__main__":
    serve(opener(WebDatasetStarter))
