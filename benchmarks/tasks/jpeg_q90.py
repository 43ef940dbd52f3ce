"""The photographs encoded anew at quality 90 and their own size → RandomResizedCrop(224) → HorizontalFlip → uint8 HWC, in batches of 64.

All contenders read the same new files. FFCV has no resize but OpenCV's "area", so it is held against that; all others use the
plain bilinear one. The encoder is OpenCV's, as in FFCV's own writer, so FFCV's data set has the same bytes.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.datasets import make_inputs, staged
from benchmarks.environments import FFCV
from benchmarks.tasks import CannotPrepare, Contender, Prepared, Request, Target, Task
from benchmarks.tasks.jpeg import DALI, DATAPLANE, DECODE, LEVELS, prepare

QUALITY = 90


def prepare_encoded(request: Request) -> Prepared:
    """As the JPEG task, from photographs that are encoded once, in the cache."""
    inputs = make_inputs(request.data, cache=request.cache, samples=request.samples, threads=request.threads)
    folder = inputs.folder / f"q{QUALITY}"
    if not folder.exists():
        with staged(folder) as staging, ThreadPoolExecutor(request.threads) as pool:
            list(pool.map(lambda path: (staging / path.name).write_bytes(encode(path)), inputs.sources))
    prepared = prepare(replace(request, data=folder), LEVELS)
    return replace(prepared, data={**prepared.data, "origin": f"{inputs.origin}, encoded at quality {QUALITY}"})


def encode(path: Path) -> bytes:
    """The photograph at quality 90 with 4:2:0 chroma, as OpenCV and so FFCV's writer encode it."""
    try:
        import cv2
    except ImportError as error:
        raise CannotPrepare("this task encodes photographs with OpenCV: pip install opencv-python-headless") from error
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    encoded: bytes = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    return encoded


TASK = Task(
    name="jpeg-q90",
    summary="JPEG of quality 90 → RandomResizedCrop(224), no antialiasing → HorizontalFlip → uint8 HWC, batches of 64",
    contenders=(
        DATAPLANE,
        DALI,
        Contender("ffcv", "benchmarks.peers.ffcv", "FFCV on its own format, area resize", "images/s", "peer", FFCV),
        DECODE,
    ),
    prepare=prepare_encoded,
    targets=(Target(("dali",), 2.2), Target(("ffcv",), 2.2)),
)
