"""Loss and accuracy of a model on a split."""

from __future__ import annotations

from dataclasses import dataclass
from signal import Signals
from typing import Any

import torch
from torch.nn import functional as F

from dataplane import Lake
from dataplane.checkpoint import Checkpoints, Evaluation
from loaders import Loader
from train.config import TrainConfig, parse_config
from train.data import Data, open_data
from train.models import build_model
from train.parts import load_model
from train.ranks import Ranks
from train.signals import Stop

__all__ = ["Score", "autocast", "evaluate", "score"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Score:
    """Mean cross-entropy and the share of right answers, over all samples of all ranks."""

    samples: int
    loss: float
    accuracy: float


def autocast(config: TrainConfig, ranks: Ranks) -> Any:
    """The context in which the network computes: in the configured precision."""
    return torch.autocast(ranks.device.type, dtype=_DTYPES[config.precision], enabled=config.precision != "fp32")


def score(model: Any, loader: Loader, *, data: Data, config: TrainConfig, ranks: Ranks, stop: Stop) -> Score | Signals:
    """Score the model on the loader's whole split, or say which signal came first. The model is left in evaluation mode."""
    loss, right, samples = 0.0, 0.0, 0.0
    model.eval()
    ranks.same_buffers(model)
    loader.restart()
    for batch in loader:
        stopped = stop.agreed(*ranks.sum(stop.flags()))
        if stopped:
            return stopped
        images, labels = data.pairs(batch)
        if not len(labels):
            continue
        with torch.inference_mode(), autocast(config, ranks):
            labels = labels.to(ranks.device)
            logits = model(images.to(ranks.device))
            loss += float(F.cross_entropy(logits.float(), labels, reduction="sum"))
            right += float((logits.argmax(1) == labels).sum())
            samples += len(labels)
    loss, right, samples = ranks.sum([loss, right, samples])
    return Score(int(samples), loss / max(1.0, samples), right / max(1.0, samples))


def evaluate(lake: Lake, run: str, *, split: str, number: int | None, ranks: Ranks, stop: Stop) -> Evaluation | Signals:
    """Score a checkpoint of a run, by default the newest good one, and write the result into the run's log. One process."""
    checkpoints = Checkpoints(lake, run)
    restored = checkpoints.restore(number)
    progress = restored.checkpoint.progress
    config = parse_config(progress.config, where=str(restored.checkpoint))
    data = open_data(lake, config, at=progress.dataset)
    model = build_model(config.model, len(data.classes)).to(ranks.device)
    load_model(model, restored.ranks[0]["model"])
    with data.scoring(split, config, ranks) as loader:
        scored = score(model, loader, data=data, config=config, ranks=ranks, stop=stop)
    if isinstance(scored, Signals):
        return scored
    metrics = {"accuracy": scored.accuracy, "loss": scored.loss}
    return checkpoints.evaluated(restored.checkpoint.number, progress.dataset, split, scored.samples, metrics)
