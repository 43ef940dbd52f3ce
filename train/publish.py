"""A trained network as a model in the lake: its graph without weights, and the weights the checkpoint has already stored."""

from __future__ import annotations

import io
from typing import Any

import torch

from dataplane import Lake
from dataplane.checkpoint import Checkpoints, Model
from dataplane.checkpoint import publish as commit
from loaders.transforms import ImageTransforms, from_dict
from train.config import TrainConfig, parse_config
from train.data import open_data
from train.models import build_model

__all__ = ["export_network", "publish"]


def publish(lake: Lake, run: str, model: str, *, number: int | None) -> Model:
    """Make a checkpoint of `run`, by default the newest good one, the next version of `model`. No tensor is copied."""
    checkpoints = Checkpoints(lake, run)
    checkpoint = checkpoints.restore(number).checkpoint
    progress = checkpoint.progress
    config = parse_config(progress.config, where=str(checkpoint))
    classes = open_data(lake, config, at=progress.dataset).classes
    evaluations = {done.split: dict(done.metrics) for done in checkpoints.evaluations() if done.checkpoint == checkpoint.number}
    return commit(
        lake,
        model,
        network=lake.objects.put(export_network(config, len(classes)), suffix=".pt2"),
        weights=checkpoint.ranks[0]["model"],
        transform=config.data.validate_transform,
        classes=classes,
        run=run,
        checkpoint=checkpoint.number,
        dataset=progress.dataset,
        config=config.to_json(),
        metrics={**progress.metrics, "evaluations": evaluations},
    )


def export_network(config: TrainConfig, classes: int) -> bytes:
    """The graph of the configured network in evaluation mode, float32 [B, 3, H, W] → logits [B, classes], as torch.export writes it.

    It is built on the meta device, so it has names and shapes of the weights and not their bytes; it holds no pickle.
    """
    transforms: Any = [from_dict(op) for op in config.data.validate_transform]
    height, width = ImageTransforms(tuple(transforms)).size
    with torch.device("meta"):
        network = build_model(config.model, classes).eval()
        pictures = torch.zeros(2, 3, height, width)
    program = torch.export.export(network, (pictures,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    program.example_inputs = None  # they would be pickled
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()
