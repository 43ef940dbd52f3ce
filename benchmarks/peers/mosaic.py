"""mosaicml-streaming: photographs and labels in MDS shards, shuffled, in worker processes with the transforms of the torch contender."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.peers.batches import Batch, BatchContender
from benchmarks.peers.mosaic_import import streaming
from benchmarks.peers.protocol import serve
from benchmarks.peers.torchvision_transform import collate, from_bytes
from benchmarks.tasks.jpeg import Job
from benchmarks.tasks.write import SHARD_BYTES


class Photographs(streaming.StreamingDataset):  # type: ignore[misc]
    """Samples after the transform, as mosaicml-streaming's own vision datasets make them."""

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        sample = super().__getitem__(at)
        return from_bytes(sample["jpg"]), sample["cls"]


class MosaicBatches:
    packages = ("mosaicml-streaming", "torch", "torchvision", "pillow")

    def __init__(self, job: Job) -> None:
        self.setup = (
            f"StreamingDataset in a DataLoader with {job.threads} persistent worker processes, shuffle=True, shards of"
            f" {SHARD_BYTES >> 20} MiB in a local folder, the transforms of the torch contender"
        )
        shards = Path(job.scratch) / "mosaic-jpeg"
        write_shards(job.tree, shards)
        streaming.base.util.clean_stale_shared_memory()
        dataset = Photographs(local=str(shards), shuffle=True, shuffle_seed=job.seed, batch_size=job.batch)
        self.loader: DataLoader[Any] = DataLoader(
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


def write_shards(tree: str, shards: Path) -> None:
    """The photographs of a tree, with the names of their folders as labels."""
    if shards.exists():
        shutil.rmtree(shards)
    columns = {"jpg": "bytes", "cls": "int"}
    with streaming.MDSWriter(out=str(shards), columns=columns, size_limit=SHARD_BYTES, progress_bar=False) as writer:
        for path in sorted(Path(tree).rglob("*.jpg")):
            writer.write({"jpg": path.read_bytes(), "cls": int(path.parent.name)})


def open_contender(job: Mapping[str, Any]) -> BatchContender:
    parsed = Job.from_json(job)
    return BatchContender(MosaicBatches(parsed), parsed)


if __name__ == "__main__":
    serve(open_contender)
