"""Configurations: what is wrong is named, with what is allowed."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from dataplane.errors import InvalidArgument
from train.config import CnnConfig, load_config, parse_config
from train.data import telling_split

_GOOD: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 32,
    "data": {
        "dataset": "digits",
        "transform": [{"op": "RandomResizedCrop", "size": 8, "scale": [0.5, 1.0]}, {"op": "ToFloat"}],
        "validate_transform": [{"op": "Resize", "size": [8, 8]}, {"op": "ToFloat"}],
    },
    "model": {"kind": "cnn"},
    "optimizer": {"kind": "sgd", "lr": 0.1},
}


def changed(**keys: Any) -> dict[str, Any]:
    """The good configuration with `table__key=value` put in."""
    values = deepcopy(_GOOD)
    for path, value in keys.items():
        *tables, key = path.split("__")
        table = values
        for name in tables:
            table = table[name]
        table[key] = value
    return values


@pytest.mark.parametrize(
    ("splits", "trained", "expected"),
    [
        (("train", "val", "test"), "train", "test"),
        (("train", "val"), "train", "val"),
        (("train", "other", "val"), "train", "val"),
        (("a", "b", "c"), "a", "b"),
        (("a", "test"), "test", "a"),
        (("train",), "train", "train"),
    ],
)
def test_the_split_to_score_next_is_there(splits: tuple[str, ...], trained: str, expected: str) -> None:
    assert telling_split(splits, trained) == expected


def test_json_reads_back_equal() -> None:
    config = parse_config(changed(data__validate="val", hot={"directory": "/hot", "limit": "1 GiB"}), where="a test")
    assert parse_config(config.to_json(), where="a test") == config
    assert config.data.validate_ == "val"


def test_examples_are_configurations() -> None:
    examples = sorted(Path(__file__, "../../../examples").resolve().glob("*.toml"))
    assert len(examples) >= 2
    for example in examples:
        load_config(example, ())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (changed(epoch=3), "epoch: no such key; allowed here: batch_size, checkpoint_every, data, device, epochs,"),
        (changed(model__widht=3), "model.widht: no such key; allowed here: dropout, kind, width"),
        (
            changed(data__valid="val"),
            "data.valid: no such key; allowed here: dataset, lanes, max_bad, on_error, threads, train, transform,",
        ),
        (changed(data__on_error="ignore"), "data.on_error: input should be 'raise', 'skip' or 'substitute', got 'ignore'"),
        (changed(data__max_bad=1.5), "data.max_bad: max_bad is 1.5; it must be at least 0, and at most 1.0"),
        (changed(hot={"directory": "/hot"}), "hot.limit: missing"),
        (changed(data__transform=[{"op": "CenterCrop", "size": 8}]), "data.transform: a network computes in floats: end with ToFloat"),
        (changed(epochs=0), "epochs: input should be greater than or equal to 1, got 0"),
        (changed(batch_size="many"), "batch_size: input should be a valid integer"),
        (changed(model={"kind": "vit"}), "model.kind: must be one of cnn, resnet"),
        (changed(model={}), "model.kind: must be one of cnn, resnet"),
        (changed(model__width=12), "model.width: input should be a multiple of 8, got 12"),
        (changed(optimizer__kind="lion"), "optimizer.kind: input should be 'sgd' or 'adamw', got 'lion'"),
        (changed(data__transform=[{"op": "Blur"}]), "data.transform: unknown transform 'Blur'; known are Bytes, CenterCrop,"),
        (changed(data__transform=[{"op": "Resize", "sides": 3}]), "data.transform: Resize cannot be made of"),
    ],
)
def test_a_wrong_key_is_named_with_what_is_allowed(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_config(values, where="run.toml")
    assert str(caught.value).startswith("run.toml is not a training configuration:\n")
    assert expected in str(caught.value)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_config(changed(epochs=0, batch_size=1, seed=-1), where="run.toml")
    assert len(str(caught.value).splitlines()) == 4


_TOML = """
epochs = 2
batch_size = 32
[data]
dataset = "digits"
transform = [{op = "Resize", size = [8, 8]}, {op = "ToFloat"}]
validate_transform = [{op = "Resize", size = [8, 8]}, {op = "ToFloat"}]
[model]
kind = "cnn"
[optimizer]
kind = "sgd"
lr = 0.1
"""


def test_settings_go_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(_TOML)
    config = load_config(
        path, ["epochs=5", "model.width=64", "data.dataset=digits@3", "hot.directory=/a=b", 'hot.limit="1 GB"', "optimizer.lr=1e-3"]
    )
    assert (config.epochs, config.model, config.data.dataset) == (5, CnnConfig(kind="cnn", width=64), "digits@3")
    assert config.hot is not None
    assert (config.hot.directory, config.hot.limit, config.optimizer.lr) == ("/a=b", "1 GB", 1e-3)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("epochs", "is no KEY=VALUE"), ("epochs.x=1", "epochs is no table"), ("nothing=1", "nothing: no such key"), ("=1", "is no KEY=VALUE")],
)
def test_a_wrong_setting_is_an_error(tmp_path: Path, setting: str, expected: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(_TOML)
    with pytest.raises(InvalidArgument, match=expected):
        load_config(path, [setting])


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no such file"):
        load_config(tmp_path / "none.toml", ())
    (tmp_path / "bad.toml").write_text("epochs = \n")
    with pytest.raises(InvalidArgument, match=r"cannot be read as TOML: .*line 1"):
        load_config(tmp_path / "bad.toml", ())
