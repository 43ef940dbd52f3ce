"""The webdataset library: a ShardWriter in each process, as its documentation shows for parallel writing."""

from collections.abc import Iterator
from pathlib import Path

import webdataset

from benchmarks.peers.protocol import serve
from benchmarks.peers.write.forked import write_shares
from benchmarks.peers.write.writing import opener
from benchmarks.tasks.write import SHARD_BYTES, Job


class WebDatasetWriter:
    packages = ("webdataset",)
    syncs = False

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = f"{job.threads} forked processes, a ShardWriter each, maxsize {SHARD_BYTES >> 20} MiB"

    def write(self, out: Path) -> None:
        write_shares(_write, self.job.files, out, processes=self.job.threads)

    def read(self, out: Path) -> Iterator[bytes]:
        tars = sorted(str(path) for path in out.glob("*.tar"))
        for sample in webdataset.WebDataset(tars, shardshuffle=False):
            yield sample["jpg"]


def _write(files: list[str], out: Path, number: int) -> None:
    with webdataset.ShardWriter(str(out / f"{number}-%05d.tar"), maxsize=SHARD_BYTES, maxcount=10**9, verbose=0) as writer:
        for name in files:
            path = Path(name)
            writer.write({"__key__": path.stem, "jpg": path.read_bytes()})


if __name__ == "__main__":
    serve(opener(WebDatasetWriter))
