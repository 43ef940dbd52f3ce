"""The processes that train together: what torchrun starts, or one process alone. What they exchange is numbers and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from dataplane.errors import InvalidArgument

__all__ = ["Ranks", "join"]


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among the ranks. `local` counts within the node. Every method but `wrap` is called by all ranks alike, or hangs."""

    rank: int
    world: int
    local: int
    device: Any

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which speaks and commits for all."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all ranks, in float64."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return [float(value) for value in total]

    def gather(self, value: Any) -> list[Any]:
        """A JSON value from every rank, in rank order, on every rank."""
        if self.world == 1:
            return [value]
        data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        dist.all_gather(sizes, torch.tensor([len(data)]))
        longest = max(int(size) for size in sizes)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(data)] = data
        everyone = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.world)]
        dist.all_gather(everyone, padded)
        return [json.loads(bytes(each[: int(size)].numpy())) for each, size in zip(everyone, sizes, strict=True)]

    def from_first(self, value: Any) -> Any:
        """Rank 0's JSON value, on every rank."""
        return self.gather(value)[0]

    def same_buffers(self, model: Any) -> None:
        """Give every rank the running statistics of rank 0, which are those that a checkpoint holds."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def wrap(self, model: Any) -> Any:
        """The model with its gradients averaged over ranks."""
        if self.world == 1:
            return model
        return torch.nn.parallel.DistributedDataParallel(model, device_ids=[self.device] if self.device.type == "cuda" else None)


@contextmanager
def join(device: str) -> Iterator[Ranks]:
    """Join the ranks that torchrun started this process with (RANK, WORLD_SIZE, LOCAL_RANK), or be alone. `device`: auto, cpu, cuda."""
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidArgument('device = "cuda", but PyTorch sees no CUDA device here; use "auto" or "cpu"')
    cuda = device != "cpu" and torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(place)
    if "RANK" not in os.environ:
        yield Ranks(0, 1, 0, place)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), local, place)
    finally:
        dist.destroy_process_group()
