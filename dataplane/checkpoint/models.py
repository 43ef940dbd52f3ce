"""Models: named, versioned artefacts in the lake, published from a checkpoint. `NAME@3` is version 3, `NAME` the newest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from dataplane.catalog import parse_spec
from dataplane.checkpoint.record import Trained, without_nan
from dataplane.errors import CorruptObject, NotFound
from dataplane.lake import Lake
from dataplane.log import Entry
from dataplane.refs import Digest, ref_from_json, ref_to_json

__all__ = ["Model", "open_model", "publish"]


@dataclass(frozen=True, slots=True)
class Model:
    """A published model: all that is needed to serve it, and where it comes from.

    `network`: the object with the graph of operations, without weights; `weights`: the object with its tensors, as safetensors, by the
    names the graph uses. `transform`: the descriptions of what is done to a picture. `classes[i]` is the name of output i.
    """

    name: str
    number: int
    created: datetime
    network: Digest
    weights: Digest
    transform: Sequence[Mapping[str, Any]]
    classes: Sequence[str]
    run: str
    checkpoint: int
    dataset: Trained
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


def publish(
    lake: Lake,
    name: str,
    *,
    network: Digest,
    weights: Digest,
    transform: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    run: str,
    checkpoint: int,
    dataset: Trained,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> Model:
    """Commit the next version of model `name`. Both objects must be in the lake."""
    body = {
        "type": "model",
        "network": ref_to_json(network),
        "weights": ref_to_json(weights),
        "transform": list(transform),
        "classes": list(classes),
        "run": run,
        "checkpoint": checkpoint,
        "dataset": asdict(dataset),
        "config": dict(config),
        "metrics": dict(metrics),
    }
    lake.objects.rely_on([network, weights])
    entry = lake.log("models", name).append(lambda _: without_nan(body))
    if entry is None:
        raise AssertionError("a commit with a body returns its entry")
    return _model(name, entry)


def open_model(lake: Lake, spec: str) -> Model:
    """The model that `NAME[@NUMBER]` names. Raises `NotFound`, saying what there is."""
    name, which = parse_spec(spec)
    log = lake.log("models", name)
    newest = log.newest()
    if not newest:
        raise NotFound(f"{lake.url} has no model {name!r}; it has: {', '.join(lake.names('models')) or 'none yet'}")
    if which is not None and not (which.isdecimal() and 1 <= int(which) <= newest):
        raise NotFound(f"{name} has no version {which}; it has 1 to {newest}")
    return _model(name, log.read(newest if which is None else int(which)))


def _model(name: str, entry: Entry) -> Model:
    body = dict(entry.body)
    network, weights = ref_from_json(body["network"]), ref_from_json(body["weights"])
    if not isinstance(network, Digest) or not isinstance(weights, Digest):
        raise CorruptObject(f"{name}@{entry.number} names objects outside the lake")
    plain = {key: body[key] for key in ("transform", "classes", "run", "checkpoint", "config", "metrics")}
    return Model(name, entry.number, entry.created, network, weights, dataset=Trained(**body["dataset"]), **plain)
