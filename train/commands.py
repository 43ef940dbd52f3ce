"""The commands train, evaluate and publish."""

from __future__ import annotations

import re
import secrets
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dataplane.catalog import check_name
from dataplane.errors import AlreadyExists, InvalidArgument, MissingExtra, NotFound
from dataplane.lake import Lake
from dataplane.output import AsJson, LakeUrl, command_line, emit, err, next_step, open_lake, out, report_interrupt

__all__ = ["evaluate", "publish", "train"]

Run = Annotated[str, typer.Argument(help="A run: its name, as `dataplane train` printed it.")]
At = Annotated[int | None, typer.Option("--checkpoint", metavar="N", help="The checkpoint to take. Default: the newest good one.")]


def train(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to train, on which data, and how.")],
    *,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            "--run-name",  # torchrun takes --run for an abbreviation of its --run-path, even behind the script's name
            help="The run's name; behind torchrun, write --run-name. Default: made of the file's name and the time.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on behind the newest good checkpoint of --run.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Put over the file: --set optimizer.lr=0.1. Repeatable.")
    ] = None,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on a dataset of the lake, saving checkpoints as it goes.

    Ctrl-C and SIGTERM let the step finish and save a checkpoint; after them, and after any kill, the same command with --run NAME --resume
    goes on exactly where the newest checkpoint stands. On several GPUs or processes: torchrun --nproc-per-node 8 -m train CONFIG.toml
    """
    _need_torch()
    from dataplane.checkpoint.record import without_nan
    from train import loop
    from train.config import load_config
    from train.data import telling_split
    from train.progress import bar
    from train.ranks import join
    from train.signals import Stop

    checked = load_config(config, settings or ())
    opened = open_lake(context, lake)
    with Stop() as stop, join(checked.device) as ranks:
        name = check_name(ranks.from_first(run or _fresh_name(config)), "run")
        _check_start(opened, name, given=run is not None, resume=resume)
        with bar(name, shown=ranks.first) as show:
            result = loop.train(opened, checked, name, resume=resume, ranks=ranks, stop=stop, show=show)
    document = {
        "run": name,
        "steps": result.steps,
        "epoch": result.epoch,
        "position": result.position,
        "metrics": without_nan(result.metrics),
        "checkpoint": result.checkpoint,
        "stopped": result.stopped.name if result.stopped else None,
        "damaged": list(result.damaged),
        "bad": result.bad,
    }

    def human() -> None:
        out.print(f"Run [bold]{name}[/]: {result.steps} steps, at sample {result.position} of epoch {result.epoch}.")
        out.print(f"Its newest checkpoint is {result.checkpoint}.")
        if result.bad:
            what = "skipped" if checked.data.on_error == "skip" else "substituted"
            out.print(f"{result.bad:,} bad samples were {what}; its checkpoints list them.")
        out.print(", ".join(f"{metric} {value:.4f}" for metric, value in result.metrics.items() if value is not None))
        if not result.stopped:
            next_step(context, f"evaluate {name} --split {telling_split(result.splits, checked.data.train)}")

    if ranks.first:
        emit(document, as_json=as_json, human=human)
    if result.stopped:
        if ranks.first:
            again = command_line(context, f"train {config} --run {name} --resume")
            err.print(f"{result.stopped.name}: saved checkpoint {result.checkpoint}; go on with: {again}", markup=False)
        raise typer.Exit(128 + result.stopped)


def evaluate(
    context: typer.Context,
    run: Run,
    *,
    split: Annotated[str, typer.Option("--split", help="The split to score.")] = "test",
    checkpoint: At = None,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Score a checkpoint of a run on a split, and write the result into the run."""
    _need_torch()
    from train.evaluate import evaluate as score
    from train.ranks import join
    from train.signals import Stop

    opened = open_lake(context, lake)
    with Stop() as stop, join("auto") as ranks:
        done = score(opened, run, split=split, number=checkpoint, ranks=ranks, stop=stop)
    if isinstance(done, signal.Signals):
        report_interrupt(f"{done.name}: nothing was written", as_json=as_json)
        raise typer.Exit(128 + done)
    document = {"run": run, "split": split, "samples": done.samples, "metrics": dict(done.metrics), "checkpoint": done.checkpoint}

    def human() -> None:
        scores = ", ".join(f"{metric} {value:.4f}" for metric, value in done.metrics.items() if value is not None)
        out.print(f"Checkpoint {done.checkpoint} of {run} on {done.samples:,} samples of {done.dataset}/{split}: {scores}")
        next_step(context, f"publish {run} MODEL")

    emit(document, as_json=as_json, human=human)


def publish(
    context: typer.Context,
    run: Run,
    model: Annotated[str, typer.Argument(help="The model's name; this becomes its next version.")],
    *,
    checkpoint: At = None,
    lake: LakeUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make a checkpoint of a run the next version of a model that can be served."""
    _need_torch()
    from train.publish import publish as commit

    published = commit(open_lake(context, lake), run, model, number=checkpoint)
    document: dict[str, Any] = {
        "model": published.name,
        "version": published.number,
        "run": published.run,
        "checkpoint": published.checkpoint,
        "classes": list(published.classes),
        "metrics": dict(published.metrics),
    }

    def human() -> None:
        out.print(f"[bold]{published}[/] is checkpoint {published.checkpoint} of {run}, with {len(published.classes)} classes.")
        next_step(context, f"serve {published}")

    emit(document, as_json=as_json, human=human)


def _need_torch() -> None:
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra("training needs PyTorch and safetensors; install them with: pip install 'dataplane[torch]'") from error


def _fresh_name(config: Path) -> str:
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", config.stem).strip("-._") or "run"
    return f"{stem}-{datetime.now(UTC):%y%m%d-%H%M%S}-{secrets.token_hex(2)}"  # a script may start many in a second


def _check_start(lake: Lake, name: str, *, given: bool, resume: bool) -> None:
    from dataplane.checkpoint import Checkpoints

    have = ", ".join(lake.names("runs")) or "none yet"
    if resume and not given:
        raise InvalidArgument(f"--resume needs --run NAME; runs in {lake.url}: {have}")
    begun = Checkpoints(lake, name).latest() is not None
    if resume and not begun:
        raise NotFound(f"{lake.url} has no run {name!r} with a checkpoint; its runs: {have}")
    if begun and not resume:
        raise AlreadyExists(f"run {name!r} has checkpoints; go on with --resume, or choose another --run NAME")
