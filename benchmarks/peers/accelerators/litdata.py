"""litdata: a StreamingDataset that shuffles, over local chunks, in worker processes of its StreamingDataLoader."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.accelerators.feeding import opener
from benchmarks.peers.accelerators.torch_batches import Epochs, epochs_of, options, stacked
from benchmarks.peers.litdata_import import import_litdata
from benchmarks.peers.protocol import serve
from benchmarks.peers.write.litdata import optimize
from benchmarks.tasks.accelerators import Job


class LitdataFeeder:
    packages = ("litdata", "torch")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = (
            f"StreamingDataLoader with {job.threads} persistent worker processes, shuffle=True, as many batches ahead as accelerators"
        )
        self.litdata = import_litdata(Path(job.scratch) / "litdata-scratch")
        self.chunks = Path(job.scratch) / "litdata"
        if self.chunks.exists():
            shutil.rmtree(self.chunks)
        self.chunks.mkdir()
        optimize(self.litdata, job.files, self.chunks, workers=job.threads)

    @contextmanager
    def epochs(self, ahead: int) -> Iterator[Epochs]:
        dataset = self.litdata.StreamingDataset(str(self.chunks), shuffle=True, seed=self.job.seed, drop_last=False)
        loader = self.litdata.StreamingDataLoader(
            dataset, batch_size=self.job.batch, collate_fn=stacked, **options(self.job.threads, ahead)
        )
        with epochs_of(loader) as epoch:
            yield epoch


if __name__ == "__main__":
    serve(opener(LitdataFeeder))
