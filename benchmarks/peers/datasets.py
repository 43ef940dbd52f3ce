"""Hugging Face datasets: photographs and labels in Arrow files, mapped into memory, in a DataLoader with torch's transforms."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import torch
from torch.utils.data import DataLoader

from benchmarks.peers.batches import Batch, BatchContender
from benchmarks.peers.protocol import serve
from benchmarks.peers.torchvision_transform import collate, from_bytes
from benchmarks.tasks.jpeg import Job


class DatasetsBatches:
    packages = ("datasets", "pyarrow", "torch", "torchvision", "pillow")

    def __init__(self, job: Job) -> None:
        self.setup = (
            f"Dataset mapped from Arrow files, with_transform, a DataLoader with {job.threads} persistent worker processes, shuffle=True,"
            " the transforms of the torch contender"
        )
        torch.manual_seed(job.seed)
        self.loader: DataLoader[Any] = DataLoader(
            arrow_dataset(job.tree, Path(job.scratch) / "datasets-jpeg").with_transform(transformed),
            batch_size=job.batch,
            shuffle=True,
            num_workers=job.threads,
            persistent_workers=True,
            collate_fn=collated,
            multiprocessing_context="spawn",
        )

    def epoch(self) -> Iterator[Batch]:
        for images, labels in self.loader:
            yield Batch(images.numpy(), labels.numpy())

    def close(self) -> None:
        del self.loader


def arrow_dataset(tree: str, folder: Path) -> Any:
    """The photographs of a tree, with the names of their folders as labels, in Arrow files in `folder`; made once."""
    if not folder.exists():
        features = datasets.Features({"jpg": datasets.Value("binary"), "cls": datasets.Value("int64")})
        made = datasets.Dataset.from_generator(
            samples_of, features=features, gen_kwargs={"tree": tree}, cache_dir=str(folder.with_name("datasets-cache"))
        )
        staging = folder.with_suffix(".new")
        made.save_to_disk(str(staging))
        staging.rename(folder)
    return datasets.load_from_disk(str(folder))


def samples_of(tree: str) -> Iterator[dict[str, Any]]:
    for path in sorted(Path(tree).rglob("*.jpg")):
        yield {"jpg": path.read_bytes(), "cls": int(path.parent.name)}


def transformed(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """What a worker makes of the rows of a batch."""
    return {"image": [from_bytes(data) for data in batch["jpg"]], "cls": batch["cls"]}


def collated(rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    return collate([(row["image"], row["cls"]) for row in rows])


def open_contender(job: Mapping[str, Any]) -> BatchContender:
    parsed = Job.from_json(job)
    return BatchContender(DatasetsBatches(parsed), parsed)


if __name__ == "__main__":
    serve(open_contender)
