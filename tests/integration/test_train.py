"""Training is exact: whatever stops a run, wherever, it goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from dataplane import Lake
from dataplane.checkpoint import Checkpoints, open_model
from dataplane.cli import build
from dataplane.errors import AlreadyExists, InvalidArgument, NotFound, StateMismatch
from dataplane.upkeep import verify_lake
from tests.integration.digits import digits_lake
from train import loop
from train.config import TrainConfig, parse_config
from train.ranks import Ranks
from train.signals import Stop

_TRAINED = 129  # of the samples; in batches of 16, the last step has one sample, so one of two ranks gets none
_STEPS = 9  # an epoch
_ROOT = Path(__file__).resolve().parents[2]
_ALONE = Ranks(0, 1, 0, torch.device("cpu"))
_TRANSFORM = [{"op": "RandomResizedCrop", "size": 8}, {"op": "HorizontalFlip"}, {"op": "ToFloat"}]
_CNN = {"kind": "cnn", "width": 8, "dropout": 0.2}
_RESNET = {"kind": "resnet", "width": 8, "blocks": [1, 1], "norm": "batch", "stem": "small"}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = digits_lake(tmp_path_factory.mktemp("training"), range(_TRAINED), split="train=1")
    assert len(lake.dataset("digits")["train"].shards) > 2
    return lake


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def configured(**keys: Any) -> dict[str, Any]:
    """A run of two epochs that logs every step."""
    data = {
        "dataset": "digits",
        "validate": "train",
        "transform": _TRANSFORM,
        "validate_transform": [{"op": "CenterCrop", "size": 8}, {"op": "ToFloat"}],
    }
    values = {
        "epochs": 2,
        "batch_size": 16,
        "device": "cpu",
        "log_every": 1,
        "checkpoint_every": 4,
        "data": {**data, "threads": 1},
        "model": _CNN,
        "optimizer": {"kind": "adamw", "lr": 0.01},
    }
    return values | keys


def train(lake: Lake, name: str, values: Mapping[str, Any], *, resume: bool = False, stop_at: int = 0) -> loop.Result:
    """Train in this process; `stop_at` is a step behind which the run is stopped as by a signal."""
    stop = Stop()

    def show(row: Mapping[str, Any]) -> None:
        if "loss" in row and row["step"] == stop_at - 1:
            stop.signal = signal.SIGTERM

    return loop.train(lake, checked(values), name, resume=resume, ranks=_ALONE, stop=stop, show=show)


def checked(values: Mapping[str, Any]) -> TrainConfig:
    return parse_config(values, where="the test")


def losses(lake: Lake, name: str) -> list[tuple[int, int, float]]:
    """(epoch, step, loss) of every step of a run, as its checkpoints tell it."""
    rows = [row for checkpoint in Checkpoints(lake, name).history() for row in checkpoint.progress.rows]
    return [(row["epoch"], row["step"], row["loss"]) for row in rows if "loss" in row]


def delivered(path: Path) -> dict[int, Counter[str]]:
    """How often each sample of each epoch is in the sample logs."""
    found: dict[int, Counter[str]] = {}
    for file in path.parent.glob(f"{path.name}.rank*"):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            found.setdefault(entry["epoch"], Counter()).update(entry["keys"])
    return found


def assert_each_once(lake: Lake, path: Path, *, epochs: int) -> None:
    keys = Counter(sample.key for sample in lake.dataset("digits")["train"])
    assert len(keys) == _TRAINED
    assert delivered(path) == dict.fromkeys(range(epochs), keys)


# ---------------------------------------------------------------------- in one process


@pytest.mark.parametrize("model", [_CNN, _RESNET], ids=["cnn", "resnet"])
def test_a_run_stopped_after_any_step_goes_on_exactly(lake: Lake, tmp_path: Path, model: dict[str, Any]) -> None:
    kind = model["kind"]
    values = configured(model=model)
    whole = train(lake, f"whole-{kind}", values)
    assert (whole.steps, whole.epoch, whole.position, whole.stopped) == (2 * _STEPS, 2, 0, None)
    expected = losses(lake, f"whole-{kind}")
    assert [step for _, step, _ in expected] == list(range(1, 2 * _STEPS + 1))
    last = Checkpoints(lake, f"whole-{kind}").restore()
    for step in range(2, 2 * _STEPS, 3):
        name, log = f"stopped-{kind}-{step}", tmp_path / f"samples-{step}"
        first = train(lake, name, values | {"sample_log": str(log)}, stop_at=step)
        assert (first.steps, first.stopped) == (step, signal.SIGTERM)
        assert (first.epoch, first.position) == (step // _STEPS, 16 * (step % _STEPS))
        second = train(lake, name, values | {"sample_log": str(log)}, resume=True)
        assert second.metrics == whole.metrics
        assert losses(lake, name) == expected
        assert bytes(Checkpoints(lake, name).restore().ranks[0]["model"]) == bytes(last.ranks[0]["model"])
        assert_each_once(lake, log, epochs=2)


def test_steps_behind_the_last_checkpoint_are_done_again(lake: Lake, tmp_path: Path) -> None:
    class Died(Exception):
        pass

    def die(row: Mapping[str, Any]) -> None:
        if row["step"] == 7:
            raise Died

    log = tmp_path / "samples"
    values = configured(sample_log=str(log))
    with pytest.raises(Died):
        loop.train(lake, checked(values), "died", resume=False, ranks=_ALONE, stop=Stop(), show=die)
    assert sum(delivered(log)[0].values()) == 7 * 16
    train(lake, "died", values, resume=True)
    train(lake, "undisturbed", configured())
    assert losses(lake, "died") == losses(lake, "undisturbed")
    assert_each_once(lake, log, epochs=2)


def test_another_batch_size_goes_on_with_the_samples_that_are_left(lake: Lake, tmp_path: Path) -> None:
    log = tmp_path / "samples"
    values = configured(epochs=1, sample_log=str(log))
    train(lake, "sizes", values, stop_at=3)
    result = train(lake, "sizes", values | {"batch_size": 23}, resume=True)
    assert result.steps == 3 + -(-(_TRAINED - 48) // 23)
    assert_each_once(lake, log, epochs=1)


def test_more_epochs_go_on_from_a_finished_run(lake: Lake) -> None:
    train(lake, "longer", configured(epochs=1))
    again = train(lake, "longer", configured(epochs=1), resume=True)
    assert (again.steps, again.checkpoint) == (_STEPS, Checkpoints(lake, "longer").restore().checkpoint.number)
    assert train(lake, "longer", configured(epochs=2), resume=True).steps == 2 * _STEPS


def test_a_damaged_newest_checkpoint_is_passed_over(lake: Lake) -> None:
    values = configured(epochs=1)
    train(lake, "damaged", values)
    expected = losses(lake, "damaged")
    newest = Checkpoints(lake, "damaged").history()[-1]
    path = Path(lake.url, newest.ranks[0]["model"].path)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    result = train(lake, "damaged", values, resume=True)
    assert "is damaged" in result.damaged[0]
    assert losses(lake, "damaged")[len(expected) :] == expected[8:]
    assert verify_lake(lake).ok  # the same weights were written again, and mended the object


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": {**_CNN, "width": 16}}, "resume with the same"),
        ({"optimizer": {"kind": "sgd", "lr": 0.1}}, "resume with the same"),
        ({"data": {**configured()["data"], "dataset": "digits@2"}}, "was trained on digits@1"),
        ({"data": {**configured()["data"], "dataset": "others"}}, "was trained on digits@1"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(lake: Lake, change: dict[str, Any], expected: str) -> None:
    if Checkpoints(lake, "mine").latest() is None:
        train(lake, "mine", configured(), stop_at=2)
    with pytest.raises(StateMismatch, match=expected):
        train(lake, "mine", configured(**change), resume=True)


@pytest.mark.parametrize(
    ("change", "kind", "expected"),
    [
        ({"precision": "fp16"}, InvalidArgument, "needs a CUDA device"),
        ({"data": {**configured()["data"], "train": "fit"}}, NotFound, "has no split 'fit'; it has train"),
        ({"data": {**configured()["data"], "dataset": "others"}}, NotFound, "has no dataset 'others'"),
    ],
)
def test_what_cannot_be_trained_is_said_before_the_first_step(
    lake: Lake, change: dict[str, Any], kind: type[Exception], expected: str
) -> None:
    with pytest.raises(kind, match=expected):
        train(lake, "never", configured(**change))
    assert "never" not in lake.names("runs")


def test_bfloat16_trains(lake: Lake) -> None:
    result = train(lake, "half", configured(epochs=1, precision="bf16", optimizer={"kind": "sgd", "lr": 0.05}))
    assert result.metrics["train_loss"] < 3
    assert 0 <= result.metrics["val_accuracy"] <= 1


# ---------------------------------------------------------------------- the commands


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(build(), arguments)


def test_commands_train_evaluate_publish(lake: Lake, tmp_path: Path) -> None:
    config = str(as_toml(tmp_path, configured(epochs=1)))
    trained = invoke("--lake", lake.url, "train", config, "--run", "told", "--set", "optimizer.lr=0.02")
    assert trained.exit_code == 0, trained.exception
    assert f"Run told: {_STEPS} steps, at sample 0 of epoch 1." in trained.stdout
    assert f"Next: dataplane --lake {lake.url} evaluate told --split train" in trained.stdout  # the only one there is
    newest = Checkpoints(lake, "told").restore().checkpoint
    assert newest.progress.config["optimizer"]["lr"] == 0.02

    evaluated = invoke("evaluate", "told", "--split", "train", "--lake", lake.url)
    assert f"Checkpoint {newest.number} of told on {_TRAINED} samples of digits@1/train: accuracy 0." in evaluated.stdout
    [evaluation] = Checkpoints(lake, "told").evaluations()
    assert (evaluation.checkpoint, evaluation.split, evaluation.samples) == (newest.number, "train", _TRAINED)
    assert evaluation.metrics["loss"] == pytest.approx(newest.progress.metrics["val_loss"])

    assert f"Next: dataplane --lake {lake.url} publish told MODEL" in evaluated.stdout
    published = invoke("publish", "told", "digits", "--lake", lake.url)
    assert f"Next: dataplane --lake {lake.url} serve digits@1" in published.stdout
    assert f"digits@1 is checkpoint {newest.number} of told, with 10 classes." in published.stdout
    model = open_model(lake, "digits")
    assert (model.run, model.checkpoint, model.weights) == ("told", newest.number, newest.ranks[0]["model"])
    assert model.metrics["evaluations"]["train"] == evaluation.metrics

    again = invoke("train", config, "--run", "told", "--lake", lake.url)
    assert isinstance(again.exception, AlreadyExists)
    assert "go on with --resume" in str(again.exception)


def test_the_end_of_a_run_that_diverged_is_told_again(lake: Lake, tmp_path: Path) -> None:
    config = str(as_toml(tmp_path, configured(epochs=1)))
    arguments = ("--lake", lake.url, "train", config, "--run", "diverged", "--set", "optimizer.lr=1e30")
    assert "val_loss nan" in invoke(*arguments).stdout
    again = invoke(*arguments, "--resume")
    assert again.exit_code == 0, again.exception
    assert "val_accuracy 0." in again.stdout


@pytest.mark.parametrize(
    ("arguments", "kind", "expected"),
    [
        (["--resume"], InvalidArgument, "--resume needs --run NAME; runs in"),
        (["--resume", "--run", "unknown"], NotFound, "has no run 'unknown' with a checkpoint; its runs:"),
        (["--set", "epochs=0"], InvalidArgument, "epochs: input should be greater than or equal to 1"),
        (["--run", "a/b"], InvalidArgument, "'a/b' cannot name a run"),
    ],
)
def test_wrong_usage_of_train_is_explained(lake: Lake, tmp_path: Path, arguments: list[str], kind: type[Exception], expected: str) -> None:
    result = invoke("train", str(as_toml(tmp_path, configured())), "--lake", lake.url, *arguments)
    assert isinstance(result.exception, kind)
    assert expected in str(result.exception)


def test_evaluating_what_is_not_there_is_explained(lake: Lake) -> None:
    assert "run unknown has no checkpoints" in str(invoke("evaluate", "unknown", "--lake", lake.url).exception)
    assert "run unknown has no checkpoints" in str(invoke("publish", "unknown", "digits", "--lake", lake.url).exception)


# ---------------------------------------------------------------------- in processes of their own

_DIES = """
import json, os, signal, sys
from dataplane import Lake
from train import loop
from train.config import parse_config
from train.ranks import join
from train.signals import Stop

