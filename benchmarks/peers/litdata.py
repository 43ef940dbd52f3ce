"""litdata: photographs and labels in chunks of its own, shuffled, read by worker processes with the transforms of the torch contender."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.datasets import label_name
from benchmarks.peers.batches import Batch, BatchContender
from benchmarks.peers.litdata_import import import_litdata
from benchmarks.peers.protocol import serve
from benchmarks.peers.torchvision_transform import collate, from_bytes
from benchmarks.tasks.jpeg import Job
from benchmarks.tasks.write import SHARD_BYTES


class LitdataBatches:
    packages = ("litdata", "torch", "torchvision", "pillow")

    def __init__(self, job: Job) -> None:
        self.setup = (
            f"StreamingDataLoader with {job.threads} persistent worker processes, shuffle=True, chunks of {SHARD_BYTES >> 20} MiB in a"
            " local folder, the transforms of the torch contender"
        )
        litdata = import_litdata(Path(job.scratch) / "litdata-jpeg-scratch")
        chunks = Path(job.scratch) / "litdata-jpeg"
        write_chunks(litdata, job, chunks)
        dataset = litdata.StreamingDataset(str(chunks), shuffle=True, seed=job.seed, drop_last=False, transform=transformed)
        self.loader = litdata.StreamingDataLoader(
            dataset,
            batch_size=job.batch,
            num_workers=job.threads,
            persistent_workers=True,
            collate_fn=collate,
            multiprocessing_context="spawn",
        )

    def epoch(self) -> Iterator[Batch]:
        for images, labels in self.loader:
            yield Batch(images.numpy(), labels.numpy())

    def close(self) -> None:
        del self.loader


def write_chunks(litdata: Any, job: Job, chunks: Path) -> None:
    """The photographs and labels of the job as a data set of litdata's."""
    if chunks.exists():
        shutil.rmtree(chunks)
    chunks.mkdir()
    litdata.optimize(
        fn=labelled,
        inputs=sorted(str(path) for path in Path(job.tree).rglob("*.jpg")),
        output_dir=str(chunks),
        num_workers=job.threads,
        chunk_bytes=SHARD_BYTES,
        start_method="fork",
        verbose=False,
    )


def labelled(path: str) -> tuple[bytes, int]:
    """A sample of the data set: a file's bytes as they are, and its label, which is the name of its folder."""
    label = int(Path(path).parent.name)
    if Path(path).parent.name != label_name(label):
        raise ValueError(f"{path} does not lie in the folder of its label")
    return Path(path).read_bytes(), label


def transformed(sample: tuple[bytes, int]) -> tuple[torch.Tensor, int]:
    """What a worker makes of a sample."""
    return from_bytes(sample[0]), sample[1]


def open_contender(job: Mapping[str, Any]) -> BatchContender:
    parsed = Job.from_json(job)
    return BatchContender(LitdataBatches(parsed), parsed)


if __name__ == "__main__":
    serve(open_contender)
