"""Pictures for tests, as pixels and as the bytes of files."""

import io

import numpy as np
import simplejpeg
from PIL import Image

SAMPLINGS = ["444", "422", "420", "440", "411", "Gray"]
"""What simplejpeg writes."""


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth picture with edges and some noise, so that wrong rows and wrong chroma show."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(height // 6, 2), max(width // 6, 2), 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + rng.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    """A file of Pillow's."""
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def jpeg(image: np.ndarray, sampling: str, quality: int = 90) -> bytes:
    """A file of simplejpeg's."""
    if sampling == "Gray":
        return simplejpeg.encode_jpeg(np.ascontiguousarray(image[:, :, :1]), quality, "GRAY", "Gray")
    return simplejpeg.encode_jpeg(image, quality, "RGB", sampling)


def as_pillow(data: bytes) -> np.ndarray:
    """Pixels of a file, as Pillow reads them."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
