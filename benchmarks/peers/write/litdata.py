"""litdata: `optimize` over the paths of the files, each read by its function as bytes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.litdata_import import import_litdata
from benchmarks.peers.protocol import serve
from benchmarks.peers.write.writing import opener
from benchmarks.tasks.write import SHARD_BYTES, Job


class LitdataWriter:
    packages = ("litdata",)
    syncs = False

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = f"optimize, {job.threads} worker processes, chunk_bytes {SHARD_BYTES >> 20} MiB, bytes as they are"
        self.litdata = import_litdata(Path(job.scratch) / "litdata")

    def write(self, out: Path) -> None:
        optimize(self.litdata, self.job.files, out, workers=self.job.threads)

    def read(self, out: Path) -> Iterator[Any]:
        dataset = self.litdata.StreamingDataset(str(out), shuffle=False)
        return (dataset[i] for i in range(len(dataset)))


def optimize(litdata: Any, files: list[str], out: Path, *, workers: int) -> None:
    """The files as a dataset of litdata's, in `out`."""
    litdata.optimize(
        fn=read_bytes,
        inputs=files,
        output_dir=str(out),
        num_workers=workers,
        chunk_bytes=SHARD_BYTES,
        reorder_files=False,
        start_method="fork",
        verbose=False,
    )


def read_bytes(path: str) -> bytes:
    """A sample of the dataset: a file's bytes as they are."""
    return Path(path).read_bytes()


if __name__ == "__main__":
    serve(opener(LitdataWriter))
