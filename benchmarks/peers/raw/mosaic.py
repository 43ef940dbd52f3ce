"""mosaicml-streaming: a StreamingDataset that shuffles, over local shards, in worker processes of a DataLoader."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from torch.utils.data import DataLoader

from benchmarks.peers.mosaic_import import streaming
from benchmarks.peers.protocol import serve
from benchmarks.peers.raw.batching import Buffers, opener
from benchmarks.peers.raw.torch_batches import buffers, end, options
from benchmarks.tasks.raw import Job
from benchmarks.tasks.write import SHARD_BYTES


class Samples(streaming.StreamingDataset):  # type: ignore[misc]
    """The bytes of samples."""

    def __getitem__(self, at: int) -> bytes:
        data: bytes = super().__getitem__(at)["jpg"]
        return data


class MosaicBatches:
    packages = ("mosaicml-streaming", "torch")

    def __init__(self, job: Job) -> None:
        self.setup = f"StreamingDataset, shuffle=True, DataLoader with {job.threads} persistent worker processes, shards in a local folder"
        shards = Path(job.scratch) / "mosaic"
        if shards.exists():
            shutil.rmtree(shards)
        with streaming.MDSWriter(out=str(shards), columns={"jpg": "bytes"}, size_limit=SHARD_BYTES, progress_bar=False) as writer:
            for file in job.files:
                writer.write({"jpg": Path(file).read_bytes()})
        streaming.base.util.clean_stale_shared_memory()
        dataset = Samples(local=str(shards), shuffle=True, shuffle_seed=job.seed, batch_size=job.batch)
        self.loader = DataLoader(dataset, batch_size=job.batch, **options(job.threads))

    def epoch(self) -> Iterator[Buffers]:
        return buffers(self.loader)

    def close(self) -> None:
        end(self.loader)


if __name__ == "__main__":
    serve(opener(MosaicBatches))
