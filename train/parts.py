"""The parts of a checkpoint as safetensors: the model's tensors, the optimizer's, and the state of torch's random numbers. No pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from dataplane.errors import StateMismatch

__all__ = ["load_model", "load_optimizer", "load_random", "model_part", "optimizer_part", "random_part"]


def model_part(model: Any) -> bytes:
    """Parameters and buffers, by name."""
    return save({name: tensor.contiguous() for name, tensor in model.state_dict().items()})


def load_model(model: Any, part: memoryview) -> None:
    """The inverse of `model_part`. Raises `StateMismatch` where the tensors are those of another model."""
    try:
        model.load_state_dict(_tensors(part))
    except RuntimeError as error:
        raise StateMismatch(f"the checkpoint's tensors do not fit the configured model: {error}") from error


def optimizer_part(optimizer: Any) -> bytes:
    """What the optimizer keeps of each parameter, as "NUMBER/NAME". Rates and the like come from the configuration."""
    tensors: dict[str, Any] = {}
    for number, kept in optimizer.state_dict()["state"].items():
        tensors |= {f"{number}/{name}": value.contiguous() for name, value in kept.items() if value is not None}
    return save(tensors)


def load_optimizer(optimizer: Any, part: memoryview) -> None:
    """The inverse of `optimizer_part`. Raises `StateMismatch`."""
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in _tensors(part).items():
        number, name = key.split("/", 1)
        state.setdefault(int(number), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    known = {number for group in groups for number in group["params"]}
    if not state.keys() <= known:
        raise StateMismatch(f"the checkpoint's optimizer has {len(state)} tensors, the configured model {len(known)}")
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def random_part(device: Any) -> bytes:
    """The state of torch's random numbers on the CPU and on this rank's device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return save(states)


def load_random(part: memoryview, device: Any) -> None:
    """The inverse of `random_part`. A state of a device that is not used here is left out."""
    states = _tensors(part)
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def _tensors(part: memoryview) -> Mapping[str, Any]:
    try:
        tensors: Mapping[str, Any] = load(bytes(part))
    except SafetensorError as error:
        raise StateMismatch(f"a part of the checkpoint is not safetensors: {error}") from error
    return tensors
