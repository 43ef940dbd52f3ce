"""Photographs of ImageNet's size distribution, made from the two sample photographs that scikit-learn ships.

Each is a random crop of one of the two, resized to a typical published size, with film grain (a crop that was merely enlarged would
compress far below a real photograph) and one of the qualities and chroma samplings that ImageNet's files have. Deterministic: the same
seed and library versions give the same bytes.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image

# Longest sides and aspect ratios as in the published files: most are 500 x 375 or 500 x 333, the rest spread widely.
USUAL_SIZES = ((500, 375), (500, 333), (375, 500), (500, 334), (333, 500), (500, 400))
USUAL_SHARE = (0.46, 0.2, 0.16, 0.07, 0.06, 0.05)
ODD_SIZE_SHARE = 0.28
QUALITIES = (96, 90, 80)
QUALITY_SHARE = (0.62, 0.23, 0.15)
FULL_CHROMA_SHARE = 0.74
GREY_SHARE = 0.03


def write_photographs(folder: Path, *, count: int, seed: int) -> list[Path]:
    """Write `count` JPEG files into `folder` and return their paths in the order of their names."""
    from sklearn.datasets import load_sample_images

    originals = [Image.fromarray(image) for image in load_sample_images().images]
    paths = [folder / f"photo_{i:05d}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        path.write_bytes(_photograph(originals, np.random.default_rng((seed, i))))
    return paths


def _photograph(originals: list[Image.Image], rng: np.random.Generator) -> bytes:
    width, height = _size(rng)
    original = originals[rng.integers(len(originals))]
    scale = min(original.width / width, original.height / height) * rng.uniform(0.6, 1.0)
    crop_width, crop_height = max(round(width * scale), 1), max(round(height * scale), 1)
    left = int(rng.integers(original.width - crop_width + 1))
    top = int(rng.integers(original.height - crop_height + 1))
    box = (left, top, left + crop_width, top + crop_height)
    pixels = np.asarray(original.resize((width, height), Image.Resampling.BICUBIC, box=box), np.float32)
    pixels += rng.normal(0, rng.uniform(0.5, 6.0), pixels.shape).astype(np.float32)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if rng.random() < GREY_SHARE:
        image = image.convert("L")
    out = io.BytesIO()
    quality = int(rng.choice(QUALITIES, p=QUALITY_SHARE))
    subsampling = "4:4:4" if rng.random() < FULL_CHROMA_SHARE else "4:2:0"
    image.save(out, "JPEG", quality=quality, subsampling=subsampling)
    return out.getvalue()


def _size(rng: np.random.Generator) -> tuple[int, int]:
    if rng.random() >= ODD_SIZE_SHARE:
        return USUAL_SIZES[rng.choice(len(USUAL_SIZES), p=USUAL_SHARE)]
    longest = int(np.clip(rng.lognormal(np.log(400), 0.5), 75, 1600))
    other = max(round(longest * rng.uniform(0.6, 1.0)), 56)
    return (longest, other) if rng.random() < 0.75 else (other, longest)
