"""torch's DataLoader on a memory map of all pixels: worker processes, torchvision's transforms on uint8 tensors."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.peers.batches import Batch, BatchContender
from benchmarks.peers.protocol import serve
from benchmarks.peers.torchvision_transform import v2
from benchmarks.tasks.jpeg import AREA, ASPECT, SIZE, Job
from benchmarks.tasks.pixels import memory_mapped


class Pixels:
    """The map is opened in each worker, where it is first needed."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.opened: Any = None
        crop = v2.RandomResizedCrop(SIZE, scale=AREA, ratio=ASPECT, antialias=False)
        self.transform = v2.Compose([crop, v2.RandomHorizontalFlip()])

    def __len__(self) -> int:
        return self.job.samples

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        if self.opened is None:
            self.opened = memory_mapped(self.job)
        pixels, labels = self.opened
        image = torch.from_numpy(pixels[at]).permute(2, 0, 1)
        return self.transform(image).permute(1, 2, 0), int(labels[at])


class TorchBatches:
    packages = ("torch", "torchvision")

    def __init__(self, job: Job) -> None:
        self.setup = f"{job.threads} persistent worker processes, v2 transforms on uint8 tensors, numpy.load(mmap_mode='c')"
        torch.manual_seed(job.seed)
        memory_mapped(job)
        self.loader = DataLoader(
            Pixels(job),
            batch_size=job.batch,
            shuffle=True,
            num_workers=job.threads,
            persistent_workers=True,
            multiprocessing_context="spawn",
        )

    def epoch(self) -> Iterator[Batch]:
        for images, labels in self.loader:
            yield Batch(images.numpy(), labels.numpy())

    def close(self) -> None:
        del self.loader


def open_contender(job: Mapping[str, Any]) -> BatchContender:
    parsed = Job.from_json(job)
    return BatchContender(TorchBatches(parsed), parsed)


if __name__ == "__main__":
    serve(open_contender)
