"""Training that goes on without bad samples: exact all the same, and its checkpoints tell of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dataplane import Lake
from dataplane.checkpoint import Checkpoints
from dataplane.errors import BadSamples, CorruptObject
from dataplane.refs import Digest
from loaders import Int64, Loader
from tests.integration.digits import digits_lake
from tests.integration.test_train import as_toml, configured, delivered, environment, invoke, losses, train

_TRAINED = 65
_STEPS = 5  # an epoch
_BAD = (3, 10, 40)  # positions in the first epoch: rank 1 of 2 is due one of them


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Digits, of which the samples at some positions of the first epoch have a flipped bit."""
    lake = digits_lake(tmp_path_factory.mktemp("bad"), range(_TRAINED), split="train=1")
    split = lake.dataset("digits")["train"]
    for key in [
        key for batch in Loader(split, batch_size=1, transform={"cls": Int64()}) for key in batch.sample_keys if batch.positions in _BAD
    ]:
        shard, row = split._locate(split.index_of(key))
        ref = split.shards[shard].row.ref
        assert isinstance(ref, Digest)
        place = split.shards[shard].index.placed(row)["png"]
        data = bytearray(lake.store.get(ref.path).buffer())
        data[place.offset + place.size // 2] ^= 1
        lake.store.delete(ref.path)
        lake.store.put(ref.path, bytes(data))
    return lake


def lenient(on_error: str, max_bad: float = 0.1, **keys: Any) -> dict[str, Any]:
    values = configured(**keys)
    return values | {"data": values["data"] | {"on_error": on_error, "max_bad": max_bad}}


def told(lake: Lake, name: str) -> list[dict[str, Any]]:
    """The bad samples of a run, as its checkpoints tell them, in the order of delivery."""
    found = [dict(bad) for checkpoint in Checkpoints(lake, name).history() for bad in checkpoint.progress.bad]
    return sorted(found, key=lambda bad: (bad["epoch"], bad["position"]))


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_a_run_stopped_after_any_step_goes_on_exactly_and_tells_each_bad_sample_once(lake: Lake, tmp_path: Path, on_error: str) -> None:
    values = lenient(on_error)
    log = tmp_path / "samples"
    whole = train(lake, f"whole-{on_error}", values | {"sample_log": str(log)})
    bad = told(lake, f"whole-{on_error}")
    assert (whole.steps, whole.bad, len(bad)) == (2 * _STEPS, 6, 6)
    assert [sample["position"] for sample in bad if sample["epoch"] == 0] == list(_BAD)
    assert len({sample["key"] for sample in bad}) == 3
    assert all((sample["substitute"] is None) == (on_error == "skip") for sample in bad)
    keys = delivered(log)[0]
    assert not keys.keys() & {sample["key"] for sample in bad}
    assert keys.total() == _TRAINED - (3 if on_error == "skip" else 0)
    for step in range(1, 2 * _STEPS, 2):
        name = f"stopped-{on_error}-{step}"
        train(lake, name, values, stop_at=step)
        assert train(lake, name, values, resume=True).bad == 6
        assert losses(lake, name) == losses(lake, f"whole-{on_error}")
        assert told(lake, name) == bad
        assert Checkpoints(lake, name).restore().checkpoint.progress.bad_count == 6


@pytest.mark.parametrize("on_error", ["skip", "substitute"])
def test_ranks_tell_together_what_one_tells_alone(lake: Lake, tmp_path: Path, on_error: str) -> None:
    values = lenient(on_error, model={"kind": "cnn", "width": 8, "dropout": 0.0})
    train(lake, f"alone-{on_error}", values)
    document = torchrun(lake, f"shared-{on_error}", as_toml(tmp_path, values))
    assert document["bad"] == 6
    shared, alone = told(lake, f"shared-{on_error}"), told(lake, f"alone-{on_error}")
    assert [sample.pop("rank") for sample in shared if sample["epoch"] == 0] == [position % 2 for position in _BAD]
    assert [sample | {"rank": 0} for sample in shared] == alone
    for (_, step, loss), (_, _, expected) in zip(losses(lake, f"shared-{on_error}"), losses(lake, f"alone-{on_error}"), strict=True):
        assert loss == pytest.approx(expected, rel=1e-3), step


def test_a_budget_is_that_of_all_ranks(lake: Lake, tmp_path: Path) -> None:
    config = as_toml(tmp_path, lenient("substitute", 2))
    with pytest.raises(AssertionError, match=r"bad-samples.*3 bad samples in this epoch, and max_bad allows 2 of 65"):
        torchrun(lake, "beyond", config)
    with pytest.raises(BadSamples, match="3 bad samples"):
        train(lake, "beyond-alone", lenient("substitute", 2))


def torchrun(lake: Lake, name: str, config: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "train", str(config)]
    done = subprocess.run(
        [*command, "--lake", lake.url, "--run-name", name, "--json"], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_split_is_scored_without_its_bad_samples(lake: Lake, tmp_path: Path) -> None:
    config = as_toml(tmp_path, lenient("substitute", epochs=1))
    trained = invoke("--lake", lake.url, "train", str(config), "--run", "scored")
    assert "3 bad samples were substituted; its checkpoints list them." in trained.stdout, trained.exception
    assert f"on {_TRAINED - 3} samples of" in invoke("--lake", lake.url, "evaluate", "scored", "--split", "train").stdout


def test_by_default_a_bad_sample_ends_a_run(lake: Lake) -> None:
    with pytest.raises(CorruptObject, match="fails its checksum"):
        train(lake, "strict", configured())
