"""The webdataset library over tars: shards shuffled, `shuffle(500)`, batches made in the worker processes of a WebLoader."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import webdataset

from benchmarks.peers.accelerators.feeding import opener
from benchmarks.peers.accelerators.torch_batches import Epochs, epochs_of, options, stacked
from benchmarks.peers.protocol import serve
from benchmarks.tasks.accelerators import Job

SHUFFLE_BUFFER = 500


class WebDatasetFeeder:
    packages = ("webdataset", "torch")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = (
            f"WebLoader with {job.threads} persistent worker processes, shuffle({SHUFFLE_BUFFER}), as many batches ahead as accelerators"
        )
        torch.manual_seed(job.seed)

    @contextmanager
    def epochs(self, ahead: int) -> Iterator[Epochs]:
        samples = (
            webdataset.WebDataset(self.job.tars, shardshuffle=len(self.job.tars), seed=self.job.seed)
            .shuffle(SHUFFLE_BUFFER)
            .map(_bytes)
            .batched(self.job.batch, collation_fn=stacked)
        )
        loader = torch.utils.data.DataLoader(samples, batch_size=None, **options(self.job.threads, ahead))
        with epochs_of(loader) as epoch:
            yield epoch


def _bytes(sample: dict[str, bytes]) -> bytes:
    return sample["bin"]


if __name__ == "__main__":
    serve(opener(WebDatasetFeeder))
