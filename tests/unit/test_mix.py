"""MixUp and CutMix: what they do to images and labels, how their parameters are spread, and that a resume repeats them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from dataplane.errors import InvalidArgument
from loaders.batch import Batch
from loaders.kernels.draws import draw_beta
from loaders.mix import CutMix, Mix, MixUp

CLASSES = 7


def batch_of(size: int = 5, position: int = 100, dtype=np.float32, shape=(3, 12, 20), epoch: int = 2) -> Batch:
    rng = np.random.default_rng(size)
    images = rng.normal(size=(size, *shape)).astype(dtype) if np.dtype(dtype).kind == "f" else rng.integers(0, 256, (size, *shape), dtype)
    fields = {"jpg": images, "cls": rng.integers(0, CLASSES, size), "txt": np.arange(size)}
    keys, zeros = tuple(map(str, range(size))), np.zeros(size, np.int16)
    return Batch(fields, epoch, np.arange(position, position + size), keys, np.ones(size, bool), zeros, zeros.astype(np.int64))


def mixed(mix: Mix, batch: Batch) -> Batch:
    """Mixed, with `batch` left as it was."""
    return mix(replace(batch, fields={name: field.copy() for name, field in batch.fields.items()}))


def soft(labels: np.ndarray, kept: float) -> np.ndarray:
    ones = np.eye(CLASSES)[labels]
    return kept * ones + (1 - kept) * np.roll(ones, 1, axis=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_mixup(dtype):
    for position in range(20):
        batch = batch_of(position=position, dtype=dtype)
        mix = Mix((MixUp(0.4),), CLASSES, seed=3)
        kept, box = mix.plan(2, position, (12, 20))
        got = mixed(mix, batch)
        before = batch["jpg"].astype(float)
        assert box is None
        assert got["jpg"].dtype == dtype
        assert np.allclose(got["jpg"], kept * before + (1 - kept) * np.roll(before, 1, axis=0), atol=1e-5 if dtype == np.float32 else 1e-2)
        assert np.allclose(got["cls"], soft(batch["cls"], kept), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_cutmix(dtype, layout):
    shape = (3, 12, 20) if layout == "CHW" else (12, 20, 3)
    for position in range(20):
        batch = batch_of(position=position, dtype=dtype, shape=shape)
        mix = Mix((CutMix(),), CLASSES, seed=3, layout=layout)
        kept, (y, x, height, width) = mix.plan(2, position, (12, 20))
        got = mixed(mix, batch)
        axes = (0, 2, 3, 1) if layout == "CHW" else (0, 1, 2, 3)
        before, after = batch["jpg"].transpose(axes), got["jpg"].transpose(axes)
        inside = np.zeros((12, 20), bool)
        inside[y : y + height, x : x + width] = True
        assert np.array_equal(after[:, ~inside], before[:, ~inside])
        assert np.array_equal(after[:, inside], np.roll(before, 1, axis=0)[:, inside])
        assert kept == pytest.approx(1 - inside.mean())
        assert np.allclose(got["cls"], soft(batch["cls"], kept), atol=1e-6)


def test_other_fields_stay_and_labels_sum_to_one():
    batch = batch_of()
    got = mixed(Mix((MixUp(), CutMix()), CLASSES), batch)
    assert list(got) == ["jpg", "cls", "txt"]
    assert np.array_equal(got["txt"], batch["txt"])
    assert got["cls"].dtype == np.float32
    assert np.allclose(got["cls"].sum(axis=1), 1)
    assert got.sample_keys == batch.sample_keys
    assert got.epoch == batch.epoch


@pytest.mark.parametrize("choice", [MixUp(0.5), CutMix()])
def test_only_valid_samples_meet(choice):
    batch = batch_of(6)
    valid = np.array([False, True, True, False, True, False])
    mix = Mix((choice,), CLASSES)
    whole = replace(batch, valid=valid)
    alone = replace(batch, fields={name: field[valid] for name, field in batch.fields.items()}, valid=np.ones(3, bool))
    got, expected = mixed(mix, whole), mixed(mix, alone)
    assert np.array_equal(got["jpg"][valid], expected["jpg"])
    assert np.array_equal(got["jpg"][~valid], batch["jpg"][~valid])
    assert np.array_equal(got["cls"][valid], expected["cls"])
    assert not got["cls"][~valid].any()
    assert not np.array_equal(got["jpg"], batch["jpg"])


def test_images_are_changed_in_place():
    batch = batch_of()
    assert Mix((CutMix(),), CLASSES)(batch)["jpg"] is batch["jpg"]


def test_tensors_share_their_memory():
    arrays = batch_of()
    tensors = replace(arrays, fields={name: torch.from_numpy(field.copy()) for name, field in arrays.fields.items()})
    for choice in (MixUp(), CutMix()):
        mix = Mix((choice,), CLASSES)
        got, expected = mix(replace(tensors, fields={n: f.clone() for n, f in tensors.fields.items()})), mixed(mix, arrays)
        assert isinstance(got["cls"], torch.Tensor)
        assert np.array_equal(got["jpg"].numpy(), expected["jpg"])
        assert np.array_equal(got["cls"].numpy(), expected["cls"])


def test_tensors_of_a_device_are_refused():
    batch = batch_of()
    away = replace(batch, fields={**batch.fields, "jpg": torch.empty(5, 3, 12, 20, device="meta")})
    with pytest.raises(InvalidArgument, match="before they go to a device"):
        Mix((MixUp(),), CLASSES)(away)


def test_batches_of_one_and_of_none():
    for choice in (MixUp(), CutMix()):
        one = batch_of(1)
        got = mixed(Mix((choice,), CLASSES), one)
        assert np.allclose(got["jpg"], one["jpg"], atol=1e-6), "its only partner is itself"
        assert np.allclose(got["cls"], np.eye(CLASSES)[one["cls"]])
        assert mixed(Mix((choice,), CLASSES), batch_of(0))["cls"].shape == (0, CLASSES)


def test_a_plan_is_a_function_of_seed_epoch_and_first_position():
    mix = Mix((MixUp(), CutMix()), CLASSES, seed=1)
    plans = [mix.plan(epoch, position, (32, 32)) for epoch in range(3) for position in range(0, 64, 8)]
    assert plans == [mix.plan(epoch, position, (32, 32)) for epoch in range(3) for position in range(0, 64, 8)]
    assert len(set(plans)) == len(plans)
    assert replace(mix, seed=2).plan(0, 0, (32, 32)) != plans[0]
    assert mixed(mix, batch_of(4, position=8))["jpg"].tobytes() == mixed(mix, batch_of(4, position=8))["jpg"].tobytes()


def test_choices_have_equal_chances():
    mix = Mix((MixUp(), CutMix(), CutMix()), CLASSES)
    boxes = [mix.plan(0, position, (32, 32)).box is not None for position in range(3000)]
    assert abs(np.mean(boxes) - 2 / 3) < 0.04


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.9, 1.0, 1.5, 8.0, 300.0])
def test_weights_are_of_the_beta_distribution(alpha):
    drawn = [draw_beta(stream, alpha, 3) for stream in range(4000)]
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 1e-4


def test_weights_are_committed():
    assert [round(draw_beta(stream, 0.4, 3), 12) for stream in (0, 1, 2**63 - 1)] == [0.280949292058, 0.020144487634, 0.991066367969]


def test_extreme_weights_are_numbers():
    drawn = np.array([draw_beta(stream, alpha, 0) for stream in range(300) for alpha in (1e-9, 1e-3, 1e9)])
    assert np.isfinite(drawn).all()
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_boxes_of_cutmix_are_spread():
    mix = Mix((CutMix(),), CLASSES)
    boxes = [mix.plan(0, position, (40, 60)).box for position in range(2000)]
    assert all(0 <= b.y <= b.y + b.height <= 40 and 0 <= b.x <= b.x + b.width <= 60 for b in boxes)
    middle_y, middle_x = (np.mean([b.y + b.height / 2 for b in boxes]), np.mean([b.x + b.width / 2 for b in boxes]))
    assert abs(middle_y - 20) < 1.5
    assert abs(middle_x - 30) < 2


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: MixUp(0), "alpha"),
        (lambda: CutMix(float("inf")), "alpha"),
        (lambda: MixUp("0.2"), "alpha"),
        (lambda: Mix((), 10), "choices"),
        (lambda: Mix(("mixup",), 10), "choices"),
        (lambda: Mix((MixUp(),), 0), "num_classes"),
        (lambda: Mix((MixUp(),), 10.0), "num_classes"),
        (lambda: Mix((MixUp(),), 10, layout="NCHW"), "layout"),
        (lambda: Mix((MixUp(),), 2)(batch_of()), "num_classes=2"),
        (lambda: Mix((MixUp(),), CLASSES, image="png")(batch_of()), "no field 'png'"),
        (lambda: Mix((MixUp(),), CLASSES)(batch_of(dtype=np.uint8)), "ToFloat"),
        (lambda: Mix((MixUp(),), CLASSES, label="jpg")(batch_of()), "one int each"),
        (lambda: Mix((CutMix(),), CLASSES, image="txt")(batch_of()), "four axes"),
        (lambda: Mix((CutMix(),), CLASSES)(Mix((CutMix(),), CLASSES)(batch_of())), "only once"),
    ],
)
def test_what_cannot_be_mixed(make, named):
    with pytest.raises(InvalidArgument, match=named):
        make()
