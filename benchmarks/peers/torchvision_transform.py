"""torchvision's transforms as the torch and webdataset contenders use them: the fastest set-up of it that gives the task's output.

Measured against the usual list (transforms on PIL images, then ToDtype and Normalize for each image): transforms on uint8 tensors, whose
antialiased resize is torch's vectorised one, and normalising a whole batch in the worker take a fifth less processor time.

torchvision's published wheels are linked to CUDA: beside torch's CPU build their operators (boxes, detection) do not load, and the package
stops importing at the two it expects by name. Nothing here uses them, so they are declared and left without a body. That happens when this
module is imported: worker processes import it before they unpickle anything of torchvision's.
"""

import importlib
import io
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from benchmarks.tasks.jpeg import AREA, ASPECT, MEAN, SIZE, STD, Box, Images

_declared: list[Any] = []


def _import_v2() -> Any:
    try:
        return importlib.import_module("torchvision.transforms.v2")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        return importlib.import_module("torchvision.transforms.v2")


v2 = _import_v2()
ImageFolder: Any = importlib.import_module("torchvision.datasets").ImageFolder

__all__ = ["ImageFolder", "collate", "cut", "decode", "random_crop", "transform"]

_OFFSET = 255 * torch.tensor(MEAN).view(1, 3, 1, 1)
_FACTOR = 1 / (255 * torch.tensor(STD).view(1, 3, 1, 1))

to_tensor = v2.PILToTensor()
random_crop = v2.RandomResizedCrop(SIZE, scale=AREA, ratio=ASPECT, antialias=True)
transform = v2.Compose([to_tensor, random_crop, v2.RandomHorizontalFlip()])


def decode(file: BinaryIO) -> Image.Image:
    """As ImageFolder's own loader does."""
    return Image.open(file).convert("RGB")


def from_bytes(data: bytes) -> torch.Tensor:
    """One sample of a tar through the transform."""
    tensor: torch.Tensor = transform(decode(io.BytesIO(data)))
    return tensor


def collate(samples: Sequence[tuple[torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack uint8 images and normalise them together."""
    images = torch.stack([image for image, _ in samples])
    labels = torch.tensor([label for _, label in samples])
    return normalise(images), labels


def normalise(images_BCHW: torch.Tensor) -> torch.Tensor:
    return images_BCHW.to(torch.float32).sub_(_OFFSET).mul_(_FACTOR)


def cut(file: BinaryIO) -> tuple[Box, Images]:
    """One random crop by the transform that is measured, and the box that it drew."""
    image = to_tensor(decode(file))
    drawn = random_crop.make_params([image])
    box = Box(left=drawn["left"], top=drawn["top"], width=drawn["width"], height=drawn["height"], mirrored=False)
    cropped = random_crop.transform(image, drawn)
    return box, np.asarray(normalise(cropped[None])[0])
