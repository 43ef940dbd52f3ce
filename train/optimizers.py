"""Optimizers, and the learning rate as a pure function of how far the run has come."""

from __future__ import annotations

import math
from typing import Any

import torch

from train.config import OptimizerConfig

__all__ = ["build_optimizer", "learning_rate"]


def build_optimizer(config: OptimizerConfig, model: Any) -> Any:
    """The optimizer of a model's parameters. Weight decay spares biases and scales (tensors of one dimension)."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)


def learning_rate(config: OptimizerConfig, done: float) -> float:
    """The rate after the share `done` (0 to 1) of all samples of a run. Pure: a resumed run needs no scheduler's state, and the number
    of ranks or the batch size does not matter."""
    if done < config.warmup:
        return config.lr * done / config.warmup
    if config.schedule == "constant":
        return config.lr
    return config.lr * 0.5 * (1 + math.cos(math.pi * (done - config.warmup) / (1 - config.warmup)))
