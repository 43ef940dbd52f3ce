"""This project: `ingest` of the folder into a new lake, looking at the structure of each picture only. It syncs by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.protocol import serve
from benchmarks.peers.write.writing import opener
from benchmarks.tasks.write import SHARD_BYTES, Job
from dataplane import Lake
from dataplane.ingest import IngestOptions, ingest

DATASET = "photographs"


class DataplaneWriter:
    packages = ("dataplane",)
    syncs = True

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = (
            f"ingest, workers={job.threads} (below 1 GiB the threads of one process, else spawned processes), check='structure', "
            f"jpeg='keep', shards of {SHARD_BYTES >> 20} MiB, synced by itself"
        )

    def write(self, out: Path) -> None:
        options = IngestOptions(check="structure", jpeg="keep", workers=self.job.threads, shard_bytes=SHARD_BYTES)
        done = ingest(str(out), self.job.tree, DATASET, options=options)
        if done.samples != self.job.samples or done.bad:
            raise RuntimeError(f"ingest took {done.samples} of {self.job.samples} photographs; {len(done.bad)} are bad")

    def read(self, out: Path) -> Iterator[Any]:
        dataset = Lake(str(out)).dataset(DATASET)
        for name in dataset.splits:
            for sample in dataset[name]:
                yield sample.fields["jpg"]


if __name__ == "__main__":
    serve(opener(DataplaneWriter))
