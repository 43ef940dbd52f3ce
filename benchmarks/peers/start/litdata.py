"""litdata in process: a StreamingDataset that shuffles, from S3 into an empty local folder.

It fetches chunks with obstore, which it does not let speak to a server without TLS: the one of this task has none, so that is allowed here.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import obstore.store

from benchmarks.peers.batches import Batch
from benchmarks.peers.litdata import transformed, write_chunks
from benchmarks.peers.litdata_import import import_litdata
from benchmarks.peers.protocol import serve
from benchmarks.peers.start.starting import opener
from benchmarks.peers.torchvision_transform import collate
from benchmarks.tasks.start import BUCKET, Job


class LitdataStarter:
    packages = ("litdata", "torch", "torchvision", "pillow")
    setup = "StreamingDataLoader in process, shuffle=True, s3://, empty local folder, torchvision"

    def __init__(self, job: Job) -> None:
        self.job = job
        os.environ.update(job.environment, AWS_ENDPOINT_URL=job.endpoint)
        store: Any = obstore.store
        store.S3Store = partial(_without_tls, store.S3Store)
        self.litdata = import_litdata(Path(job.photographs.scratch) / "litdata-start-scratch")
        write_chunks(self.litdata, job.photographs, Path(job.folder) / "litdata")

    @contextmanager
    def first(self, cache: Path) -> Iterator[Batch]:
        dataset = self.litdata.StreamingDataset(
            f"s3://{BUCKET}/litdata",
            cache_dir=str(cache),
            shuffle=True,
            seed=self.job.photographs.seed,
            transform=transformed,
            storage_options={"endpoint_url": self.job.endpoint},
        )
        batches: Any = iter(self.litdata.StreamingDataLoader(dataset, batch_size=self.job.batch, collate_fn=collate))
        images, labels = next(batches)
        yield Batch(images.numpy(), labels.numpy())
        del batches, dataset


def _without_tls(make: Callable[..., Any], *arguments: Any, client_options: Any = None, **more: Any) -> Any:
    return make(*arguments, client_options={**(client_options or {}), "allow_http": True}, **more)


if __name__ == "__main__":
    serve(opener(LitdataStarter))