url, name, values, resume, step = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4] == "resume", int(sys.argv[5])

def show(row):
    if row["step"] == step and "loss" in row:
        os.kill(os.getpid(), signal.SIGKILL)

with Stop() as stop, join("cpu") as ranks:
    loop.train(Lake(url), parse_config(values, where="the test"), name, resume=resume, ranks=ranks, stop=stop, show=show)
"""


@pytest.fixture
def dying(tmp_path: Path) -> Path:
    """A program that trains, and kills itself with SIGKILL at a step."""
    path = tmp_path / "dying.py"
    path.write_text(_DIES)
    return path


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)}


def as_toml(folder: Path, values: Mapping[str, Any]) -> Path:
    """A configuration as a TOML file, of which every table that JSON has is an inline one."""

    def inline(value: Any) -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{key} = {inline(item)}" for key, item in value.items()) + "}"
        return "[" + ", ".join(map(inline, value)) + "]" if isinstance(value, list) else json.dumps(value)

    path = folder / "run.toml"
    path.write_text("".join(f"{key} = {inline(value)}\n" for key, value in values.items()))
    return path


def run_train(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "train", *arguments], env=environment(), capture_output=True, text=True, check=False)


def test_two_ranks_killed_and_resumed_by_one(lake: Lake, tmp_path: Path, dying: Path) -> None:
    log = tmp_path / "samples"
    values = configured(model={**_CNN, "dropout": 0.0})
    train(lake, "alone", values)
    logged = values | {"sample_log": str(log)}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    killed = subprocess.run(
        [sys.executable, *torchrun, str(dying), lake.url, "shared", json.dumps(logged), "fresh", "11"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode != 0
    at = Checkpoints(lake, "shared").restore().checkpoint
    assert (at.progress.step, at.progress.epoch, len(at.ranks)) == (_STEPS, 1, 2), killed.stderr
    assert sum(delivered(log)[1].values()) > 0

    resumed = run_train(str(as_toml(tmp_path, logged)), "--lake", lake.url, "--run-name", "shared", "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    document = json.loads(resumed.stdout)
    assert (document["run"], document["steps"], document["epoch"], document["position"]) == ("shared", 2 * _STEPS, 2, 0)
    assert_each_once(lake, log, epochs=2)
    assert verify_lake(lake).ok
    for (epoch, step, loss), (_, _, expected) in zip(losses(lake, "shared"), losses(lake, "alone"), strict=True):
        assert loss == pytest.approx(expected, rel=1e-3), (epoch, step)


def test_killed_in_the_middle_of_an_epoch(lake: Lake, tmp_path: Path, dying: Path) -> None:
    log = tmp_path / "samples"
    values = configured(sample_log=str(log))
    killed = subprocess.run(
        [sys.executable, str(dying), lake.url, "kill", json.dumps(values), "fresh", "7"], env=environment(), check=False
    )
    assert killed.returncode == -signal.SIGKILL
    config = str(as_toml(tmp_path, values))

    resumed = run_train(config, "--lake", lake.url, "--run", "kill", "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    train(lake, "kill-free", configured())
    assert losses(lake, "kill") == losses(lake, "kill-free")
    assert json.loads(resumed.stdout)["metrics"] == Checkpoints(lake, "kill-free").history()[-1].progress.metrics
    assert_each_once(lake, log, epochs=2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint(lake: Lake, tmp_path: Path, number: signal.Signals) -> None:
    name = number.name
    config = str(as_toml(tmp_path, configured(epochs=10_000, checkpoint_every=0)))
    command = [sys.executable, "-m", "train", config, "--lake", lake.url, "--run", name, "--json"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("step 1, epoch 0: loss ")
        process.send_signal(number)
        printed, told = process.communicate()
    document = json.loads(printed)
    assert process.returncode == 128 + number
    assert document["stopped"] == name
    assert f"{name}: saved checkpoint 1; go on with: dataplane --lake {lake.url} train {config} --run {name} --resume" in told
    at = Checkpoints(lake, name).restore().checkpoint
    assert (at.number, at.progress.step) == (document["checkpoint"], document["steps"])


# ---------------------------------------------------------------------- kill -9 while checkpoints are saved

_SAVES = """
import sys
from dataplane import Lake
from dataplane.checkpoint import Checkpoints, Progress, Trained
from dataplane.errors import NotFound

