"""mosaicml-streaming in process: a StreamingDataset that shuffles, from S3 into an empty local folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from benchmarks.peers.batches import Batch
from benchmarks.peers.mosaic import Photographs, write_shards
from benchmarks.peers.mosaic_import import streaming
from benchmarks.peers.protocol import serve
from benchmarks.peers.start.starting import opener
from benchmarks.peers.torchvision_transform import collate
from benchmarks.tasks.start import BUCKET, Job


class MosaicStarter:
    packages = ("mosaicml-streaming", "torch", "torchvision", "pillow")
    setup = "StreamingDataset in process, shuffle=True, remote s3://, empty local folder, torchvision"

    def __init__(self, job: Job) -> None:
        self.job = job
        os.environ.update(job.environment, S3_ENDPOINT_URL=job.endpoint)
        write_shards(job.photographs.tree, Path(job.folder) / "mosaic")
        streaming.base.util.clean_stale_shared_memory()

    @contextmanager
    def first(self, cache: Path) -> Iterator[Batch]:
        dataset = Photographs(
            remote=f"s3://{BUCKET}/mosaic",
            local=str(cache),
            shuffle=True,
            shuffle_seed=self.job.photographs.seed,
            batch_size=self.job.batch,
        )
        batches: Any = iter(DataLoader(dataset, batch_size=self.job.batch, collate_fn=collate))
        images, labels = next(batches)
        yield Batch(images.numpy(), labels.numpy())
        del batches, dataset


if __name__ == "__main__":
    serve(opener(MosaicStarter))
