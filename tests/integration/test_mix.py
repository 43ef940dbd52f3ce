"""Mixed batches of a real loader: a resumed run sees what the uninterrupted one saw, arrays and tensors alike."""

import numpy as np
import pytest
import torch

from dataplane import Lake
from loaders import CutMix, Int64, Loader, Mix, MixUp, Normalize, RandAugment, RandomErasing, RandomResizedCrop, ToLayout
from tests.pictures import CLASSES, make_dataset

TRANSFORM = {"jpg;png": [RandomResizedCrop(24), RandAugment(), Normalize.imagenet(), RandomErasing(value="random")], "cls": Int64()}


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    lake = Lake.init(str(tmp_path_factory.mktemp("lake")))
    return make_dataset(lake, "pictures", [7, 11, 5])["train"]


def loader_of(split, **options):
    arguments = {"batch_size": 4, "transform": TRANSFORM, "seed": 5, "lanes": 4, "window": 6, "threads": 2} | options
    return Loader(split, **arguments)


def seen(batch):
    return batch.sample_keys, np.asarray(batch["jpg;png"]).tobytes(), np.asarray(batch["cls"]).tobytes()


def test_a_resumed_run_mixes_as_the_whole_one(train):
    mix = Mix((MixUp(0.4), CutMix()), len(CLASSES), image="jpg;png", seed=5)
    whole = [seen(batch) for batch in map(mix, loader_of(train))]
    assert len(whole) == 5
    for stop in range(1, 5):
        first = loader_of(train)
        batches = iter(first)
        begun = [seen(mix(next(batches))) for _ in range(stop)]
        second = loader_of(train, threads=0)
        second.load_state_dict(first.state_dict())
        assert begun + [seen(batch) for batch in map(mix, second)] == whole
        first.close()


def test_tensors_and_channels_last(train):
    mix = Mix((MixUp(0.4), CutMix()), len(CLASSES), image="jpg;png", seed=5)
    last = Mix(mix.choices, mix.num_classes, image=mix.image, seed=5, layout="HWC")
    transform = TRANSFORM | {"jpg;png": [*TRANSFORM["jpg;png"], ToLayout("HWC")]}
    for planar, tensors in zip(map(mix, loader_of(train)), map(last, loader_of(train, transform=transform, output="torch")), strict=True):
        assert isinstance(tensors["jpg;png"], torch.Tensor)
        assert isinstance(tensors["cls"], torch.Tensor)
        assert np.array_equal(tensors["jpg;png"].permute(0, 3, 1, 2).numpy(), planar["jpg;png"])
        assert np.array_equal(tensors["cls"].numpy(), planar["cls"])
        logits = torch.zeros(4, len(CLASSES))
        assert torch.nn.functional.cross_entropy(logits, tensors["cls"]).item() == pytest.approx(np.log(len(CLASSES)))
