"""The webdataset library in one process: shards shuffled, `shuffle(500)`, samples as bytes."""

from collections.abc import Iterator

import webdataset

from benchmarks.peers.protocol import serve
from benchmarks.peers.random.reading import opener
from benchmarks.tasks.random import Job

SHUFFLE_BUFFER = 500


class WebDatasetReader:
    packages = ("webdataset",)

    def __init__(self, job: Job) -> None:
        self.setup = f"WebDataset in process, shards shuffled, shuffle({SHUFFLE_BUFFER}), no decoding"
        self.dataset = webdataset.WebDataset(job.tars, shardshuffle=len(job.tars), seed=job.seed).shuffle(SHUFFLE_BUFFER)

    def epoch(self) -> Iterator[bytes]:
        for sample in self.dataset:
            yield sample["jpg"]


if __name__ == "__main__":
    serve(opener(WebDatasetReader))
