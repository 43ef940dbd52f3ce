"""torch's DataLoader over files: each read whole in a worker process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.accelerators.feeding import opener
from benchmarks.peers.accelerators.torch_batches import Epochs, epochs_of, options, stacked
from benchmarks.peers.protocol import serve
from benchmarks.tasks.accelerators import Job


class Files(Dataset[bytes]):  # type: ignore[misc]
    """The bytes of files."""

    def __init__(self, files: list[str]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> bytes:
        return Path(self.files[at]).read_bytes()


class TorchFeeder:
    packages = ("torch",)

    def __init__(self, job: Job) -> None:
        self.job = job
        self.setup = f"DataLoader with {job.threads} persistent worker processes, a file a sample, as many batches ahead as accelerators"
        self.files = Files(job.files)
        torch.manual_seed(job.seed)

    @contextmanager
    def epochs(self, ahead: int) -> Iterator[Epochs]:
        loader = DataLoader(self.files, batch_size=self.job.batch, shuffle=True, collate_fn=stacked, **options(self.job.threads, ahead))
        with epochs_of(loader) as epoch:
            yield epoch


if __name__ == "__main__":
    serve(opener(TorchFeeder))
