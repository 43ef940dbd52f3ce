"""A published model, loaded: the bytes of a picture in, probabilities out."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load

from dataplane.checkpoint import Model, open_model
from dataplane.errors import CorruptObject
from dataplane.lake import Lake
from loaders.decode import Workspace
from loaders.image import ImagePipeline
from loaders.transforms import from_dict

__all__ = ["Prediction", "Predictor", "load_network"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The most probable class, and the probabilities of all, in the order of the model's classes."""

    name: str
    probability: float
    probabilities: Mapping[str, float]


class Predictor:
    """Answers with one version of a model, on the CPU. Thread-safe; equal bytes get equal answers."""

    def __init__(self, lake: Lake, spec: str) -> None:
        self.model: Model = open_model(lake, spec)
        graph, weights = (lake.objects.get(ref) for ref in (self.model.network, self.model.weights))
        self._network = load_network(bytes(graph), load(bytes(weights)), name=str(self.model))
        transforms: Any = [from_dict(op) for op in self.model.transform]
        self._pipeline = ImagePipeline(transforms)
        self._local = threading.local()
        self.predict(_black_picture(*self._pipeline.transforms.size))  # so what compiles or fails does so before the first request

    def predict(self, data: bytes) -> Prediction:
        """Decode a picture, do what was done to the pictures of evaluation, and classify it. Raises `BadSample`."""
        pixels_BCHW = np.empty((1, *self._pipeline.shape), self._pipeline.dtype)
        workspace = self._workspace()
        self._pipeline.run(
            data, width=0, height=0, orientation=None, seed=0, component=0, epoch=0, position=0, out=pixels_BCHW[0], workspace=workspace
        )
        probabilities = dict(zip(self.model.classes, self._probabilities(pixels_BCHW), strict=True))
        best = max(probabilities, key=probabilities.__getitem__)
        return Prediction(best, probabilities[best], probabilities)

    def _probabilities(self, pixels_BCHW: Any) -> list[float]:
        with torch.inference_mode():
            logits = self._network(torch.from_numpy(pixels_BCHW))
            return [float(p) for p in torch.softmax(logits[0].double(), 0)]

    def _workspace(self) -> Workspace:
        workspace: Workspace | None = getattr(self._local, "workspace", None)
        if workspace is None:
            workspace = self._local.workspace = Workspace()
        return workspace


def _black_picture(height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def load_network(graph: bytes, weights: Mapping[str, Any], *, name: str) -> Any:
    """The callable network of a graph without weights (a .pt2 archive) and its tensors. Raises `CorruptObject` where they do not belong
    together, or where the archive holds anything pickled: loading that could run code."""
    _refuse_pickle(graph, name)
    try:
        network = torch.export.load(io.BytesIO(graph)).module()
        network.load_state_dict(weights, assign=True)
    except Exception as error:  # the reader of archives raises whatever it runs into
        raise CorruptObject(f"the network of {name} cannot be loaded: {error}; publish it again with this release") from error
    return network


def _refuse_pickle(graph: bytes, name: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(graph)) as archive:
            configs = [json.loads(archive.read(entry)) for entry in archive.namelist() if entry.endswith("_config.json")]
            inputs = [entry.file_size for entry in archive.infolist() if "/sample_inputs/" in entry.filename]
            pickled = any(inputs) or any(payload["use_pickle"] for config in configs for payload in config["config"].values())
    except (zipfile.BadZipFile, ValueError, KeyError, AttributeError) as error:
        raise CorruptObject(f"the network of {name} is no program of torch.export: {error!r}; publish it again") from error
    if pickled:
        raise CorruptObject(f"the network of {name} holds pickled values, which are not loaded; publish it with dataplane publish")
