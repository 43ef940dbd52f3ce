"""Real data without a download: scikit-learn's handwritten digits, written as picture files into a folder for each class."""

from __future__ import annotations

from pathlib import Path

from dataplane.errors import MissingExtra

__all__ = ["write_digits"]


def write_digits(folder: Path) -> int:
    """Write the 1,797 digits (8 × 8 grey pixels each, by 43 writers) as `folder/LABEL/NUMBER.png`; the number of files.

    The pixels are the data set's own, its 17 grey levels spread over 0 … 255. Raises `MissingExtra` without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtra("the demo's pictures come with scikit-learn; install it with: pip install 'dataplane[demo]'") from error
    import numpy as np
    from PIL import Image

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    for label in np.unique(digits.target):
        (folder / str(label)).mkdir(parents=True)
    for number, (picture, label) in enumerate(zip(pixels, digits.target, strict=True)):
        Image.fromarray(picture).save(folder / str(label) / f"{number:04d}.png")
    return len(pixels)
