"""A lake with three datasets that differ in everything, for tests of mixtures: photographs, a filter's view of others, and a third."""

import io
import json

import numpy as np
from PIL import Image

from dataplane import Lake
from dataplane.formats.index import ImageInfo
from dataplane.schema import Field, Schema
from dataplane.testing.samples import Made, write_dataset
from loaders import HorizontalFlip, Int64, Loader, Mixture, Normalize, RandomResizedCrop
from loaders.tokens import Packed
from tests.pictures import SCHEMA, picture

TRANSFORM = {"jpg;png": [RandomResizedCrop(12), HorizontalFlip(), Normalize.imagenet()], "cls": Int64(), "len": Int64()}
WEIGHTS = {"photos": 3, "drawings": 2, "text": 1}
PHOTOS, TEXTS = (7, 11, 9), (6, 5)
BAD = "pictures/00009"


def photos(start, counts):
    """Shards of pictures, the first of which has the number `start`."""
    starts = start + np.cumsum([0, *counts])
    return [("train", [picture(n) for n in range(a, a + count)]) for a, count in zip(starts, counts, strict=False)]


def text(number):
    """A sample without a picture."""
    return Made(f"text/{number:05d}", {"len": str(number).encode()})


def texts(start, counts):
    starts = start + np.cumsum([0, *counts])
    return [("train", [text(n) for n in range(a, a + count)]) for a, count in zip(starts, counts, strict=False)]


def drawing(number):
    rng = np.random.default_rng(number)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (30, 40, 3)).astype(np.uint8)).save(out, "PNG")
    return Made(f"drawing/{number:05d}", {"png": out.getvalue(), "cls": b"1"}, {"png": ImageInfo(40, 30)}, "keep" if number % 3 else "drop")


def make_lake(url, *, bad=True):
    """`photos`, one of whose samples cannot be decoded; `drawings`, a view of `all`; and `text`."""
    from dataplane.versions.where import where  # here and below: ranks only read, and there are many of them

    lake = Lake.init(url)
    shards = photos(0, PHOTOS)
    if bad:
        made = next(made for _, samples in shards for made in samples if made.key == BAD)
        name = next(iter(made.images))
        made.fields[name] = made.fields[name][:200]
    write_dataset(lake, "photos", shards, schema=SCHEMA)
    schema = Schema((Field("cls", "class"), Field("png", "image")), ("drop", "keep"))
    write_dataset(lake, "all", [("train", [drawing(n) for n in range(a, a + 12)]) for a in (0, 12, 24)], schema=schema)
    where(lake, "all", "label = 'keep'", to="drawings")
    write_dataset(lake, "text", texts(0, TEXTS), schema=Schema((Field("len", "bytes"),)))
    return lake


def mixture_of(lake, *, weights=WEIGHTS, samples=None, **others):
    """The three, or `others` (name=component) instead of them."""
    components = others or {name: lake.dataset(name)["train"] for name in ("photos", "drawings", "text")}
    return Mixture(components, weights, samples)


def loader_of(data, **options):
    fields = {"len"} if isinstance(data, Mixture) and "words" in data.components else set()
    transform = {name: ops for name, ops in TRANSFORM.items() if name not in fields}
    arguments = {"batch_size": 4, "transform": transform, "seed": 5, "lanes": 4, "window": 6, "threads": 2, "tail": "short"}
    return Loader(data, **arguments | {"on_error": "substitute", "max_bad": 1.0} | options)


def delivered(batches, names):
    """What was delivered by (epoch, position): component, its epoch, key, pixels, label and length; nothing twice."""
    found = {}
    for batch in batches:
        for i, position in enumerate(batch.positions.tolist()):
            if batch.valid[i]:
                assert (batch.epoch, position) not in found, f"{position} of epoch {batch.epoch} was delivered twice"
                values = batch["jpg;png"][i].tobytes(), int(batch["cls"][i]), int(batch["len"][i])
                where = names[batch.components[i]], int(batch.component_epochs[i])
                found[batch.epoch, position] = (*where, batch.sample_keys[i], *values)
    return found


def state_of(loaders):
    """The one state of all ranks, as it comes back from a file."""
    states = {json.dumps(loader.state_dict()) for loader in loaders}
    assert len(states) == 1, "ranks differ"
    return json.loads(states.pop())


def add_words(lake, folder):
    """`words`: documents of tokens, which no two have in common, in shards of some kilobytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from dataplane.ingest import IngestOptions, ingest

    rng = np.random.default_rng(7)
    lengths = rng.integers(1, 60, 40)
    ends = np.cumsum(lengths)
    documents = [list(range(end - length, end)) for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]
    folder.mkdir()
    table = pa.table({"id": [f"doc-{i}" for i in range(40)], "tokens": pa.array(documents, pa.list_(pa.int32()))})
    for n in range(4):
        pq.write_table(table.slice(10 * n, 10), folder / f"{n}.parquet")
    ingest(lake, folder, "words", options=IngestOptions(key="id", split="train=1"))


def everything(lake):
    """Three datasets: one has a bad sample, one is a filter's view, and one is packed into sequences."""
    words = Packed(lake.dataset("words")["train"], length=64)
    parts = {"photos": lake.dataset("photos")["train"], "drawings": lake.dataset("drawings")["train"], "words": words}
    return Mixture(parts, {"photos": 3, "drawings": 2, "words": 1.5}, samples=90)
