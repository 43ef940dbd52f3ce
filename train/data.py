"""The samples of a run: which version, which fields, and the loaders over its splits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from dataplane import Lake
from dataplane.catalog import parse_spec
from dataplane.checkpoint import Trained
from dataplane.dataset import Dataset
from dataplane.errors import InvalidArgument, StateMismatch
from loaders import Batch, Loader
from loaders.transforms import Int64, from_dict
from tiering import Hot
from train.config import TrainConfig
from train.ranks import Ranks

__all__ = ["Data", "open_data", "telling_split"]


@dataclass(frozen=True, slots=True)
class Data:
    """A version of a dataset of labelled pictures. `image` and `label` are fields, as a loader's transform names them."""

    dataset: Dataset
    image: str
    label: str

    @property
    def trained(self) -> Trained:
        """The version, as checkpoints name it."""
        version = self.dataset.version
        return Trained(version.name, version.number, version.id)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; a label is a place in it."""
        return self.dataset.schema.classes

    def training(self, config: TrainConfig, ranks: Ranks) -> Loader:
        """Every sample of the training split once an epoch, shuffled; the last batch is short."""
        return self._loader(config.data.train, config.data.transform, config, ranks, shuffle=True)

    def scoring(self, split: str, config: TrainConfig, ranks: Ranks) -> Loader:
        """Every sample of a split once, in stored order."""
        return self._loader(split, config.data.validate_transform, config, ranks, shuffle=False)

    def pairs(self, batch: Batch) -> tuple[Any, Any]:
        """The pictures and the labels of a batch, without places whose samples were skipped."""
        images, labels = batch[self.image], batch[self.label]
        if batch.valid.all():
            return images, labels
        return images[batch.valid], labels[batch.valid]

    def _loader(self, split: str, transform: list[dict[str, object]], config: TrainConfig, ranks: Ranks, *, shuffle: bool) -> Loader:
        if config.batch_size % ranks.world:
            raise InvalidArgument(f"batch_size = {config.batch_size} cannot be shared equally by {ranks.world} ranks; choose a multiple")
        pictures: Any = [from_dict(op) for op in transform]
        return Loader(
            self.dataset[split],
            batch_size=config.batch_size // ranks.world,
            seed=config.seed,
            transform={self.image: pictures, self.label: Int64()},
            hot=Hot(config.hot.directory, limit=config.hot.limit) if config.hot else None,
            shuffle=shuffle,
            tail="short",
            lanes=config.data.lanes if shuffle else None,
            window=config.data.window if shuffle else None,
            rank=ranks.rank,
            world=ranks.world,
            threads=config.data.threads,
            output="torch",
            on_error=config.data.on_error if shuffle or config.data.on_error == "raise" else "skip",
            max_bad=config.data.max_bad,
        )


def open_data(lake: Lake, config: TrainConfig, *, at: Trained | None) -> Data:
    """The dataset that the configuration names, or the version of it that a checkpoint was trained on.

    Raises `StateMismatch` where the configuration names another one, `InvalidArgument` for a dataset without pictures or classes.
    """
    if at is not None:
        _check_same(config.data.dataset, at)
    dataset = lake.dataset(str(at) if at else config.data.dataset)
    if at is not None and dataset.version.id != at.id:
        raise StateMismatch(f"{dataset} in {lake.url} is another commit than the one the run was trained on; was the lake copied?")
    images, labels = dataset.schema.names("image"), dataset.schema.names("class")
    if not images or len(labels) != 1:
        have = ", ".join(f"{field.name} ({field.kind})" for field in dataset.schema.fields)
        raise InvalidArgument(f"{dataset} cannot be trained on: it needs image fields and one class field, and has {have or 'no fields'}")
    return Data(dataset, ";".join(images), labels[0])


def telling_split(splits: Collection[str], trained: str) -> str:
    """The split whose score says most about a model: "test", else "val", else the first it was not trained on, else that one."""
    unseen = [name for name in splits if name != trained]
    return next((name for name in ("test", "val") if name in unseen), next(iter(unseen), trained))


def _check_same(spec: str, at: Trained) -> None:
    name, which = parse_spec(spec)
    if name != at.name or (which is not None and which.isdecimal() and int(which) != at.version):
        raise StateMismatch(f"the configuration names dataset {spec}, the checkpoint was trained on {at}; set data.dataset to it")
