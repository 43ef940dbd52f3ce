"""Makes `lake-v1-formats`, with what format 1 of a lake can hold beside tars, and `lake-v1-formats.json`, what is in it.

Run once, by the release that introduced these (0.1.0): python tests/data/make_lake_v1_formats.py. Do not run it again: old bytes stay.
"""

import hashlib
import json
import shutil
import sys
from datetime import date
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from dataplane import Lake, WriteOptions, write  # noqa: E402
from dataplane.upkeep import expire  # noqa: E402
from dataplane.versions import append, clone, split, tag, where  # noqa: E402


def sample(number):
    return {
        "__key__": f"s/{number}",
        "__label__": ("even", "odd")[number % 2],
        "bin": bytes([number]) * 3,
        "text": "é" * number,
        "count": number,
        "when": date(2026, 1, 1 + number),
        "vector": np.arange(3, dtype=np.float32) + number,
        "tokens": list(range(number)),
        "nested": {"a": number, "b": [str(number)]},
        "image": np.full((2, 3), number, np.uint8),
        "volume": np.full((2, 2, 2), number / 2, np.float64),
    }


def build(folder):
    lake = Lake.init(str(folder))
    options = WriteOptions(split="train=0.7,test=0.3", shard_bytes=700)
    write(lake, "mixed", (sample(number) for number in range(8)), options=options)
    write(lake, "mixed", (sample(number) for number in (3, 8, 9)), options=options)
    write(lake, "mixed", [{**sample(5), "count": 50}], options=options)
    tag(lake, "mixed@2", "good")
    clone(lake, "mixed@2", "copy")
    where(lake, "mixed", "\"count\" < 6 and label = 'even'", to="few")
    split(lake, "copy", "one=0.5,two=0.5", by="stratified")
    write(lake, "other", [{**sample(number), "__key__": f"t/{number}"} for number in range(2)], options=options)
    append(lake, "other", "few")
    expire(lake, "mixed", keep_last=1)
    return lake


def shown(value):
    """A value as JSON can hold it and as nothing else looks."""
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "shape": list(value.shape), "values": value.ravel().tolist()}
    return value if isinstance(value, str | int | float | dict | list) else repr(value)


def shown_all(fields):
    """The values of a sample by field."""
    return {name: shown(value) for name, value in fields.items()}


def contents(lake):
    """Per dataset, version and split: key and fields of each sample."""
    found = {}
    for name in lake.datasets():
        for number in lake.catalog.numbers(name):
            dataset = lake.dataset(f"{name}@{number}")
            found[str(dataset)] = {part: [[s.key, shown_all(s.fields)] for s in dataset[part]] for part in dataset.splits}
    return found


if __name__ == "__main__":
    target = HERE / "lake-v1-formats"
    shutil.rmtree(target, ignore_errors=True)
    made = build(target)
    for leftover in (target / ".tmp", target / "writers"):
        shutil.rmtree(leftover, ignore_errors=True)
    (HERE / "lake-v1-formats.json").write_text(json.dumps(contents(made), indent=1, sort_keys=True, default=repr) + "\n")
