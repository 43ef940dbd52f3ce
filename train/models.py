"""Two networks that classify pictures: float32 [B, 3, H, W] → logits [B, classes]."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from train.config import CnnConfig, ResNetConfig

__all__ = ["build_model"]

_CHANNELS_A_GROUP = 8


def build_model(config: CnnConfig | ResNetConfig, classes: int) -> Any:
    """A freshly initialised network, from torch's random state. Its weights depend on nothing else."""
    return SmallCnn(config, classes) if isinstance(config, CnnConfig) else ResNet(config, classes)


class SmallCnn(nn.Module):  # type: ignore[misc]
    """Four convolutions in two resolutions, and one linear layer over a 2 × 2 map."""

    def __init__(self, config: CnnConfig, classes: int) -> None:
        super().__init__()
        width = config.width
        self.features = nn.Sequential(
            *_conv_norm_relu(3, width),
            *_conv_norm_relu(width, width),
            nn.MaxPool2d(2),
            *_conv_norm_relu(width, 2 * width),
            *_conv_norm_relu(2 * width, 2 * width),
            nn.AdaptiveAvgPool2d(2),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(8 * width, classes))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x_BCHW))


class ResNet(nn.Module):  # type: ignore[misc]
    """A stem, stages of basic blocks with doubling width and halving resolution, and one linear layer.

    K. He et al., Deep residual learning for image recognition, CVPR 2016; with group norm by default (Y. Wu and K. He, ECCV 2018), which
    depends neither on the other samples of a batch nor on the number of ranks.
    """

    def __init__(self, config: ResNetConfig, classes: int) -> None:
        super().__init__()
        self.stem = _stem(config)
        channels, blocks = config.width, []
        for stage, count in enumerate(config.blocks):
            width = config.width * 2**stage
            for block in range(count):
                blocks.append(BasicBlock(channels, width, stride=2 if stage and not block else 1, norm=config.norm))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(channels, classes))

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x_BCHW)))


class BasicBlock(nn.Module):  # type: ignore[misc]
    """Two 3 × 3 convolutions beside a shortcut. A fresh block passes its input through: the last scale starts at 0."""

    def __init__(self, channels: int, width: int, *, stride: int, norm: str) -> None:
        super().__init__()
        last = _norm(norm, width)
        nn.init.zeros_(last.weight)
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            _norm(norm, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            last,
        )
        shortcut = [nn.Conv2d(channels, width, 1, stride=stride, bias=False), _norm(norm, width)]
        self.shortcut = nn.Sequential(*shortcut if (stride, channels) != (1, width) else ())

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(self.residual(x_BCHW) + self.shortcut(x_BCHW))


def _stem(config: ResNetConfig) -> nn.Module:
    if config.stem == "small":
        return nn.Sequential(nn.Conv2d(3, config.width, 3, padding=1, bias=False), _norm(config.norm, config.width), nn.ReLU())
    convolution = nn.Conv2d(3, config.width, 7, stride=2, padding=3, bias=False)
    return nn.Sequential(convolution, _norm(config.norm, config.width), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))


def _conv_norm_relu(channels: int, width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, width, 3, padding=1, bias=False), _norm("group", width), nn.ReLU()


def _norm(kind: str, width: int) -> nn.Module:
    return nn.BatchNorm2d(width) if kind == "batch" else nn.GroupNorm(width // _CHANNELS_A_GROUP, width)
