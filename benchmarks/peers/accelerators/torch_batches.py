"""What feeders on torch's DataLoader share: worker processes, forked, whose batches come through shared memory as one tensor."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Epochs = Callable[[], Iterator[NDArray[np.uint8]]]


def stacked(samples: Sequence[Any]) -> torch.Tensor:
    """Samples, bytes of one length, in one tensor: in a worker, which then shares its memory."""
    return torch.from_numpy(np.stack([np.frombuffer(sample, np.uint8) for sample in samples]))


@contextmanager
def epochs_of(loader: Any) -> Iterator[Epochs]:
    """Epochs of a DataLoader with persistent workers, which end with the block."""

    def epoch() -> Iterator[NDArray[np.uint8]]:
        for batch in loader:
            yield batch.numpy()

    yield epoch
    workers, loader._iterator = loader._iterator, None
    if workers is not None:
        workers._shutdown_workers()


def options(threads: int, ahead: int) -> dict[str, Any]:
    """Of a DataLoader that has about `ahead` batches loaded."""
    return {
        "num_workers": threads,
        "persistent_workers": True,
        "prefetch_factor": max(2, -(-ahead // threads)),
        "multiprocessing_context": "fork",
    }
