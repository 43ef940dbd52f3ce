"""What a training run is asked to do: one TOML file, checked key by key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dataplane.errors import InvalidArgument
from loaders.policy import MAX_BAD, BadPolicy, OnError
from loaders.transforms import from_dict, to_dict

__all__ = ["CnnConfig", "OptimizerConfig", "ResNetConfig", "TrainConfig", "load_config", "parse_config"]

_SETTING = re.compile(r"([a-z_]+(?:\.[a-z_]+)*)=(.*)\Z", re.DOTALL)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Table):
    """Which samples, and what is done to their pictures. `transform` is for training, `validate_transform` for everything else. `on_error`
    and `max_bad` are the loader's; of a split that is scored, bad samples are skipped, unless they are to raise."""

    dataset: str
    train: str = "train"
    validate_: str | None = Field(None, alias="validate")
    transform: list[dict[str, Any]]
    validate_transform: list[dict[str, Any]]
    threads: int | None = Field(None, ge=0)
    lanes: int | None = Field(None, ge=1)
    window: int | None = Field(None, ge=1)
    on_error: OnError = "raise"
    max_bad: int | float = MAX_BAD

    @field_validator("max_bad")
    @classmethod
    def _in_range(cls, value: int | float) -> int | float:
        return BadPolicy("raise", value).max_bad

    @field_validator("transform", "validate_transform")
    @classmethod
    def _known(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        known = [to_dict(from_dict(description)) for description in value]
        if not any(description["op"] in ("ToFloat", "Normalize") for description in known):
            raise ValueError("a network computes in floats: end with ToFloat or Normalize")
        return known


class HotConfig(_Table):
    """A hot tier to read through."""

    directory: str
    limit: str


class CnnConfig(_Table):
    """A small convolutional network, for pictures of 8 × 8 to 64 × 64 pixels."""

    kind: Literal["cnn"]
    width: int = Field(32, ge=8, multiple_of=8)
    dropout: float = Field(0.0, ge=0, lt=1)


class ResNetConfig(_Table):
    """A residual network of basic blocks; the defaults are ResNet-18. `stem` "small" keeps small pictures at full resolution."""

    kind: Literal["resnet"]
    width: int = Field(64, ge=8, multiple_of=8)
    blocks: list[Annotated[int, Field(ge=1)]] = Field([2, 2, 2, 2], min_length=1, max_length=6)
    norm: Literal["group", "batch"] = "group"
    stem: Literal["large", "small"] = "large"
    dropout: float = Field(0.0, ge=0, lt=1)


ModelConfig = Annotated[CnnConfig | ResNetConfig, Field(discriminator="kind")]


class OptimizerConfig(_Table):
    """How weights follow gradients. `warmup` is the share of the run in which the rate rises to `lr`."""

    kind: Literal["sgd", "adamw"]
    lr: float = Field(gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1)


class TrainConfig(_Table):
    """A whole run. `batch_size` counts the samples of all ranks together. `*_every` count steps; 0 means at the end of epochs only."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    seed: int = Field(0, ge=0, lt=2**63)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    log_every: int = Field(10, ge=1)
    validate_every: int = Field(0, ge=0)
    checkpoint_every: int = Field(0, ge=0)
    sample_log: str | None = None
    data: DataConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    hot: HotConfig | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `parse_config` reads them back."""
        return self.model_dump(mode="json", by_alias=True)


def load_config(path: Path, settings: Sequence[str]) -> TrainConfig:
    """The configuration in a TOML file, with `settings` ("optimizer.lr=0.1") put over it. Raises `InvalidArgument`."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidArgument(f"{path}: no such file; examples of a training configuration are in the project's examples/") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgument(f"{path} cannot be read as TOML: {error}") from error
    for setting in settings:
        _apply(values, setting)
    return parse_config(values, where=str(path))


def parse_config(values: Mapping[str, Any], *, where: str) -> TrainConfig:
    """Check a configuration. Raises `InvalidArgument` that names every key that is wrong and what it may be."""
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        problems = "\n".join(f"  {_problem(details)}" for details in error.errors())
        raise InvalidArgument(f"{where} is not a training configuration:\n{problems}") from error


def _apply(values: dict[str, Any], setting: str) -> None:
    match = _SETTING.match(setting)
    if match is None:
        raise InvalidArgument(f"--set {setting!r} is no KEY=VALUE; write, for example, --set optimizer.lr=0.1")
    *tables, key = match[1].split(".")
    for name in tables:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise InvalidArgument(f"--set {setting!r}: {name} is no table")
    try:
        values[key] = tomllib.loads(f"value = {match[2]}")["value"]
    except tomllib.TOMLDecodeError:  # a bare word is a string
        values[key] = match[2]


def _problem(details: Any) -> str:
    """One line: the key, what is wrong, what is allowed."""
    location = tuple(details["loc"])
    key = ".".join(str(part) for part in location if part not in _KINDS)
    if details["type"] == "extra_forbidden":
        return f"{key}: no such key; allowed here: {', '.join(_names(_table_at(location[:-1])))}"
    if details["type"] == "missing":
        return f"{key}: missing; it is required"
    if details["type"].startswith("union_tag"):
        return f"{key}.kind: must be one of {', '.join(sorted(_KINDS))}"
    if details["type"] == "value_error":
        return f"{key}: {details['ctx']['error']}"
    message = details["msg"]
    return f"{key}: {message[:1].lower()}{message[1:]}, got {details['input']!r}"


_KINDS: Mapping[str, type[_Table]] = {"cnn": CnnConfig, "resnet": ResNetConfig}


def _table_at(location: tuple[Any, ...]) -> type[BaseModel]:
    table: type[BaseModel] = TrainConfig
    for part in location:
        if part in _KINDS:
            table = _KINDS[part]
            continue
        annotation = next(field.annotation for name, field in table.model_fields.items() if (field.alias or name) == part)
        tables = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        table = tables[0] if tables else table
    return table


def _names(table: type[BaseModel]) -> list[str]:
    return sorted(field.alias or name for name, field in table.model_fields.items())
