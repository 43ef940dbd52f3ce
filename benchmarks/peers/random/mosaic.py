"""mosaicml-streaming in one process: a StreamingDataset that shuffles, over shards that MDSWriter has written."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.mosaic_import import streaming
from benchmarks.peers.protocol import serve
from benchmarks.peers.random.reading import opener
from benchmarks.tasks.random import Job
from benchmarks.tasks.write import SHARD_BYTES


class MosaicReader:
    packages = ("mosaicml-streaming",)

    def __init__(self, job: Job) -> None:
        self.setup = "StreamingDataset in process, shuffle=True, shards in a local folder"
        shards = Path(job.scratch) / "mosaic"
        if shards.exists():
            shutil.rmtree(shards)
        with streaming.MDSWriter(out=str(shards), columns={"jpg": "bytes"}, size_limit=SHARD_BYTES, progress_bar=False) as writer:
            for path in sorted(Path(job.tree).rglob("*.jpg")):
                writer.write({"jpg": path.read_bytes()})
        streaming.base.util.clean_stale_shared_memory()
        self.dataset = streaming.StreamingDataset(local=str(shards), shuffle=True, shuffle_seed=job.seed, batch_size=job.batch)

    def epoch(self) -> Iterator[bytes]:
        for sample in self.dataset:
            yield sample["jpg"]


if __name__ == "__main__":
    serve(opener(MosaicReader))
