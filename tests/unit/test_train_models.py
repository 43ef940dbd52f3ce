"""Networks, optimizers and the parts they are saved as."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dataplane.errors import StateMismatch
from train.config import CnnConfig, OptimizerConfig, ResNetConfig
from train.models import build_model
from train.optimizers import build_optimizer, learning_rate
from train.parts import load_model, load_optimizer, load_random, model_part, optimizer_part, random_part

_CPU = torch.device("cpu")
_MODELS = [
    (CnnConfig(kind="cnn", width=8), 8),
    (ResNetConfig(kind="resnet", width=8, blocks=[1, 1], stem="small"), 8),
    (ResNetConfig(kind="resnet", width=16, blocks=[2, 1], norm="batch", stem="large"), 32),
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def built(config: Any, optimizer: str, **keys: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = build_model(config, 5)
    return model, build_optimizer(OptimizerConfig(kind=optimizer, lr=0.1, **keys), model)


def step(model: Any, optimizer: Any, size: int) -> float:
    images, labels = torch.rand(4, 3, size, size), torch.randint(0, 5, (4,))
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


@pytest.mark.parametrize(("config", "size"), _MODELS)
def test_a_model_is_made_of_its_config_and_the_seed(config: Any, size: int) -> None:
    first, _ = built(config, "sgd")
    second, _ = built(config, "sgd")
    images = torch.rand(3, 3, size, size)
    logits = first.eval()(images)
    assert logits.shape == (3, 5)
    assert torch.equal(logits, second.eval()(images))


def test_resnet_defaults_are_resnet_18() -> None:
    with torch.device("meta"):
        model = build_model(ResNetConfig(kind="resnet"), 1000)
    assert sum(p.numel() for p in model.parameters()) == 11_689_512  # torchvision's resnet18


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(("config", "size"), _MODELS)
def test_saved_parts_continue_exactly(config: Any, size: int, optimizer: str) -> None:
    model, rule = built(config, optimizer, weight_decay=0.01)
    torch.manual_seed(1)
    step(model, rule, size)
    saved = model_part(model), optimizer_part(rule), random_part(_CPU)
    expected = [step(model, rule, size) for _ in range(2)]

    fresh, fresh_rule = built(config, optimizer, weight_decay=0.01)
    load_model(fresh, memoryview(saved[0]))
    load_optimizer(fresh_rule, memoryview(saved[1]))
    load_random(memoryview(saved[2]), _CPU)
    assert [step(fresh, fresh_rule, size) for _ in range(2)] == expected
    assert model_part(fresh) == model_part(model)


def test_an_optimizer_without_a_state_is_saved_too() -> None:
    _, rule = built(_MODELS[0][0], "sgd")
    load_optimizer(rule, memoryview(optimizer_part(rule)))
    assert rule.state_dict()["state"] == {}


def test_parts_of_something_else_are_refused() -> None:
    small, _ = built(_MODELS[0][0], "sgd")
    large, _ = built(CnnConfig(kind="cnn", width=16), "sgd")
    with pytest.raises(StateMismatch, match="do not fit the configured model"):
        load_model(large, memoryview(model_part(small)))
    with pytest.raises(StateMismatch, match="not safetensors"):
        load_model(large, memoryview(b"what"))
    deep, rule = built(_MODELS[1][0], "adamw")
    step(deep, rule, 8)
    with pytest.raises(StateMismatch, match="optimizer has"):
        load_optimizer(built(_MODELS[0][0], "adamw")[1], memoryview(optimizer_part(rule)))


def test_weight_decay_spares_vectors() -> None:
    _, rule = built(_MODELS[0][0], "adamw", weight_decay=0.5)
    assert {p.ndim > 1: group["weight_decay"] for group in rule.param_groups for p in group["params"]} == {True: 0.5, False: 0.0}


@given(
    schedule=st.sampled_from(["constant", "cosine"]),
    warmup=st.floats(0, 0.9),
    done=st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2).map(sorted),
)
@settings(deadline=None)
def test_the_rate_rises_to_its_peak_and_never_again(schedule: Any, warmup: float, done: list[float]) -> None:
    config = OptimizerConfig(kind="sgd", lr=0.2, schedule=schedule, warmup=warmup)
    before, after = (learning_rate(config, share) for share in done)
    assert 0 <= before <= 0.2
    assert 0 <= after <= 0.2
    if done[1] <= warmup:
        assert before <= after
    if done[0] >= warmup:
        assert before >= after
    assert learning_rate(config, warmup) == pytest.approx(0.2)
