"""The training loop: build, resume, and for each batch forward, backward, step, log, validate, save.

One step is the same whatever the number of ranks: the loss is summed over the samples and divided by how many all ranks have together,
so the gradients of a short last batch, of which a rank may even have no sample, are exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any

import torch
from torch.nn import functional as F

from dataplane import Lake
from dataplane.checkpoint import Checkpoints, Progress, Restored
from dataplane.errors import InvalidArgument, StateMismatch
from dataplane.refs import Digest, ref_from_json, ref_to_json
from loaders import Loader
from train.config import TrainConfig, parse_config
from train.data import Data, open_data
from train.evaluate import autocast, score
from train.models import build_model
from train.optimizers import build_optimizer, learning_rate
from train.parts import load_model, load_optimizer, load_random, model_part, optimizer_part, random_part
from train.ranks import Ranks
from train.samples import SampleLog, cut_sample_logs
from train.signals import Stop

__all__ = ["Result", "train"]

_LISTED = 100  # bad samples of a rank in one checkpoint


@dataclass(frozen=True, slots=True)
class Result:
    """Where a run ended. `stopped`: the signal that ended it before its time. `damaged`: newer checkpoints that could not be used.
    `splits`: those of the version that it was trained on. `bad`: how many bad samples its checkpoints tell of."""

    steps: int
    epoch: int
    position: int
    metrics: Mapping[str, Any]
    checkpoint: int
    stopped: Signals | None
    damaged: tuple[str, ...]
    splits: tuple[str, ...]
    bad: int


@dataclass(slots=True)
class _Run:
    """What a run is made of, and how far it is."""

    config: TrainConfig
    ranks: Ranks
    stop: Stop
    checkpoints: Checkpoints
    data: Data
    model: Any
    parallel: Any  # the same model, with gradients averaged over ranks
    optimizer: Any
    scaler: Any
    loader: Loader
    validation: Loader | None
    samples: SampleLog | None = None
    step: int = 0
    checkpoint: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    bad: int = 0  # of all ranks, since the run began
    reported: int = 0  # of this rank, since this process began
    show: Callable[[Mapping[str, Any]], None] = lambda _: None


class _Speed:
    """How fast steps are, from one logged one to the next."""

    def __init__(self, loader: Loader) -> None:
        self.samples = 0.0
        self._loader = loader
        self._clock = time.perf_counter()
        self._waited = 0.0

    def lap(self) -> dict[str, Any]:
        """The time and the rate since the last lap, how much of the time went into waiting for samples, and the loader's totals."""
        now, stats = time.perf_counter(), self._loader.stats()
        seconds, waited = now - self._clock, stats["wait_seconds"] - self._waited
        lap = {"seconds": seconds, "wait_seconds": waited, "samples_per_second": self.samples / seconds, "loader": stats}
        self.samples, self._clock, self._waited = 0.0, now, stats["wait_seconds"]
        return lap


def train(
    lake: Lake, config: TrainConfig, name: str, *, resume: bool, ranks: Ranks, stop: Stop, show: Callable[[Mapping[str, Any]], None]
) -> Result:
    """Train run `name` until its epochs are done or `stop` has a signal. Every rank calls this; `show` gets each logged row on rank 0.

    With `resume` the run goes on behind its newest good checkpoint, with the samples that are left of its epoch, exactly as if it had
    not been interrupted (with the same number of ranks; with another, the samples and gradients are the same, dropout is not).
    """
    checkpoints = Checkpoints(lake, name)
    restored = _newest(checkpoints, ranks) if resume else None
    with ExitStack() as stack:
        run = _build(lake, config, checkpoints, restored, ranks=ranks, stop=stop, stack=stack)
        run.show = show
        if restored:
            _restore(run, restored)
        if config.sample_log:
            run.samples = _open_samples(config.sample_log, name, run)
            stack.callback(run.samples.close)
        stopped = _train(run)
    damaged = restored.damaged if restored else ()
    splits = tuple(run.data.dataset.splits)
    return Result(run.step, run.loader.epoch, run.loader.position, run.metrics, run.checkpoint, stopped, damaged, splits, run.bad)


