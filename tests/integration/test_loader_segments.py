"""Batches of JPEGs that ingest has indexed are those of the files as they were."""

import numpy as np
import pytest
from PIL import ExifTags, Image

from dataplane import Lake
from dataplane.ingest import IngestOptions, ingest
from loaders import CenterCrop, HorizontalFlip, Int64, Loader, Normalize, RandomResizedCrop, Resize
from tests.images import SAMPLINGS, encoded, jpeg, picture

TRANSFORMS = [
    [RandomResizedCrop(48), HorizontalFlip(), Normalize.imagenet()],
    [RandomResizedCrop(48, antialias=False)],
    [Resize(64), CenterCrop(48)],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """JPEGs of all samplings and orientations, a progressive one, and a PNG under the same field's alternatives."""
    made = tmp_path_factory.mktemp("pictures")
    for n in range(24):
        pixels = picture(150 + 7 * n, 220 - 5 * n, n)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 1 + n % 8
        target = made / f"{n % 3}" / f"{n}.jpg"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(jpeg(pixels, SAMPLINGS[n // 2 % 6]) if n % 2 else encoded(pixels, "JPEG", exif=exif, progressive=n % 4 == 0))
    (made / "0" / "plain.png").write_bytes(encoded(picture(90, 120)))
    return made


@pytest.fixture(scope="module")
def splits(folder, tmp_path_factory):
    """The folder, with its JPEGs as they are, and indexed."""
    made = {}
    for how in ("keep", "index"):
        lake = Lake.init(str(tmp_path_factory.mktemp(how)))
        ingest(lake, folder, "pictures", options=IngestOptions(jpeg=how, label_from="folder"))
        made[how] = lake.dataset("pictures")["train"]
    return made


def samples(split, ops):
    """Every sample of an epoch by its key."""
    loader = Loader(split, batch_size=4, transform={"jpg;png": ops, "cls": Int64()}, seed=7, threads=2, tail="short")
    return {key: (pixels.copy(), label) for batch in loader for key, pixels, label in zip(batch.sample_keys, *batch.values(), strict=True)}


def test_ingest_has_indexed_the_jpegs(splits):
    for how, count in (("keep", 0), ("index", 24)):
        indexes = [(shard.index, row) for shard in splits[how].shards for row in range(len(shard))]
        placed = [index.place("jpg", row) for index, row in indexes]
        assert sum(place is not None and len(place.image.segments) > 0 for place in placed) == count


@pytest.mark.parametrize("ops", TRANSFORMS)
def test_an_epoch_is_the_same(splits, ops):
    kept, indexed = samples(splits["keep"], ops), samples(splits["index"], ops)
    assert kept.keys() == indexed.keys()
    assert len(kept) == 25
    for key, (pixels, label) in kept.items():
        assert np.array_equal(indexed[key][0], pixels), key
        assert indexed[key][1] == label
    assert len({pixels.tobytes() for pixels, _ in kept.values()}) == 25
