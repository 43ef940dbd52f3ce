"""mosaicml-streaming: a StreamingDataset that shuffles, over local shards, in worker processes of a DataLoader."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.data import DataLoader

from benchmarks.peers.accelerators.feeding import opener
from benchmarks.peers.accelerators.torch_batches import Epochs, epochs_of, options, stacked
from benchmarks.peers.mosaic_import import streaming
from benchmarks.peers.protocol import serve
from benchmarks.tasks.accelerators import Job
from benchmarks.tasks.write import SHARD_BYTES


class Samples(streaming.StreamingDataset):  # type: ignore[misc]
    """The bytes of samples."""

    def __getitem__(self, at: int) -> bytes:
        data: bytes = super().__getitem__(at)["bin"]
        return data


class MosaicFeeder:
    packages = ("mosaicml-streaming", "torch")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = (
            f"StreamingDataset, shuffle=True, DataLoader with {job.threads} persistent worker processes, as many batches ahead as"
            " accelerators"
        )
        self.shards = Path(job.scratch) / "mosaic"
        if self.shards.exists():
            shutil.rmtree(self.shards)
        with streaming.MDSWriter(out=str(self.shards), columns={"bin": "bytes"}, size_limit=SHARD_BYTES, progress_bar=False) as writer:
            for file in job.files:
                writer.write({"bin": Path(file).read_bytes()})
        streaming.base.util.clean_stale_shared_memory()

    @contextmanager
    def epochs(self, ahead: int) -> Iterator[Epochs]:
        dataset = Samples(local=str(self.shards), shuffle=True, shuffle_seed=self.job.seed, batch_size=self.job.batch)
        loader = DataLoader(dataset, batch_size=self.job.batch, collate_fn=stacked, **options(self.job.threads, ahead))
        with epochs_of(loader) as epoch:
            yield epoch


if __name__ == "__main__":
    serve(opener(MosaicFeeder))