def _train(run: _Run) -> Signals | None:
    config, ranks, loader = run.config, run.ranks, run.loader
    total = config.epochs * loader.samples
    speed = _Speed(loader)
    while loader.epoch < config.epochs:
        done = loader.epoch * loader.samples + loader.position
        for batch in loader:
            run.step += 1
            passed, samples, *signals = ranks.sum([len(batch.positions), int(batch.valid.sum()), *run.stop.flags()])
            samples = max(1.0, samples)  # it may be that all were skipped
            stopped = run.stop.agreed(*signals)

            rate = learning_rate(config.optimizer, done / total)
            for group in run.optimizer.param_groups:
                group["lr"] = rate
            loss = _loss(run, batch)
            run.scaler.scale(loss * (ranks.world / samples)).backward()  # DDP will divide by the number of ranks
            run.scaler.step(run.optimizer)
            run.scaler.update()
            run.optimizer.zero_grad(set_to_none=True)

            done += int(passed)
            speed.samples += samples
            ended = loader.position == 0
            where = {"step": run.step, "epoch": batch.epoch, "samples": done, "total": total}
            if run.samples:
                keys = [key for key, valid in zip(batch.sample_keys, batch.valid, strict=True) if valid]
                run.samples.write(epoch=batch.epoch, step=run.step, positions=batch.positions[batch.valid].tolist(), keys=keys)
            if run.step % config.log_every == 0:
                mean = ranks.sum([float(loss.detach())])[0] / samples
                run.metrics["train_loss"] = mean
                _log(run, {**where, "loss": mean, "lr": rate, **speed.lap()})
            if run.validation and not stopped and (ended or _due(config.validate_every, run.step)):
                stopped = _validate(run, run.validation, where)
            if ended or stopped or _due(config.checkpoint_every, run.step):
                _save(run)
            if stopped:
                return stopped
    return None


def _loss(run: _Run, batch: Any) -> torch.Tensor:
    """The loss of this rank's samples, summed; of no samples, a 0 that the ranks can still average gradients with."""
    images, labels = run.data.pairs(batch)
    # Batch norm has no deviation of one sample, nor of none: then it goes by its running statistics, and leaves them as they are.
    run.parallel.train(len(labels) > 1)
    with autocast(run.config, run.ranks):
        if not len(labels):
            return run.parallel(torch.zeros(1, *images.shape[1:], device=run.ranks.device)).sum() * 0
        logits = run.parallel(images.to(run.ranks.device, non_blocking=True))
        return F.cross_entropy(logits.float(), labels.to(run.ranks.device, non_blocking=True), reduction="sum")


def _validate(run: _Run, validation: Loader, where: Mapping[str, int]) -> Signals | None:
    """Score the validation split; the signal that came in between, if one did."""
    scored = score(run.model, validation, data=run.data, config=run.config, ranks=run.ranks, stop=run.stop)
    if isinstance(scored, Signals):
        return scored
    metrics = {"val_loss": scored.loss, "val_accuracy": scored.accuracy}
    run.metrics |= metrics
    _log(run, {**where, **metrics})
    return None


def _log(run: _Run, row: dict[str, Any]) -> None:
    run.rows.append(row)
    if run.ranks.first:
        run.show(row)


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def _save(run: _Run) -> None:
    """One checkpoint of all ranks: each writes its own parts, rank 0 also the model and the optimizer, which are equal everywhere."""
    if run.samples:
        run.samples.sync()
    parts = {"random": random_part(run.ranks.device)}
    if run.ranks.first:
        parts |= {"model": model_part(run.model), "optimizer": optimizer_part(run.optimizer)}
    written = {part: ref_to_json(ref) for part, ref in run.checkpoints.write(parts).items()}
    report = run.loader.report(after=run.reported)
    mine = {"parts": written, "bad": report["samples"][-_LISTED:], "met": report["count"] - run.reported, "in_epoch": report["in_epoch"]}
    everyone = run.ranks.gather(mine)  # so no rank's sample log is behind the checkpoint either
    run.reported = report["count"]
    run.bad += sum(each["met"] for each in everyone)
    number = 0
    if run.ranks.first:
        progress = Progress(
            run.step,
            run.loader.epoch,
            run.loader.position,
            run.data.trained,
            run.loader.state_dict(),
            run.config.to_json(),
            {"scaler": run.scaler.state_dict()},
            run.metrics,
            run.rows,
            tuple({"rank": rank, **sample} for rank, each in enumerate(everyone) for sample in each["bad"]),
            run.bad,
        )
        number = run.checkpoints.commit([_refs(each["parts"]) for each in everyone], progress).number
    run.checkpoint = run.ranks.from_first(number)
    run.rows.clear()
    run.loader.check_bad(sum(each["in_epoch"] for each in everyone))


