"""Small datasets without an ingest: for examples, and for tests of what lies above the storage layer."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from blake3 import blake3
from PIL import Image

from dataplane.catalog import Change
from dataplane.dataset import Dataset
from dataplane.formats import tar
from dataplane.formats.index import ImageInfo
from dataplane.lake import Lake
from dataplane.manifest import METADATA
from dataplane.parts import split_counts, store_part
from dataplane.schema import Field, Schema
from dataplane.shards import ShardRow

__all__ = ["Made", "change_to", "sample_lake", "write_dataset"]


@dataclass(frozen=True, slots=True)
class Made:
    """A sample to be written: its key, the bytes of its fields, the headers of those that are images, and its label."""

    key: str
    fields: Mapping[str, bytes]
    images: Mapping[str, ImageInfo] = field(default_factory=dict)
    label: str | None = None


def write_dataset(lake: Lake, name: str, shards: Sequence[tuple[str, Sequence[Made]]], *, schema: Schema) -> Dataset:
    """Commit a version of `name` whose shards are these (split, samples), in this order."""
    change = change_to(lake, shards, schema=schema)
    return lake.dataset(str(lake.catalog.commit(name, lambda _: change)))


def change_to(lake: Lake, shards: Sequence[tuple[str, Sequence[Made]]], *, schema: Schema) -> Change:
    """What `write_dataset` commits, with its objects in the lake already."""
    rows = [_write_shard(lake, split, samples) for split, samples in shards]
    tables = [_metadata(number, samples) for number, (_, samples) in enumerate(shards)]
    part = store_part(lake.objects, rows, pa.concat_tables(tables))
    return Change("write", {}, schema, (part[0],), split_counts([part]))


def sample_lake(url: str) -> Lake:
    """A new lake with `pictures`: JPEGs of coloured gradients in three classes, 48 in the split "train" and 12 in "test"."""
    lake = Lake.init(url)
    colours = ("blue", "green", "red")
    made = [_gradient(number, colours[number % 3], 2 - number % 3) for number in range(60)]
    schema = Schema((Field("cls", "class"), Field("jpg", "image")), colours)
    write_dataset(lake, "pictures", [("train", made[:24]), ("train", made[24:48]), ("test", made[48:])], schema=schema)
    return lake


def _gradient(number: int, colour: str, channel: int) -> Made:
    rng = np.random.default_rng(number)
    height, width = (int(side) for side in rng.integers(40, 80, 2))
    pixels = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
    pixels[:, :, channel] = np.linspace(120, 255, width, dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    fields = {"jpg": out.getvalue(), "cls": str(2 - channel).encode()}
    return Made(f"{colour}/{number:03d}", fields, {"jpg": ImageInfo(width, height)}, colour)


def _write_shard(lake: Lake, split: str, samples: Sequence[Made]) -> ShardRow:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shard.tar")
        with tar.Writer(path) as writer:
            for sample in samples:
                writer.add(sample.key, sample.fields, sample.images)
            ref, index = writer.finish()
        lake.objects.put_file(path, suffix=tar.SUFFIX, ref=ref)
    size = sum(len(data) for sample in samples for data in sample.fields.values())
    return ShardRow(split, "tar", ref, lake.objects.put(index, suffix=".idx"), len(samples), size)


def _metadata(number: int, samples: Sequence[Made]) -> pa.Table:
    images = [next(iter(sample.images.values()), None) for sample in samples]
    values = {
        "shard": [number] * len(samples),
        "row": list(range(len(samples))),
        "key": [sample.key for sample in samples],
        "label": [sample.label for sample in samples],
        "width": [image and image.width for image in images],
        "height": [image and image.height for image in images],
        "bytes": [sum(map(len, sample.fields.values())) for sample in samples],
        "source": [sample.key for sample in samples],
        "source_etag": [""] * len(samples),
        "source_blake3": [blake3(b"".join(data for _, data in sorted(sample.fields.items()))).digest() for sample in samples],
    }
    return pa.table(values, schema=METADATA)
