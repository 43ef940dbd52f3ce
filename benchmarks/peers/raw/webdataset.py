"""The webdataset library over tars: shards shuffled, `shuffle(500)`, batches made in the worker processes of a DataLoader."""

from collections.abc import Iterator

import torch
import webdataset

from benchmarks.peers.protocol import serve
from benchmarks.peers.raw.batching import Buffers, opener
from benchmarks.peers.raw.torch_batches import buffers, end, joined, options
from benchmarks.tasks.raw import Job

SHUFFLE_BUFFER = 500


class WebDatasetBatches:
    packages = ("webdataset", "torch")

    def __init__(self, job: Job) -> None:
        self.setup = f"WebDataset, shards shuffled, shuffle({SHUFFLE_BUFFER}), DataLoader with {job.threads} persistent worker processes"
        torch.manual_seed(job.seed)
        shards = webdataset.WebDataset(job.tars, shardshuffle=len(job.tars), seed=job.seed)
        samples = shards.shuffle(SHUFFLE_BUFFER).map(_photograph).batched(job.batch, collation_fn=joined)
        self.loader = torch.utils.data.DataLoader(samples, batch_size=None, **{**options(job.threads), "collate_fn": None})

    def epoch(self) -> Iterator[Buffers]:
        return buffers(self.loader)

    def close(self) -> None:
        end(self.loader)


def _photograph(sample: dict[str, bytes]) -> bytes:
    return sample["jpg"]


if __name__ == "__main__":
    serve(opener(WebDatasetBatches))