def _refs(written: Mapping[str, dict[str, Any]]) -> dict[str, Digest]:
    refs = {part: ref_from_json(value) for part, value in written.items()}
    return {part: ref for part, ref in refs.items() if isinstance(ref, Digest)}


def _newest(checkpoints: Checkpoints, ranks: Ranks) -> Restored:
    """The newest checkpoint that is good for every rank."""
    checkpoints.check_appendable()
    restored = checkpoints.restore()
    agreed = min(ranks.gather(restored.checkpoint.number))
    return restored if restored.checkpoint.number == agreed else checkpoints.restore(agreed)


def _build(
    lake: Lake, config: TrainConfig, checkpoints: Checkpoints, restored: Restored | None, *, ranks: Ranks, stop: Stop, stack: ExitStack
) -> _Run:
    """Everything as it is before the first step. The loaders are closed by `stack`."""
    data = open_data(lake, config, at=restored.checkpoint.progress.dataset if restored else None)
    if config.precision == "fp16" and ranks.device.type != "cuda":
        raise InvalidArgument('precision = "fp16" needs a CUDA device; on the CPU use "bf16" or "fp32"')
    torch.manual_seed(config.seed)  # every rank begins with the same weights
    model = build_model(config.model, len(data.classes)).to(ranks.device)
    torch.manual_seed(config.seed + 1 + ranks.rank)  # dropout differs between ranks
    validate = config.data.validate_
    return _Run(
        config,
        ranks,
        stop,
        checkpoints,
        data,
        model,
        ranks.wrap(model),
        build_optimizer(config.optimizer, model),
        torch.amp.GradScaler(ranks.device.type, enabled=config.precision == "fp16"),
        stack.enter_context(data.training(config, ranks)),
        stack.enter_context(data.scoring(validate, config, ranks)) if validate else None,
    )


def _restore(run: _Run, restored: Restored) -> None:
    """Put every piece of the run where the checkpoint says it was."""
    progress, shared = restored.checkpoint.progress, restored.ranks[0]
    before = parse_config(progress.config, where=str(restored.checkpoint))
    if before.model != run.config.model or before.optimizer.kind != run.config.optimizer.kind:
        raise StateMismatch(
            f"{restored.checkpoint} is of {before.model!r} with {before.optimizer.kind}, the configuration has {run.config.model!r} with "
            f"{run.config.optimizer.kind}; resume with the same [model] and optimizer.kind, or start another run"
        )
    load_model(run.model, shared["model"])
    load_optimizer(run.optimizer, shared["optimizer"])
    run.scaler.load_state_dict(progress.trainer["scaler"])
    run.loader.load_state_dict(progress.loader)
    if run.ranks.rank < len(restored.ranks):
        load_random(restored.ranks[run.ranks.rank]["random"], run.ranks.device)
    run.step, run.checkpoint, run.metrics = progress.step, restored.checkpoint.number, dict(progress.metrics)
    run.bad = progress.bad_count


def _open_samples(path: str, name: str, run: _Run) -> SampleLog:
    for rank, local in enumerate(run.ranks.gather(run.ranks.local)):
        if local == 0:  # once a node, since the files may lie on a disk of its own; in turn, since they may lie on a shared one
            if rank == run.ranks.rank:
                cut_sample_logs(Path(path), run=name, step=run.step)
            run.ranks.gather(None)
    return SampleLog(Path(path), run=name, rank=run.ranks.rank)
