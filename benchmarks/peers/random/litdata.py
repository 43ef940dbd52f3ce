"""litdata in one process: a StreamingDataset that shuffles, over chunks that `optimize` has written."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.litdata_import import import_litdata
from benchmarks.peers.protocol import serve
from benchmarks.peers.random.reading import opener
from benchmarks.peers.write.litdata import optimize
from benchmarks.tasks.random import Job


class LitdataReader:
    packages = ("litdata",)

    def __init__(self, job: Job) -> None:
        self.setup = "StreamingDataset in process, shuffle=True, chunks in a local folder"
        litdata = import_litdata(Path(job.scratch) / "litdata-scratch")
        chunks = Path(job.scratch) / "litdata"
        if chunks.exists():
            shutil.rmtree(chunks)
        chunks.mkdir()
        optimize(litdata, sorted(str(path) for path in Path(job.tree).rglob("*.jpg")), chunks, workers=2)
        self.dataset = litdata.StreamingDataset(str(chunks), shuffle=True, seed=job.seed)

    def epoch(self) -> Iterator[bytes]:
        yield from self.dataset


if __name__ == "__main__":
    serve(opener(LitdataReader))
