"""The webdataset library on tars: worker processes read whole shards, shuffle in a buffer, and use the torch contender's transforms."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import webdataset

from benchmarks.peers.batches import Batch, BatchContender
from benchmarks.peers.protocol import serve
from benchmarks.peers.torchvision_transform import collate, from_bytes
from benchmarks.tasks.jpeg import Job

SHUFFLE_BUFFER = 500


class WebDatasetBatches:
    packages = ("webdataset", "torch", "torchvision", "pillow")

    def __init__(self, job: Job) -> None:
        self.setup = (
            f"WebLoader with {job.threads} persistent worker processes, shards shuffled, shuffle({SHUFFLE_BUFFER}),"
            " the transforms of the torch contender"
        )
        torch.manual_seed(job.seed)
        samples = (
            webdataset.WebDataset(job.tars, shardshuffle=len(job.tars), seed=job.seed)
            .shuffle(SHUFFLE_BUFFER)
            .to_tuple("jpg", "cls")
            .map_tuple(from_bytes, int)
            .batched(job.batch, collation_fn=collate)
        )
        self.loader = webdataset.WebLoader(
            samples,
            batch_size=None,
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
    return BatchContender(WebDatasetBatches(parsed), parsed)


if __name__ == "__main__":
    serve(open_contender)
