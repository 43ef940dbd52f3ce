"""Batches for PyTorch: tensors where they are wanted, from a dataset that torch's and torchdata's own loaders take.

```python
batches = TorchLoader(Loader(train, batch_size=256, transform=…), device="cuda", channels_last=True)
for batch in batches:
    loss = criterion(model(batch["jpg"]), batch["cls"])
```
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from dataplane.errors import InvalidArgument, MissingExtra
from loaders.batch import Batch
from loaders.loader import Loader
from loaders.ragged import Ragged

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError as missing:
    raise MissingExtra("loaders.torch needs PyTorch; install it with: pip install 'dataplane[torch]'") from missing

__all__ = ["TensorBatch", "TorchLoader"]

_ALONE: Final = (
    "a TorchLoader reads, decodes and prefetches on threads of its own process: worker processes would each load all of it again, and its "
    "state could not be saved. Use torch's DataLoader(dataset, batch_size=None, num_workers=0), or iterate over the TorchLoader itself; "
    "Loader(threads=…) is what makes it faster, and Map(fn, processes=…) is for code that holds the interpreter"
)
_CHANNELS: Final = (1, 3)
_BESIDE: Final = ("valid", "positions", "components", "component_epochs")  # what a batch has as arrays beside its fields


class TensorBatch(dict[str, Any]):
    """The fields of B samples as tensors (of `Bytes()`, as a `Ragged` of tensors), by the names that the transform has: a dict like any
    other, with what a `Batch` has besides.

    `valid` bool [B], `positions` int64 [B], `components` int16 [B], `component_epochs` int64 [B]: tensors on the device of the fields.
    `epoch`, `sample_keys`.
    """

    valid: torch.Tensor
    positions: torch.Tensor
    components: torch.Tensor
    component_epochs: torch.Tensor
    epoch: int
    sample_keys: tuple[str, ...]


class TorchLoader(IterableDataset):  # type: ignore[misc]
    """An `IterableDataset` of the batches of `loader`, epoch by epoch, each a dict of tensors. Iterate over it, or hand it to torch's
    `DataLoader` or torchdata's `StatefulDataLoader` with `batch_size=None`.

    Arguments:
        loader: what to load. It is this one's from now on: nobody else iterates over it.
        device: where the tensors are to be; by default they stay in the memory of the CPU. Copies to a CUDA device go on a stream of their
            own beside what the model does, and the next batch's is begun before this one is used, where that batch is ready.
        pin_memory: whether batches are decoded into pinned memory, which such copies need; by default where `device` is a CUDA one. With it
            and no device, batches come in pinned memory, for copies of your own with `non_blocking=True`.
        channels_last: images, fields with four axes, come as [B, channels, height, width] that lie in memory as torch.channels_last. Where
            the loader's transform ends in `ToLayout("HWC")` that costs nothing: the last axis is taken for the channels where it is 1 or 3
            and the second is not.

    `state_dict` and `load_state_dict` are the loader's: what was delivered, not what was prefetched or copied ahead. Not thread-safe: one
    consumer. Raises `InvalidArgument` in a worker process of a DataLoader: `num_workers` must be 0.
    """

    def __init__(
        self,
        loader: Loader,
        *,
        device: torch.device | str | int | None = None,
        pin_memory: bool | None = None,
        channels_last: bool = False,
    ) -> None:
        self.loader = loader
        self.device = _device(device)
        self.pin_memory = self.device.type == "cuda" if pin_memory is None else pin_memory
        self.channels_last = channels_last
        if self.pin_memory:
            if not torch.cuda.is_available():
                raise InvalidArgument("pin_memory=True needs a CUDA device, and there is none here; leave it out")
            loader.allocate_with(_pinned, again=self.device.type == "cuda")
        self._state: dict[str, Any] | None = None  # what was delivered, where the loader may be ahead of it
        self._turn = 0  # which iterator is the current one

    def __len__(self) -> int:
        """Batches in a whole epoch, the same for every rank."""
        return len(self.loader)

    def __repr__(self) -> str:
        return f"TorchLoader({self.loader!r}, device={str(self.device)!r})"

    def __iter__(self) -> Iterator[TensorBatch]:
        """The rest of the current epoch, as of the loader."""
        if get_worker_info() is not None:
            raise InvalidArgument(f"num_workers must be 0: {_ALONE}")
        if self._state is not None and self._state != self.loader.state_dict():  # the iterator before was ahead, or was interrupted
            self.loader.load_state_dict(self._state)
        self._turn += 1
        self._state = self.loader.state_dict()
        return self._iterate(self._turn)

    def state_dict(self) -> dict[str, Any]:
        """What was delivered: see `Loader.state_dict`."""
        return self.loader.state_dict() if self._state is None else self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue behind what `state` says was delivered: see `Loader.load_state_dict`."""
        self.loader.load_state_dict(state)
        self._state = None
        self._turn += 1

    def restart(self, *, epoch: int = 0) -> None:
        """Begin `epoch` from its first sample."""
        self.loader.restart(epoch=epoch)
        self._state = None
        self._turn += 1

    def close(self) -> None:
        """Close the loader: end its threads and processes, and let go of its hot tier."""
        self._turn += 1
        self.loader.close()

    def __enter__(self) -> TorchLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise InvalidArgument(f"a TorchLoader stays in the process it was made in, and num_workers must be 0: {_ALONE}")

    def _iterate(self, turn: int) -> Iterator[TensorBatch]:
        if turn != self._turn:
            return
        batches = iter(self.loader)
        mover = _SideStream(self.device) if self.device.type == "cuda" else _Here(self.device)
        ahead: _Moved | None = None
        try:
            while turn == self._turn:
                moved = ahead or self._begin(batches, mover)
                if moved is None:
                    return
                ahead = self._begin(batches, mover) if mover.ahead and self.loader.ready() else None
                began = time.perf_counter()
                batch = mover.end(moved)
                self.loader.copied(time.perf_counter() - began)
                self._state = moved.state  # the last thing: an interrupt before it loses nothing
                del moved
                yield batch
                del batch
        finally:
            mover.close()
            if turn == self._turn and self._state == self.loader.state_dict():
                self._state = None

    def _begin(self, batches: Iterator[Batch], mover: _Here | _SideStream) -> _Moved | None:
        """Take the next batch and begin to copy it, if there is one."""
        batch = next(batches, None)
        if batch is None:
            return None
        state = self.loader.state_dict()
        began = time.perf_counter()
        moved = mover.begin(_tensors(batch), state, channels_last=self.channels_last)
        self.loader.copied(time.perf_counter() - began)
        return moved


