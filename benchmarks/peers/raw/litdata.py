"""litdata: a StreamingDataset that shuffles, over local chunks, in worker processes of its StreamingDataLoader."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.litdata_import import import_litdata
from benchmarks.peers.protocol import serve
from benchmarks.peers.raw.batching import Buffers, opener
from benchmarks.peers.raw.torch_batches import buffers, end, options
from benchmarks.peers.write.litdata import optimize
from benchmarks.tasks.raw import Job


class LitdataBatches:
    packages = ("litdata", "torch")

    def __init__(self, job: Job) -> None:
        self.setup = f"StreamingDataLoader with {job.threads} persistent worker processes, shuffle=True, chunks in a local folder"
        litdata = import_litdata(Path(job.scratch) / "litdata-scratch")
        chunks = Path(job.scratch) / "litdata"
        if chunks.exists():
            shutil.rmtree(chunks)
        chunks.mkdir()
        optimize(litdata, job.files, chunks, workers=job.threads)
        dataset = litdata.StreamingDataset(str(chunks), shuffle=True, seed=job.seed, drop_last=False)
        self.loader = litdata.StreamingDataLoader(dataset, batch_size=job.batch, **options(job.threads))

    def epoch(self) -> Iterator[Buffers]:
        return buffers(self.loader)

    def close(self) -> None:
        end(self.loader)


if __name__ == "__main__":
    serve(opener(LitdataBatches))