checkpoints = Checkpoints(Lake(sys.argv[1]), "killed")
try:
    step = checkpoints.restore().checkpoint.progress.step
except NotFound:
    step = 0
while True:
    step += 1
    parts = {name: step.to_bytes(8, "little") * size for name, size in (("model", 50_000), ("optimizer", 100_000))}
    progress = Progress(step, 0, step, Trained("digits", 1, "id"), {}, {}, {}, {})
    print(checkpoints.save(parts, progress).number, step, flush=True)
"""

_ROUNDS = 25 if os.environ.get("DATAPLANE_SOAK") else 4


@pytest.mark.soak
def test_kill_9_while_checkpoints_are_saved(tmp_path: Path) -> None:
    lake = Lake.init(str(tmp_path / "lake"))
    dice = random.Random(20)
    acknowledged: list[tuple[int, int]] = []
    for _ in range(_ROUNDS):
        with subprocess.Popen([sys.executable, "-c", _SAVES, lake.url], env=environment(), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(dice.randrange(1, 5))]
            time.sleep(dice.uniform(0, 0.03))
            process.kill()
            lines += process.stdout.readlines()
        acknowledged += [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]  # type: ignore[misc]
        assert verify_lake(lake).ok
        restored = Checkpoints(lake, "killed").restore()
        assert restored.damaged == ()
        assert restored.checkpoint.progress.step in (acknowledged[-1][1], acknowledged[-1][1] + 1)
        assert bytes(restored.ranks[0]["model"]) == restored.checkpoint.progress.step.to_bytes(8, "little") * 50_000
    assert len(acknowledged) >= _ROUNDS, "nothing had been acknowledged: the test shows nothing"
    history = {checkpoint.number: checkpoint.progress.step for checkpoint in Checkpoints(lake, "killed").history()}
    assert all(history[number] == step for number, step in acknowledged)
