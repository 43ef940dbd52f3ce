"""What contenders on torch's DataLoader share: worker processes that join the samples of a batch, and give them through shared memory."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.peers.raw.batching import Buffers


def joined(samples: Sequence[bytes]) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples in one buffer, with their offsets: copied once, in a worker, straight to memory that the consumer shares, as torch's own
    `default_collate` does it."""
    offsets = torch.zeros(len(samples) + 1, dtype=torch.int64)
    offsets[1:] = torch.tensor([len(sample) for sample in samples]).cumsum(0)
    data = torch.empty(0, dtype=torch.uint8)
    data.set_(torch.UntypedStorage._new_shared(int(offsets[-1])))
    np.concatenate([np.frombuffer(sample, np.uint8) for sample in samples], out=data.numpy())
    return data, offsets


def buffers(loader: Any) -> Iterator[Buffers]:
    """The batches of an epoch."""
    for data, offsets in loader:
        yield data.numpy(), offsets.numpy()


def options(threads: int) -> dict[str, Any]:
    """Of a DataLoader."""
    return {"num_workers": threads, "persistent_workers": True, "multiprocessing_context": "fork", "collate_fn": joined}


def end(loader: Any) -> None:
    """End its workers."""
    workers, loader._iterator = loader._iterator, None
    if workers is not None:
        workers._shutdown_workers()
