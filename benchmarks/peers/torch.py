"""torch's DataLoader on torchvision's ImageFolder: worker processes, Pillow's decoder, torchvision's transforms."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.peers.batches import Batch, BatchContender
from benchmarks.peers.protocol import serve
from benchmarks.peers.torchvision_transform import ImageFolder, collate, cut, transform
from benchmarks.tasks.jpeg import Box, Images, Job, some_sources


class TorchBatches:
    packages = ("torch", "torchvision", "pillow")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = (
            f"{job.threads} persistent worker processes, Pillow, v2 transforms on uint8 tensors, normalised by the batch in the worker"
        )
        torch.manual_seed(job.seed)
        self.loader = DataLoader(
            ImageFolder(job.tree, transform),
            batch_size=job.batch,
            shuffle=True,
            num_workers=job.threads,
            persistent_workers=True,
            collate_fn=collate,
            multiprocessing_context="spawn",
        )

    def epoch(self) -> Iterator[Batch]:
        for images, labels in self.loader:
            yield Batch(images.numpy(), labels.numpy())

    def cut(self) -> Iterator[tuple[Path, Box, Images]]:
        for path in some_sources(self.job):
            with path.open("rb") as file:
                yield path, *cut(file)

    def close(self) -> None:
        del self.loader


def open_contender(job: Mapping[str, Any]) -> BatchContender:
    parsed = Job.from_json(job)
    return BatchContender(TorchBatches(parsed), parsed)


if __name__ == "__main__":
    serve(open_contender)
