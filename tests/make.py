"""Small datasets made through the Python interface, for tests of what lies above it."""

import functools
import io
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from blake3 import blake3
from PIL import Image

from dataplane.catalog import Change, Part, SplitCount
from dataplane.formats import tar
from dataplane.formats.index import ImageInfo
from dataplane.journal import Finished
from dataplane.manifest import METADATA, write_metadata, write_shards
from dataplane.schema import Field, Schema
from dataplane.shards import ShardRow

ORIENTATION = 0x0112
CLASSES = ("one", "three", "two")
SCHEMA = Schema((Field("cls", "class"), Field("jpg", "image")), CLASSES)


@functools.cache
def sample(number):
    """Key, fields and image headers of sample `number`: a small picture of noise, always the same."""
    info = ImageInfo(12 + number % 5, 16 + number % 3, 1 + number % 8)
    pixels = np.random.default_rng(number).integers(0, 256, (info.height, info.width, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = info.orientation
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=60, exif=exif)
    return f"{CLASSES[number % 3]}/item {number:04d}", {"cls": b"%d" % (number % 3), "jpg": sink.getvalue()}, {"jpg": info}


def finished(lake, split, numbers):
    """A shard of samples in the lake, as a writer's journal has it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "shard.tar")
        with tar.Writer(path) as writer:
            for number in numbers:
                writer.add(*sample(number))
            ref, index = writer.finish()
        lake.objects.put_file(path, suffix=tar.SUFFIX, ref=ref)
    sizes = [sum(map(len, sample(number)[1].values())) for number in numbers]
    row = ShardRow(split, "tar", ref, lake.objects.put(index, suffix=".idx"), len(sizes), sum(sizes), median_bytes={"cls": 1, "jpg": 139})
    return Finished(row, metadata(numbers, sizes))


def part(lake, shards):
    """A manifest part of finished shards."""
    table = pa.concat_tables(
        shard.metadata.add_column(0, METADATA.field("shard"), pa.array([i] * len(shard.metadata), pa.int32()))
        for i, shard in enumerate(shards)
    )
    rows = [shard.shard for shard in shards]
    return Part(
        lake.objects.put(write_shards(rows), suffix=".parquet"),
        lake.objects.put(write_metadata(table), suffix=".parquet"),
        sum(row.live for row in rows),
    )


def change(parts, rows, *, operation="make", schema=SCHEMA, bad=None):
    """A commit of `parts`, which hold `rows`."""
    splits = {}
    for split in sorted({row.split for row in rows}):
        of = [row for row in rows if row.split == split]
        splits[split] = SplitCount(sum(r.live for r in of), sum(r.live > 0 for r in of), sum(r.live_bytes for r in of))
    return Change(operation, {"source": "tests"}, schema, tuple(parts), splits, bad or {})


def dataset(lake, name="numbers", **splits):
    """Commit a version of a dataset: `train=(4, 3)` is a split of two shards; without splits, two small ones."""
    at = 0
    shards = []
    for split, counts in (splits or {"test": (2,), "train": (4, 3)}).items():
        for count in counts:
            shards.append(finished(lake, split, range(at, at + count)))
            at += count
    made = part(lake, shards)
    return lake.catalog.commit(name, lambda _: change([made], [shard.shard for shard in shards]))


def metadata(numbers, sizes):
    """The metadata of samples, as a writer's journal has it."""
    made = [sample(number) for number in numbers]
    columns = {
        "row": list(range(len(made))),
        "key": [key for key, _, _ in made],
        "label": [CLASSES[number % 3] for number in numbers],
        "width": [images["jpg"].width for *_, images in made],
        "height": [images["jpg"].height for *_, images in made],
        "bytes": sizes,
        "source": [f"{key}.jpg" for key, _, _ in made],
        "source_etag": [f"etag-{number}" for number in numbers],
        "source_blake3": [blake3(fields["jpg"]).digest() for _, fields, _ in made],
    }
    return pa.table(columns, schema=pa.schema([field for field in METADATA if field.name != "shard"]))
