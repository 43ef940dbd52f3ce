"""Three runs that wait for three different things, and what the loader's live view says of each: the pictures of docs/waiting.md.

    python examples/waiting.py docs/images

writes waiting-cold.svg, waiting-decode.svg and waiting-model.svg there. Nothing in them is made up: the runs happen, for some seconds
each, on a lake in a temporary folder. Far storage is a store that answers each request after 50 ms, the model is a pause of 100 ms for each
batch.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from dataplane import Lake, Split, WriteOptions, write
from dataplane.testing import LatencyStore
from loaders import HorizontalFlip, Loader, Normalize, RandomResizedCrop

SECONDS = 15.0
WIDTH = 84
TRANSFORM = {"jpg": [RandomResizedCrop(64), HorizontalFlip(), Normalize.imagenet()]}


def pictures(count: int, height: int, width: int) -> Iterator[dict[str, Any]]:
    """Samples of a smooth picture with some noise."""
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 32, width // 32, 3), np.uint8)).resize((width, height))
        out = io.BytesIO()
        coarse.effect_spread(2).save(out, "JPEG", quality=90)
        yield {"__key__": f"{number:05d}", "jpg": out.getvalue()}


def far(split: Split) -> Split:
    """The same samples, in a store that is far away."""
    dataset = split.dataset
    return dataset.through(LatencyStore(dataset.store, request_seconds=0.05))[split.name]


def run(split: Split, *, step_seconds: float, seconds: float = SECONDS) -> Loader:
    """Load `split`, epoch after epoch, with a model that takes `step_seconds` for a step. The loader, for what it says of it."""
    until = time.monotonic() + seconds
    with Loader(split, batch_size=32, transform=TRANSFORM) as loader, loader.watch():
        while time.monotonic() < until:
            for _batch in loader:
                time.sleep(step_seconds)
                if time.monotonic() >= until:
                    break
    return loader


def picture(loader: Loader, file: Path) -> None:
    """The loader's view as it is now, as an SVG that fetches no fonts."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(loader.view())
    svg = console.export_svg(title="loader.watch()", unique_id=file.stem)
    file.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))


def main(folder: Path) -> None:
    """Run all three."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        lake = Lake.init(str(Path(scratch, "lake")))
        small = write(lake, "thumbnails", pictures(1024, 96, 96), options=WriteOptions(shard_bytes=64 << 10))["train"]
        large = write(lake, "photos", pictures(128, 768, 1024))["train"]
        run(small, step_seconds=0.0, seconds=0.001)  # the first time, the transforms are compiled
        runs = {"cold": (far(small), 0.0), "decode": (large, 0.0), "model": (small, 0.1)}
        for name, (split, step_seconds) in runs.items():
            loader = run(split, step_seconds=step_seconds)
            picture(loader, folder / f"waiting-{name}.svg")
            sys.stdout.write(f"\n{name}: {loader.stats()['advice']}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