class _Moved(NamedTuple):
    """A batch that is being copied: where it will be, what will tell that it is there, and what was delivered once it is."""

    batch: TensorBatch
    event: Any
    state: dict[str, Any]


class _Here:
    """Moves batches while the consumer waits: nowhere, or to a device without streams."""

    ahead = False

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def begin(self, batch: TensorBatch, state: dict[str, Any], *, channels_last: bool) -> _Moved:
        return _Moved(_moved(batch, self._device, channels_last=channels_last, waits=True), None, state)

    def end(self, moved: _Moved) -> TensorBatch:
        return moved.batch

    def close(self) -> None:
        """Nothing is under way."""


class _SideStream:
    """Moves batches on a CUDA stream of its own, beside what the model does. Memory of the CPU is held until it has been copied."""

    ahead = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._flying: deque[tuple[Any, TensorBatch]] = deque()

    def begin(self, batch: TensorBatch, state: dict[str, Any], *, channels_last: bool) -> _Moved:
        with torch.cuda.stream(self._stream):
            there = _moved(batch, self._device, channels_last=channels_last, waits=False)
            event = torch.cuda.Event()
            event.record(self._stream)
        self._flying.append((event, batch))
        while self._flying and self._flying[0][0].query():
            self._flying.popleft()
        return _Moved(there, event, state)

    def end(self, moved: _Moved) -> TensorBatch:
        """The batch, for work that is put on the current stream from here on."""
        current = torch.cuda.current_stream(self._device)
        current.wait_event(moved.event)
        for tensor in _all(moved.batch):
            tensor.record_stream(current)  # its memory is of the other stream, which may not have it back before this one is done
        return moved.batch

    def close(self) -> None:
        """Wait for what is under way."""
        while self._flying:
            self._flying.popleft()[0].synchronize()


def _tensors(batch: Batch) -> TensorBatch:
    """The same memory as tensors."""
    made = TensorBatch({name: _each(value, _tensor) for name, value in batch.items()})
    for name in _BESIDE:
        setattr(made, name, torch.from_numpy(getattr(batch, name)))
    made.epoch, made.sample_keys = batch.epoch, batch.sample_keys
    return made


def _tensor(value: Any) -> Any:
    try:
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"there are no tensors of {value.dtype}; give the field's Map another dtype") from error


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    return value.map(change) if isinstance(value, Ragged) else change(value)


def _moved(batch: TensorBatch, device: torch.device, *, channels_last: bool, waits: bool) -> TensorBatch:
    """The batch on `device`, copied by the current stream if need be. Whether it `waits` for that: its memory is used again once nobody
    holds it, and other devices than CUDA's do not say when they have read it."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        return _laid(tensor.to(device, non_blocking=not waits), channels_last)

    made = TensorBatch({name: _each(value, change) for name, value in batch.items()})
    for name in _BESIDE:
        setattr(made, name, getattr(batch, name).to(device, non_blocking=not waits))
    made.epoch, made.sample_keys = batch.epoch, batch.sample_keys
    return made


def _laid(tensor: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Images as [B, channels, height, width], channels last in memory."""
    if not channels_last or tensor.ndim != 4:
        return tensor
    if tensor.shape[3] in _CHANNELS and tensor.shape[1] not in _CHANNELS:  # it comes from ToLayout("HWC")
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor.contiguous(memory_format=torch.channels_last)


def _all(batch: TensorBatch) -> Iterator[torch.Tensor]:
    for value in batch.values():
        yield from (value.data, value.offsets) if isinstance(value, Ragged) else (value,)
    yield from (getattr(batch, name) for name in _BESIDE)


def _pinned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Pinned memory as an array, of torch's allocator."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy().view(dtype).reshape(shape)  # type: ignore[no-any-return]


def _device(device: torch.device | str | int | None) -> torch.device:
    """The device with its number."""
    try:
        found = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError) as error:
        raise InvalidArgument(f"device is {device!r}, which torch does not know: {error}") from error
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise InvalidArgument(
                f"device is {device!r}, and torch finds no CUDA device here; leave it out to stay in the memory of the CPU"
            )
        found = torch.device("cuda", torch.cuda.current_device() if found.index is None else found.index)
        if found.index >= torch.cuda.device_count():
            raise InvalidArgument(f"device is {device!r}, and there are {torch.cuda.device_count()} here, from cuda:0 on")
    return found
