"""mosaicml-streaming: an MDSWriter in each process, and `merge_index` at the end, as its documentation shows for parallel writing.

No compression and no hashes, which are its defaults.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.mosaic_import import streaming
from benchmarks.peers.protocol import serve
from benchmarks.peers.write.forked import write_shares
from benchmarks.peers.write.writing import opener
from benchmarks.tasks.write import SHARD_BYTES, Job


class MosaicWriter:
    packages = ("mosaicml-streaming",)
    syncs = False

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = f"{job.threads} forked processes, an MDSWriter each, size_limit {SHARD_BYTES >> 20} MiB, then merge_index"

    def write(self, out: Path) -> None:
        write_shares(_write, self.job.files, out, processes=self.job.threads)
        streaming.base.util.merge_index(str(out), keep_local=True)

    def read(self, out: Path) -> Iterator[Any]:
        streaming.base.util.clean_stale_shared_memory()
        for sample in streaming.StreamingDataset(local=str(out), shuffle=False, batch_size=64):
            yield sample["jpg"]


def _write(files: list[str], out: Path, number: int) -> None:
    with streaming.MDSWriter(out=str(out / str(number)), columns={"jpg": "bytes"}, size_limit=SHARD_BYTES, progress_bar=False) as writer:
        for name in files:
            writer.write({"jpg": Path(name).read_bytes()})


if __name__ == "__main__":
    serve(opener(MosaicWriter))
